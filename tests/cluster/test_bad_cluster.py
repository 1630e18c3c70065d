"""What is wrong with a cluster's file, or with this machine, is said before a job is submitted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import HERE, Driver, Study, jobs

from cluster import Cluster

pytestmark = pytest.mark.cluster

Change = Callable[[dict[str, Any]], None]


def settings(change: Change, folder: Path) -> Path:
    """The cluster's file with a change, and the table beside it."""
    content = yaml.safe_load((HERE / "small" / "cluster.yaml").read_text(encoding="utf-8"))
    change(content)
    (folder / "cluster.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    rows = (HERE / "small" / "resources.yaml").read_text(encoding="utf-8")
    (folder / "resources.yaml").write_text(rows, encoding="utf-8")
    return folder / "cluster.yaml"


@pytest.fixture
def refused(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs the study; what it says before anything is submitted."""
    study = Study.of(HERE / "faults.yaml", tmp_path / "study")

    def run(file: Path | None = None, **variables: str) -> str:
        study.cluster = file or study.cluster
        driver: Driver = study.on_slurm(environment=variables)
        assert driver.ends(120) == 1
        assert not list(study.results.glob("data/*"))
        return driver.said

    yield run
    study.stop()
    assert not jobs("PENDING", "RUNNING")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content["partitions"].update(gqu=content["partitions"].pop("gpu")),
            "cluster.yaml: partitions.gqu: SLURM has no such partition. Did you mean 'gpu'?",
        ),
        (
            lambda content: content.update(account="studdy"),
            "cluster.yaml: account: SLURM knows no account 'studdy' of user 'root'. "
            "Did you mean 'study'?",
        ),
        (
            lambda content: (
                content.update(gpu="toi", gpus={"toi": {"memory_gb": 8}}),
                content["partitions"]["gpu"].update(available_gpu_models=["toi"]),
            ),
            "cluster.yaml: gpu: none of the partitions has a GPU of the kind 'toi'. "
            "Did you mean 'toy'?",
        ),
        (
            lambda content: content["partitions"]["gpu"].update(max_runtime=99999),
            "cluster.yaml: partitions.gpu.max_runtime: is longer than SLURM allows there: such "
            "jobs would wait for ever; expected at most 2880 minutes; found 99999",
        ),
        (
            lambda content: content["partitions"]["gpu"].update(max_gpus=1),
            "cluster.yaml: partitions.gpu",
        ),
    ],
    ids=["partition", "account", "gpu", "time", "key"],
)
def test_a_wrong_cluster_file(
    refused: Callable[..., str], tmp_path: Path, change: Change, message: str
) -> None:
    assert message in refused(settings(change, tmp_path))


def test_no_slurm(refused: Callable[..., str], tmp_path: Path) -> None:
    """A machine that has no sbatch: a workstation, or a compute node."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "git", "sh", "which"):
        (tools / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    said = refused(PATH=str(tools))
    assert "there is no SLURM on this machine: no command 'sbatch'" in said
    assert "--workflow-profile workflow/profiles/local" in said


def test_the_controller_does_not_answer(cluster: Cluster, refused: Callable[..., str]) -> None:
    cluster.stop_controller()
    try:
        said = refused()
    finally:
        cluster.start_controller()
    assert "SLURM does not say which jobs of this study still run" in said


def test_a_home_that_is_full(refused: Callable[..., str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(home)], check=True)
    try:
        said = refused(HOME=str(home))
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)
    assert f"{home}: nothing can be written there (No space left on device)" in said
    assert "set XDG_CACHE_HOME and HF_HOME to another folder" in said
