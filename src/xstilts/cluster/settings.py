"""`cluster.yaml`, the one file of a cluster that a user edits, and `resources.yaml` beside it.

The partitions have the names and units of snakemake-executor-plugin-slurm (`PartitionLimits` in its
`partitions.py`), which reads the same file and picks the partition of each job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt, PrivateAttr, model_validator

from xstilts.errors import InputError, nearest
from xstilts.plan import LOOKS, TRAININGS
from xstilts.validation import Strict, Text, parse, read_yaml, refuse_repeated_keys

RESOURCES = "resources.yaml"
#: Stages that use a GPU where the cluster has any.
GPU_STAGES = (*TRAININGS, *LOOKS, "translate")
#: Stages that save their state, end with status 75 before their time is over, and go on later.
RESUMED = (*TRAININGS, "translate")
#: All stages that are jobs.
STAGES = (
    *("fetch", "fetch_model", "fetch_translator", "prepare", "tokenizer", "tokens", "prompts"),
    *(
        "testset",
        "merge",
        "check",
        "score",
        "distances",
        "aggregate",
        "analyse",
        "report",
        *GPU_STAGES,
    ),
)


def _number(unit: str, low: float, high: float, other: str) -> BeforeValidator:
    """A check that a value is a number of the right unit, as its size tells."""

    def check(value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"is a number in {unit}, without a unit")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not low <= value <= high:
            raise ValueError(f"is in {unit}, and this looks like {other}")
        return value

    return BeforeValidator(check)


#: 48 GB are 48000 MB. The smallest job of a study needs more than 1000.
Megabytes = Annotated[PositiveInt, _number("MB", 1000, 10**8, "GB (or bytes)")]
Minutes = Annotated[PositiveInt, _number("minutes", 1, 366 * 1440, "seconds")]
#: No GPU has a terabyte, and none that runs these models less than a gigabyte.
Gigabytes = Annotated[float, Field(gt=0), _number("GB", 1, 1000, "MB (or bytes)")]


class Gpu(Strict):
    """A kind of GPU.

    Attributes:
        memory_gb: Memory of one of them, in GB.
    """

    memory_gb: Gigabytes


class Partition(Strict):
    """Limits of a partition; all keys are the plugin's.

    Attributes:
        max_runtime: Longest job, in minutes.
        max_mem_mb: Memory of its largest node that jobs may have, in MB.
        max_threads: CPUs of its largest node.
        max_gpu: GPUs that one job may have; none by default.
        available_gpu_models: Kinds of its GPUs; null for any.
    """

    max_runtime: Minutes
    max_mem_mb: Megabytes
    max_threads: PositiveInt
    max_gpu: Annotated[int, Field(ge=0)] = 0
    available_gpu_models: tuple[Text, ...] | None = None
    # What else the plugin knows; no job of ours asks for it.
    max_mem_mb_per_cpu: PositiveInt | None = None
    max_cpus_per_task: PositiveInt | None = None
    max_cpus_per_gpu: PositiveInt | None = None
    max_nodes: PositiveInt | None = None
    max_tasks: PositiveInt | None = None
    max_tasks_per_node: PositiveInt | None = None
    supports_mpi: bool = True
    max_mpi_tasks: PositiveInt | None = None
    available_constraints: tuple[Text, ...] | None = None

    def offers(self, gpus: int, kind: str | None) -> bool:
        """Whether a job with so many GPUs of a kind (null: any) may run here."""
        kinds = self.available_gpu_models
        return gpus <= self.max_gpu and (not gpus or kind is None or not kinds or kind in kinds)

    @model_validator(mode="after")
    def _check(self) -> Partition:
        if self.available_gpu_models and not self.max_gpu:
            raise ValueError(
                "available_gpu_models without max_gpu: the plugin would send no GPU job here. Add "
                "max_gpu, the most GPUs of one job"
            )
        return self


class Row(Strict):
    """What one process of a stage needs; a training may have several.

    Attributes:
        mem_mb: Memory of the host, in MB.
        runtime: Minutes of one job; of a stage that goes on where it was stopped, one slice.
        cpus: CPUs.
    """

    mem_mb: Megabytes
    runtime: Minutes
    cpus: PositiveInt = 1


_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9}


def _size(value: Any) -> Any:
    """A number of parameters: 300M, 2B."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB])", value) if isinstance(value, str) else None
    if not found:
        raise ValueError("expected a number of parameters such as 300M or 2B")
    return round(float(found[1]) * _UNITS[found[2]])


Size = Annotated[int, BeforeValidator(_size)]


def _any_size(value: Any) -> Any:
    """A row by itself holds for models of any size."""
    flat = isinstance(value, dict) and not value.keys().isdisjoint(Row.model_fields)
    return {"1000000B": value} if flat else value


