"""What finished jobs say of themselves: rates for later plans, and time spent against the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from xstilts.artifacts.record import PROVENANCE
from xstilts.cluster.costs import STAGE_ORDER, Costs, job_json, task_of
from xstilts.cluster.needs import model_of
from xstilts.cluster.rates import CPU, Measured, kind_of, predict_name, train_name, way_of
from xstilts.cluster.work import Data, work_of
from xstilts.errors import InputError
from xstilts.plan import LOOKS, TRAININGS, Job, Plan

PLANNED = "plan.json"
VERSION = 1


# ---- records


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished artifact; None where there is none that can be read."""
    try:
        content = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and content.get("attempts") and "device" in content
    return content if whole else None


def seconds_of(attempts: Any) -> float:
    """Seconds of all attempts, those included that were killed (until they last said something)."""
    total = 0.0
    for attempt in attempts or ():
        start, end = (datetime.fromisoformat(attempt[key]) for key in ("start", "end"))
        total += max(0.0, (end - start).total_seconds())
    return total


def measure(plan: Plan, results: Path) -> dict[str, Measured]:
    """What the finished jobs of a study measure, by name (see `xstilts.cluster.rates`).

    Args:
        plan: The plan.
        results: The study's results folder.
    """
    data, found = Data(plan, results), dict[str, Measured]()
    for job in plan.jobs.values():
        record = read_record(results / job.out)
        if record is not None and "taken" not in record:
            for name, sums in _measured(job, record, plan, data):
                found.setdefault(name, Measured()).add(sums)
    return found


def _measured(
    job: Job, record: Mapping[str, Any], plan: Plan, data: Data
) -> Iterator[tuple[str, Measured]]:
    device = kind_of(record["device"]["gpu"]) if "gpu" in record["device"] else CPU
    model, spent = model_of(job), seconds_of(record["attempts"])
    busy = record.get("seconds", 0.0)
    if job.stage in TRAININGS and model is not None:
        gpus = record.get("processes", 1)
        if busy and record["tokens"]:
            sums = Measured(1, busy * gpus, record["tokens"])
            way = way_of(job.spec["settings"])
            yield train_name(device, model, way), sums
            yield train_name(device, model, way, task_of(job)), sums
            yield from _start(device, record, spent - busy - record["dev_seconds"])
    elif job.stage in LOOKS and model is not None:
        amount = _predicted(job, record, data)
        if busy and amount:
            sums = Measured(1, busy, amount)
            yield predict_name(device, model), sums
            yield predict_name(device, model, job.spec.get("target", job.stage)), sums
            yield from _start(device, record, spent - busy)
    else:
        rows = work_of(job, data).rows
        yield f"stage/{job.stage}", Measured(1, spent, rows)


def _start(
    device: str, record: Mapping[str, Any], seconds: float
) -> Iterator[tuple[str, Measured]]:
    """Seconds beside the batches, of a job that nobody stopped."""
    if len(record["attempts"]) == 1:
        yield f"start/{device}", Measured(1, max(0.0, seconds), 0.0)


def _predicted(job: Job, record: Mapping[str, Any], data: Data) -> float:
    """Sub-words that went through the model; kept predictions of earlier runs did not."""
    work, languages = work_of(job, data), len(job.spec.get("languages", ())) or 1
    if work.source != "counted":
        return 0.0
    return work.forward * float(record.get("predicted", languages)) / languages


# ---- planned against spent


@dataclass(frozen=True)
class Spent:
    """Planned and spent time of one stage.

    Attributes:
        stage: The stage.
        planned: Jobs that were to be made when the study was planned.
        done: Those of them that are finished.
        expected: Seconds x GPUs that the finished ones were planned to take (jobs without a GPU:
            seconds).
        spent: Seconds x GPUs that they took, lost attempts included.
        unknown: Finished ones of which nobody knew before what they take.
    """

    stage: str
    planned: int
    done: int
    expected: float
    spent: float
    unknown: int = 0

    @property
    def ratio(self) -> float | None:
        """Spent for each second planned; None where nobody knew what to plan."""
        return self.spent / self.expected if self.expected and not self.unknown else None


def write_plan(costs: Costs, results: Path, made: str) -> Path:
    """Store what was planned, beside the results.

    A job that is finished keeps what was planned for it before.

    Args:
        costs: The costs.
        results: The study's results folder.
        made: The time, as text.
    """
    path = results / PLANNED
    before = _read_planned(path) if path.exists() else {}
    jobs = {}
    for out, cost in costs.by_job.items():
        if not cost.there:
            jobs[out] = job_json(cost) | {"made": made}
        elif out in before:
            jobs[out] = before[out]
    content = {"version": VERSION, "study": costs.plan.study.study, "device": costs.device}
    results.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{PLANNED}.tmp")
    draft.write_text(json.dumps(content | {"jobs": jobs}) + "\n", encoding="utf-8")
    draft.rename(path)
    return path


def _read_planned(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        jobs: dict[str, dict[str, Any]] = content["jobs"]
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
    except (ValueError, KeyError, TypeError) as error:
        hint = "Delete it and plan the study again"
        raise InputError(str(path), f"is no stored plan ({error!r})", hint=hint) from error
    return jobs


def spent_of(results: Path) -> list[Spent]:
    """Planned and spent time of each stage of a study.

    Args:
        results: The study's results folder.

    Raises:
        InputError: If the study was never planned.
    """
    path = results / PLANNED
    if not path.exists():
        raise InputError(
            str(path), "the study was not planned", hint="Run xstilts plan STUDY before it is run"
        )
    stages: dict[str, list[float]] = {}
    for out, job in _read_planned(path).items():
        sums = stages.setdefault(job["stage"], [0, 0, 0.0, 0.0, 0])
        sums[0] += 1
        record = read_record(results / out)
        taken = record is not None and "taken" in record
        sums[1] += taken  # from a store: it costs nothing here
        if record is None or taken or not _after(record, job["made"]):
            continue
        sums[1] += 1
        each = max(job["gpus"], 1)
        sums[2] += (job["seconds"] or 0.0) * each
        sums[3] += seconds_of(record["attempts"]) * each
        sums[4] += job["seconds"] is None
    return [
        Spent(stage, int(number), int(done), expected, spent, int(unknown))
        for stage in STAGE_ORDER
        if stage in stages
        for number, done, expected, spent, unknown in [stages[stage]]
    ]


def _after(record: Mapping[str, Any], made: str) -> bool:
    """Whether an artifact was finished after it was planned."""
    end = record["attempts"][-1]["end"]
    return datetime.fromisoformat(end) >= datetime.fromisoformat(made)


def spent_table(rows: list[Spent]) -> str:
    """Planned against spent, as text: the time of finished jobs, times their GPUs."""
    lines = [
        f"{'stage':<16} {'planned':>8} {'done':>8} {'expected':>11} {'spent':>11} {'ratio':>6}"
    ]
    for row in [*rows, _sum(rows)]:
        ratio = "" if row.ratio is None else f"{row.ratio:6.2f}"
        expected = "unknown" if row.unknown else duration(row.expected)
        lines.append(
            f"{row.stage:<16} {row.planned:>8,} {row.done:>8,} {expected:>11} "
            f"{duration(row.spent):>11} {ratio:>6}".rstrip()
        )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time for people."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _sum(rows: list[Spent]) -> Spent:
    return Spent(
        "all",
        sum(row.planned for row in rows),
        sum(row.done for row in rows),
        sum(row.expected for row in rows),
        sum(row.spent for row in rows),
        sum(row.unknown for row in rows),
    )
