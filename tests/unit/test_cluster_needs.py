"""What jobs ask SLURM for."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from xstilts.cluster.needs import check_needs, model_of, needs
from xstilts.cluster.settings import Cluster, read_cluster
from xstilts.cluster.sizes import block_parameters, size_of
from xstilts.errors import InputError
from xstilts.plan import LOOKS, Job, Plan
from xstilts.registry import load_registry
from xstilts.session import Session
from xstilts.training.model import new_backbone

GPU = {"max_runtime": 600, "max_mem_mb": 64000, "max_threads": 8, "max_gpu": 2}
CPU = {"max_runtime": 100, "max_mem_mb": 10000, "max_threads": 4}


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Cluster:
    return read_cluster(repository / "workflow" / "profiles" / "slurm" / "cluster.yaml")


@pytest.fixture(scope="module")
def toy(repository: Path) -> Plan:
    return Session.of_file(repository / "config.yaml", repository).plan


@pytest.fixture(scope="module")
def paper(repository: Path) -> Plan:
    return Session.of_file(repository / "studies" / "paper.yaml", repository).plan


def cluster_of(shipped: Cluster, **changes: Any) -> Cluster:
    content = {
        "gpus": {"a100": {"memory_gb": 80}},
        "partitions": {"gpu": GPU, "cpu": CPU},
        "resources": shipped.resources,
    }
    return Cluster.model_validate(content | changes)


def job(plan: Plan, stage: str) -> Job:
    return plan.of(stage)[0]


def with_processes(plan: Plan, processes: int) -> Plan:
    study = plan.study.model_copy(update={"processes": processes})
    return Plan(study, plan.registry, plan.where, plan.jobs)


def test_every_job_of_a_study_has_its_needs(toy: Plan, paper: Plan, shipped: Cluster) -> None:
    for plan in (toy, paper):
        check_needs(plan, shipped)
        for one in plan.jobs.values():
            asked = needs(one, plan, shipped)
            trains = one.stage in ("pretrain", "intermediate", "finetune", "translate")
            looks = one.stage in LOOKS
            assert asked["gpu"] == int(trains or looks)


def test_the_model_stands_in_the_folder(paper: Plan) -> None:
    named = {one.stage: model_of(one) for one in paper.jobs.values()}
    without = {"fetch", "prepare", "translate", "fetch_translator", "check", "aggregate"}
    without |= {"analyse", "report"}
    assert {stage for stage, model in named.items() if model is None} == without
    assert {model for model in named.values() if model} == {"xlm-roberta-large"}


def test_a_training_has_the_row_of_its_models_size(paper: Plan, shipped: Cluster) -> None:
    row = shipped.resources.finetune[700_000_000]
    asked = needs(job(paper, "finetune"), paper, shipped)
    expected = {"gpu": 1, "mem_mb": row.mem_mb, "runtime": row.runtime, "cpus_per_task": row.cpus}
    assert asked == expected


def test_processes_multiply_gpus_memory_and_cpus_of_trainings(toy: Plan, shipped: Cluster) -> None:
    plan = with_processes(toy, 2)
    cluster = cluster_of(shipped)
    alone, two = (needs(job(plan, "finetune"), each, cluster) for each in (toy, plan))
    assert (two["gpu"], two["mem_mb"], two["cpus_per_task"]) == (
        2,
        2 * int(alone["mem_mb"]),
        2 * int(alone["cpus_per_task"]),
    )
    assert two["runtime"] == alone["runtime"]
    assert needs(job(plan, "evaluate"), plan, cluster)["gpu"] == 1


def test_retries_ask_for_more_up_to_what_a_partition_has(toy: Plan, shipped: Cluster) -> None:
    cluster = cluster_of(shipped)
    score = [needs(job(toy, "score"), toy, cluster, attempt) for attempt in (1, 2, 3)]
    assert [one["mem_mb"] for one in score] == [4000, 8000, 10000]  # 12000, but 10000 are there
    assert [one["runtime"] for one in score] == [60, 100, 100]
    train = [needs(job(toy, "finetune"), toy, cluster, attempt) for attempt in (1, 2, 9)]
    assert [one["mem_mb"] for one in train] == [8000, 16000, 64000]
    assert [one["runtime"] for one in train] == [240, 240, 240]  # slices


def test_memory_and_runtime_are_of_one_partition(toy: Plan, shipped: Cluster) -> None:
    long = GPU | {"max_mem_mb": 10000, "max_runtime": 600}
    large = GPU | {"max_mem_mb": 90000, "max_runtime": 30}
    cluster = cluster_of(shipped, partitions={"long": long, "large": large})
    assert needs(job(toy, "finetune"), toy, cluster)["runtime"] == 240
    again = needs(job(toy, "finetune"), toy, cluster, 2)
    assert (again["mem_mb"], again["runtime"]) == (16000, 30)


def test_the_kind_and_the_account_are_named_where_they_are_set(toy: Plan, shipped: Cluster) -> None:
    cluster = cluster_of(shipped, gpu="a100", account="me")
    asked = needs(job(toy, "finetune"), toy, cluster)
    assert (asked["gpu_model"], asked["slurm_account"]) == ("a100", "me")
    asked = needs(job(toy, "prepare"), toy, cluster)
    assert "gpu_model" not in asked
    assert asked["slurm_account"] == "me"


def test_without_gpus_nothing_asks_for_one(toy: Plan, shipped: Cluster) -> None:
    cluster = cluster_of(shipped, gpus={}, partitions={"cpu": CPU})
    assert {needs(one, toy, cluster)["gpu"] for one in toy.jobs.values()} == {0}


def test_too_many_gpus_and_cpus_are_refused(toy: Plan, shipped: Cluster) -> None:
    with pytest.raises(InputError, match=r"no partition has 3 GPUs .* found 2\. Lower .*process"):
        check_needs(with_processes(toy, 3), cluster_of(shipped))
    narrow = cluster_of(shipped, partitions={"gpu": GPU | {"max_threads": 1}})
    with pytest.raises(InputError, match="no partition has 2 CPUs"):
        check_needs(toy, narrow)


def test_asking_is_cheap(paper: Plan, shipped: Cluster) -> None:
    jobs = list(paper.jobs.values())
    start = time.perf_counter()
    for one in jobs:
        needs(one, paper, shipped)
    assert (time.perf_counter() - start) / len(jobs) < 20e-6


@pytest.mark.parametrize("name", ["toy-xlmr", "toy-bert", "slices-xlmr"])
def test_sizes_of_a_scratch_model_are_those_of_the_model_that_is_made(name: str) -> None:
    row = load_registry().models[name]
    assert row.scratch is not None
    with torch.device("meta"):
        made = new_backbone(row.model_dump(), row.scratch.vocab_size, 1, 0.1).base_model
    size = size_of(row)
    assert size.parameters == sum(parameter.numel() for parameter in made.parameters())
    blocks = sum(parameter.numel() for parameter in made.encoder.parameters())
    assert size.blocks == blocks


@pytest.mark.parametrize(
    ("name", "vocabulary"),
    [
        ("xlm-roberta-large", 250_002),
        ("xlm-roberta-base", 250_002),
        ("bert-base-multilingual-cased", 119_547),
    ],
)
def test_sizes_of_published_models_add_up(name: str, vocabulary: int) -> None:
    size = size_of(load_registry().models[name])
    # Sub-words of the published tokenizers; positions and segments are 514 + 1, or 512 + 2.
    assert size.vocabulary - vocabulary in range(510, 520)
    assert size.blocks == size.layers * block_parameters(size.hidden, 4 * size.hidden)


def test_a_model_of_unknown_size_is_refused() -> None:
    row = load_registry().models["xlm-roberta-base"]
    with pytest.raises(InputError, match=r"models\.xlm-roberta-base\.parameters: the key"):
        size_of(row.model_copy(update={"parameters": None}))
    unknown = size_of(row.model_copy(update={"hidden": None}))
    assert unknown.blocks <= unknown.parameters
    assert unknown.hidden >= 768
