"""How fast jobs are: measured by finished jobs of this results folder, shipped, or assumed.

`<results>/calibration.json` holds sums over finished jobs by study, so that reading a study twice
counts nothing twice. Trainings and predictions are kept by kind of device, model and precision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveFloat

from xstilts.cluster.sizes import Size, adapter_parameters
from xstilts.errors import InputError
from xstilts.validation import Strict, parse, read_yaml

CALIBRATION = "calibration.json"
CPU = "cpu"
VERSION = 1
#: How sure a figure is: measured here, measured elsewhere, from published peaks, or not known.
Sure = Literal["measured", "shipped", "assumed", "unknown"]
ORDER: tuple[Sure, ...] = ("measured", "shipped", "assumed", "unknown")
Precision = Literal["fp32", "bf16"]


class Peak(Strict):
    """Published peaks of a kind of GPU, in TFLOP/s, and of its memory, in TB/s."""

    bf16: PositiveFloat | None
    fp32: PositiveFloat
    memory: PositiveFloat


class StageCost(Strict):
    """Seconds of a job of a stage without a GPU, and of each of its rows."""

    job: float
    row: float


class Shipped(Strict):
    """The content of `calibration.yaml`, which explains the keys."""

    gpus: dict[str, Peak]
    utilisation: dict[Precision, float]
    step: dict[Literal["layer", "parameter"], float]
    cpu_gflops: PositiveFloat
    stages: dict[str, StageCost]
    start: dict[Literal["gpu", "cpu"], float]
    words: dict[str, float]
    usual: dict[str, float]
    rows: dict[str, dict[str, float]]
    subwords: dict[Literal["word", "special", "prompt"], float]
    pool: float
    bytes: dict[Literal["prepared", "token", "prediction"], dict[str, float]]


@cache
def shipped() -> Shipped:
    """What comes with the package."""
    path = Path(__file__).with_name("calibration.yaml")
    return parse(Shipped, read_yaml(path), str(path))


@dataclass
class Measured:
    """Sums over finished jobs.

    Attributes:
        jobs: Their number.
        seconds: Seconds, times the GPUs of a job.
        amount: Sub-words of trainings and predictions, rows of other stages.
    """

    jobs: int = 0
    seconds: float = 0.0
    amount: float = 0.0

    def add(self, other: Measured) -> None:
        """Add the sums of others."""
        self.jobs += other.jobs
        self.seconds += other.seconds
        self.amount += other.amount


def kind_of(device: str) -> str:
    """The kind of a GPU, by SLURM's name or the driver's; its own name where it is not known."""
    plain = device.lower().replace("_", " ").replace("-", " ")
    known = (kind for kind in shipped().gpus if all(part in plain for part in kind.split()))
    return next(known, plain)


@dataclass
class Calibration:
    """Measured sums by study and by what was measured: `train/a100/xlm-roberta-large/bf16`."""

    studies: dict[str, dict[str, Measured]] = field(default_factory=dict)

    def total(self, name: str) -> Measured:
        """The sums of one thing over all studies."""
        total = Measured()
        for study in self.studies.values():
            if name in study:
                total.add(study[name])
        return total


def read_calibration(results: Path) -> Calibration:
    """What finished jobs of all studies of a results root have measured; nothing if no one has.

    Raises:
        InputError: If the file is damaged.
    """
    path = results / CALIBRATION
    if not path.exists():
        return Calibration()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        return Calibration(
            {
                study: {name: Measured(**sums) for name, sums in things.items()}
                for study, things in content["studies"].items()
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "Delete it and run xstilts plan with --update"
        raise InputError(str(path), f"is no calibration ({error!r})", hint=hint) from error


def write_calibration(results: Path, calibration: Calibration) -> None:
    """Write what was measured, in one rename."""
    studies = {
        study: {name: asdict(sums) for name, sums in sorted(things.items())}
        for study, things in sorted(calibration.studies.items())
    }
    results.mkdir(parents=True, exist_ok=True)
    draft = results / f".{CALIBRATION}.tmp"
    text = json.dumps({"version": VERSION, "studies": studies}, indent=1) + "\n"
    draft.write_text(text, encoding="utf-8")
    draft.rename(results / CALIBRATION)


def train_name(device: str, model: str, way: str, task: str = "") -> str:
    """What a training measures: on one task, or on any; see `way_of`."""
    return f"train/{device}/{model}/{way}/{task}".rstrip("/")


def way_of(settings: Mapping[str, Any]) -> str:
    """What decides a training's speed beside model and task: precision, and adapters if any."""
    return f"{settings['precision']}{'-lora' if settings.get('lora') else ''}"


def predict_name(device: str, model: str, target: str = "") -> str:
    """What a prediction measures: of one target, or of any."""
    return f"predict/{device}/{model}/{target}".rstrip("/")