Rows = Annotated[dict[Size, Row], Field(min_length=1), BeforeValidator(_any_size)]


class Resources(Strict):
    """The table of resources: rows by the largest number of parameters that they are for."""

    fetch: Rows
    fetch_model: Rows
    fetch_translator: Rows
    prepare: Rows
    tokenizer: Rows
    tokens: Rows
    prompts: Rows
    testset: Rows
    merge: Rows
    check: Rows
    score: Rows
    distances: Rows
    aggregate: Rows
    analyse: Rows
    report: Rows
    pretrain: Rows
    intermediate: Rows
    finetune: Rows
    evaluate: Rows
    sweep: Rows
    transferability: Rows
    translate: Rows

    def row(self, stage: str, parameters: int) -> Row:
        """The row of a stage and a model.

        Raises:
            InputError: If the model is larger than the largest row is for.
        """
        rows: dict[int, Row] = getattr(self, stage)
        fitting = [size for size in rows if size >= parameters]
        if not fitting:
            raise InputError(
                f"{RESOURCES}: {stage}",
                "no row is for a model of this size",
                expected=f"at most {max(rows) / 1e6:,.0f}M parameters",
                found=f"{parameters / 1e6:,.0f}M",
                hint="Add a row for larger models",
            )
        return rows[min(fitting)]


class Cluster(Strict):
    """A cluster.

    Attributes:
        account: SLURM account; null for the user's default.
        gpu: Kind of GPU that jobs ask for; null for any.
        gpus: Kinds of GPU and their memory; empty where everything runs on CPUs.
        partitions: Limits of the partitions that jobs may be sent to.
        resources: What jobs need, by stage and size of the model: the table of `resources.yaml`; a
            stage that stands here as well is taken from here.
        stage_command: What runs the stages in place of `xstilts`, where they have an environment of
            their own; null for the driver's.
    """

    account: Text | None = None
    gpu: Text | None = None
    gpus: dict[Text, Gpu] = {}
    partitions: Annotated[dict[Text, Partition], Field(min_length=1)]
    resources: Resources
    stage_command: Annotated[str, Field(min_length=1)] | None = None
    #: What `xstilts.cluster.needs` has found: it is asked for every job of a plan.
    _known: dict[Any, dict[str, int | str]] = PrivateAttr(default_factory=dict)

    def remembered(
        self, key: Any, make: Callable[[], dict[str, int | str]]
    ) -> dict[str, int | str]:
        """What was made for a key, made once."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
        return found

    @property
    def kinds(self) -> list[str]:
        """Kinds of GPU that a job may get."""
        return [self.gpu] if self.gpu else list(self.gpus)


def read_cluster(path: Path) -> Cluster:
    """Read a cluster's file, and the table of resources beside it.

    Raises:
        InputError: On the first fault, with file and key.
    """
    content = _mapping(path)
    table = path.with_name(RESOURCES)
    rows = _mapping(table)
    parse(Resources, rows, str(table))
    own = content.get("resources")
    content["resources"] = rows | own if isinstance(own, dict) else own or rows
    cluster = parse(Cluster, content, str(path))
    _check_gpus(cluster, str(path))
    return cluster


def _mapping(path: Path) -> dict[str, Any]:
    if path.is_file():
        refuse_repeated_keys(path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(str(path), "is a mapping of keys to values", found=found)
    return content


def _check_gpus(cluster: Cluster, where: str) -> None:
    """Kinds of GPU must be known, and offered by some partition."""
    if cluster.gpu is not None:
        _known_kind(f"{where}: gpu", cluster.gpu, cluster.gpus)
    for name, partition in cluster.partitions.items():
        place = f"{where}: partitions.{name}"
        for kind in partition.available_gpu_models or ():
            _known_kind(f"{place}.available_gpu_models", kind, cluster.gpus)
        if partition.max_gpu and not cluster.gpus:
            hint = "Name them under gpus, with their memory_gb; else no job asks for one"
            raise InputError(f"{place}.max_gpu", "has GPUs of a kind that is not named", hint=hint)
    for kind in cluster.gpus:
        if not any(partition.offers(1, kind) for partition in cluster.partitions.values()):
            raise InputError(
                f"{where}: gpus.{kind}",
                "no partition offers this kind of GPU",
                expected=f"max_gpu, and {kind} under available_gpu_models, of a partition",
                hint=f"Partitions: {', '.join(cluster.partitions)}",
            )


def _known_kind(place: str, kind: str, kinds: Iterable[str]) -> None:
    if kind not in kinds:
        hint = f"{nearest(kind, kinds)} Every kind stands under gpus, with its memory_gb"
        raise InputError(place, f"unknown kind of GPU {kind!r}", hint=hint)
