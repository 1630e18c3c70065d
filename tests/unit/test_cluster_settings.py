"""cluster.yaml and resources.yaml: what is read, and what is refused with which words."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from xstilts.cluster import environment, site
from xstilts.cluster.settings import Cluster, Partition, Resources, read_cluster
from xstilts.errors import InputError
from xstilts.session import Session

GPU = {"max_runtime": 600, "max_mem_mb": 64000, "max_threads": 8, "max_gpu": 2}
CPU = {"max_runtime": 60, "max_mem_mb": 16000, "max_threads": 4}


@pytest.fixture
def shipped(repository: Path) -> Path:
    return repository / "workflow" / "profiles" / "slurm" / "cluster.yaml"


def test_the_file_of_the_tests_own_cluster_is_read(repository: Path) -> None:
    """A stage that it lacks is told here in milliseconds, not after an hour on SLURM."""
    assert read_cluster(repository / "tests" / "cluster" / "small" / "cluster.yaml").kinds


@pytest.fixture
def write(tmp_path: Path, shipped: Path) -> Any:
    """A cluster file beside the shipped table."""

    def written(**content: Any) -> Path:
        table = shipped.with_name("resources.yaml").read_text(encoding="utf-8")
        (tmp_path / "resources.yaml").write_text(table, encoding="utf-8")
        base = {
            "gpus": {"a100": {"memory_gb": 80}},
            "partitions": {"gpu": GPU | {"available_gpu_models": ["a100"]}, "cpu": CPU},
        }
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump(base | content), encoding="utf-8")
        return path

    return written


def test_the_shipped_file_is_read(shipped: Path) -> None:
    cluster = read_cluster(shipped)
    assert cluster.account is None
    assert cluster.kinds == ["a100"]
    assert cluster.partitions["gpu"].offers(4, "a100")
    assert not cluster.partitions["gpu"].offers(5, "a100")
    assert not cluster.partitions["cpu"].offers(1, None)
    assert cluster.partitions["cpu"].offers(0, None)


def test_the_plugin_reads_the_shipped_file_and_knows_the_same_keys(shipped: Path) -> None:
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm.partitions")
    known = {field.name for field in dataclasses.fields(plugin.PartitionLimits)}
    assert set(Partition.model_fields) == known
    read = {partition.name: partition.limits for partition in plugin.read_partition_file(shipped)}
    for name, partition in read_cluster(shipped).partitions.items():
        assert read[name].max_runtime == partition.max_runtime
        assert read[name].max_mem_mb == partition.max_mem_mb
        assert read[name].max_gpu == partition.max_gpu


def test_the_row_is_the_first_that_is_large_enough(shipped: Path) -> None:
    table = read_cluster(shipped).resources
    assert table.row("finetune", 50_000_000) == table.finetune[50_000_000]
    assert table.row("finetune", 50_000_001) == table.finetune[300_000_000]
    assert table.row("finetune", 558_840_832) == table.finetune[700_000_000]
    assert table.row("score", 1) == table.row("score", 10**12)
    with pytest.raises(InputError, match=r"finetune: no row .* 9,000M .* found 10,000M"):
        table.row("finetune", 10**10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"partition": {}}, "unknown key. Did you mean 'partitions'?"),
        ({"partitions": {}}, "partitions: mapping should have at least 1 item"),
        ({"partitions": {"p": {**CPU, "max_time": 3}}}, "p.max_time: unknown key. Did you mean"),
        ({"partitions": {"p": {"max_gpu": 1}}}, "partitions.p.max_runtime: the key is missing"),
        ({"partitions": {"p": {**CPU, "max_mem_mb": 64}}}, "is in MB, and this looks like GB"),
        ({"partitions": {"p": {**CPU, "max_runtime": "48h"}}}, "minutes, without a unit"),
        ({"partitions": {"p": {**CPU, "max_runtime": 999_999}}}, "this looks like seconds"),
        ({"gpus": {"a100": {"memory_gb": 81920}}}, "gpus.a100.memory_gb: is in GB, and this loo"),
        ({"gpu": "a10"}, "gpu: unknown kind of GPU 'a10'. Did you mean 'a100'?"),
        ({"gpus": {}}, "available_gpu_models: unknown kind of GPU 'a100'"),
        ({"gpus": {}, "partitions": {"g": GPU}}, "has GPUs of a kind that is not named"),
        (
            {"gpus": {"a100": {"memory_gb": 80}, "v100": {"memory_gb": 32}}},
            "gpus.v100: no partition offers this kind of GPU",
        ),
        (
            {"partitions": {"p": {**CPU, "available_gpu_models": ["a100"]}}},
            "available_gpu_models without max_gpu",
        ),
        ({"resources": {"finetune": {"700": {}}}}, "expected a number of parameters such as 300M"),
    ],
)
def test_what_is_wrong_is_named(write: Any, content: dict[str, Any], message: str) -> None:
    path = write(**content)
    with pytest.raises(InputError) as caught:
        read_cluster(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_key_that_stands_twice_is_refused(write: Any) -> None:
    path = write()
    path.write_text(path.read_text() + "gpu: a100\ngpu: null\n")
    with pytest.raises(InputError, match="the key 'gpu' stands there twice"):
        read_cluster(path)


def test_a_missing_table_is_named(write: Any) -> None:
    path = write()
    path.with_name("resources.yaml").unlink()
    with pytest.raises(InputError, match=r"resources\.yaml: the file does not exist"):
        read_cluster(path)


def test_a_stage_of_the_table_may_stand_in_the_file_of_the_cluster(write: Any) -> None:
    own = {"score": {"mem_mb": 2000, "runtime": 5}}
    table = read_cluster(write(resources=own)).resources
    assert table.row("score", 1).runtime == 5
    assert table.row("aggregate", 1).runtime == 120


def test_the_table_has_a_row_for_every_stage_of_the_command_line() -> None:
    from xstilts.cli import STAGES

    assert set(Resources.model_fields) == set(STAGES)


def test_a_cluster_without_gpus(write: Any) -> None:
    cluster: Cluster = read_cluster(write(gpus={}, partitions={"cpu": CPU}))
    assert cluster.kinds == []


def test_the_shipped_examples_of_a_stage_command_are_read(write: Any, shipped: Path) -> None:
    """They stand there in comments."""
    found = re.findall(r"^#   (stage_command:.*(?:\n#     .*)*)", shipped.read_text(), re.MULTILINE)
    examples = [yaml.safe_load(text.replace("#", "")) for text in found]
    assert len(examples) == 2
    for example in examples:
        found_command = read_cluster(write(**example)).stage_command
        assert found_command is not None
        assert found_command.endswith("xstilts")
    assert read_cluster(shipped).stage_command is None


def test_a_job_learns_the_stage_command_from_the_file_of_the_cluster(
    write: Any, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session.of_file(shipped.parents[3] / "config.yaml", Path())
    monkeypatch.setenv(site.CLUSTER, str(write(stage_command="/shared/bin/xstilts").resolve()))
    monkeypatch.setenv(environment.VARIABLE, "")
    settings = SimpleNamespace(default_resources={})
    site.Site.of_workflow(
        SimpleNamespace(resource_settings=settings, is_main_process=False), session
    )
    assert 'command /shared/bin/xstilts "$@"' in environment.shell_prefix()