@dataclass(frozen=True)
class Rates:
    """Rates of one kind of device.

    Attributes:
        device: Kind of GPU, or `cpu`.
        calibration: What was measured.
    """

    device: str
    calibration: Calibration = field(default_factory=Calibration)

    def training(
        self,
        model: str,
        size: Size,
        settings: Mapping[str, Any],
        task: str = "",
        asked: float = 0.0,
    ) -> tuple[tuple[float, float] | None, Sure]:
        """Seconds of a sub-word and of an optimiser step, on one GPU in training.

        A measured rate is that of the same task, else of the same model; it has the steps in it.
        Without one, operations decide: 6 for every sub-word and parameter of the blocks, 8 with
        gradient checkpointing (Kaplan et al. 2020, arXiv 2001.08361, 2.1; the embeddings are looked
        up, not multiplied). Frozen weights have no gradients of their own: with adapters it is 4
        or 6. A decoder's output layer is multiplied for the sub-words that are asked for.

        Args:
            model: The model's name.
            size: Its sizes.
            settings: Hyper-parameters of the training.
            task: Its task or tasks.
            asked: Share of the sub-words that go through a decoder's output layer.
        """
        precision, lora = settings["precision"], settings.get("lora")
        for name in (task, ""):
            if rate := self._measured(train_name(self.device, model, way_of(settings), name)):
                return (1 / rate, 0.0), "measured"
        flops, sure = self._flops(precision)
        if flops is None:
            return None, sure
        once = (4 if lora else 6) + (2 if settings["gradient_checkpointing"] else 0)
        output = (4 if lora else 6) * asked * size.vocabulary * size.hidden
        operations = once * size.blocks + output
        trained = size.parameters
        if lora:
            trained = adapter_parameters(size, lora["rank"], lora["targets"])
        step = shipped().step
        beside = size.layers * step["layer"] + trained * step["parameter"]
        return (operations / flops, 0.0 if self.device == CPU else beside), sure

    def prediction(self, model: str, size: Size, target: str = "") -> tuple[float | None, Sure]:
        """Seconds of a sub-word in a prediction, in 32-bit floats: 2 operations a parameter."""
        for name in (target, ""):
            if rate := self._measured(predict_name(self.device, model, name)):
                return 1 / rate, "measured"
        flops, sure = self._flops("fp32")
        return (2 * size.blocks / flops if flops else None), sure

    def written(self, size: Size, steps: float) -> float:
        """Seconds of so many steps of writing, beside their operations.

        Each step reads all weights, 4 bytes a parameter, and starts the kernels of all blocks
        (Pope et al. 2022, arXiv 2211.05102: small batches are bound by memory). On a CPU, and on a
        GPU of which no peak is known, the operations alone count.
        """
        peak = shipped().gpus.get(self.device)
        if peak is None:
            return 0.0
        read = 4 * size.parameters / (peak.memory * 1e12)
        return steps * (read + size.layers * shipped().step["layer"])

    def stage(self, stage: str, rows: float) -> tuple[float | None, Sure]:
        """Seconds of a job of a stage that uses no GPU."""
        total = self.calibration.total(f"stage/{stage}")
        if total.jobs:
            # What is measured is whole jobs: rows that differ in number differ in time.
            share = rows / (total.amount / total.jobs) if total.amount and rows else 1.0
            return total.seconds / total.jobs * share, "measured"
        known = shipped().stages.get(stage)
        return (known.job + known.row * rows, "shipped") if known else (None, "unknown")

    def start(self) -> tuple[float, Sure]:
        """Seconds of a training or prediction apart from its batches."""
        total = self.calibration.total(f"start/{self.device}")
        if total.jobs:
            return total.seconds / total.jobs, "measured"
        cpu = self.device == CPU
        return shipped().start["cpu" if cpu else "gpu"], "shipped" if cpu else "assumed"

    def _measured(self, name: str) -> float | None:
        total = self.calibration.total(name)
        return total.amount / total.seconds if total.seconds and total.amount else None

    def _flops(self, precision: Precision) -> tuple[float | None, Sure]:
        if self.device == CPU:
            return shipped().cpu_gflops * 1e9, "shipped"
        peak = shipped().gpus.get(self.device)
        if peak is None:
            return None, "unknown"
        bf16 = peak.bf16 if precision == "bf16" else None
        used: Precision = "bf16" if bf16 else "fp32"
        return (bf16 or peak.fp32) * 1e12 * shipped().utilisation[used], "assumed"


def least(sures: Mapping[Any, Sure] | list[Sure]) -> Sure:
    """The least sure of several figures."""
    values = list(sures.values()) if isinstance(sures, Mapping) else sures
    return max(values, key=ORDER.index, default="measured")
