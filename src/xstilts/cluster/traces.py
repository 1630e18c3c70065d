"""What the jobs of a study leave in its results folder: signs of life, attempts, states, logs."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.spec import sha256_text
from xstilts.cluster.driver import FILE, lives
from xstilts.cluster.queue import Run
from xstilts.plan import Job
from xstilts.progress import PROGRESS, born
from xstilts.runtime import EXIT_MORE_TIME

#: Folder of resumable states, below the results folder.
STATE = "state"
#: A stage that tells nothing for so many of its intervals, and so many seconds, is silent. An
#: evaluation tells something after each language only.
SILENT_INTERVALS, SILENT_SECONDS = 20, 900.0
#: Bytes of the end of a log that are looked at.
_TAIL = 16384
#: How SLURM, the system and Python say that a job ended badly.
_TELLING = re.compile(
    "slurmstepd|srun: error|Out Of Memory|Killed|CANCELLED|DUE TO|NODE FAIL|^Traceback"
    r"|^[\w.]*(Error|Exception)\b|^xstilts|^Missing files|No space left|Disk quota"
    "|command not found|Permission denied|Segmentation fault|Bus error|Illegal instruction"
)
#: What Snakemake says in any job that fails.
_USUAL = ("WorkflowError", "CalledProcessError", "RuleException", "srun: error: task")
_PROGRESS = re.compile(r"^\w+ +\S+  step \d+")
_INPUT_ERROR = re.compile(r"^xstilts stage: (.+)")
_RAISED = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b(: .*)?$")


@dataclass(frozen=True)
class Attempt:
    """One attempt at an artifact.

    Attributes:
        start: Unix time.
        end: Unix time of its end; of the last sign of it where it was killed.
        host: Machine.
        gpus: GPUs that it held.
        outcome: ``done``, ``interrupted``, ``failed``, ``killed`` or ``running``.
        slurm: Id of its SLURM job, if it was one.
    """

    start: float
    end: float
    host: str
    gpus: int
    outcome: str
    slurm: str | None = None

    @property
    def gpu_hours(self) -> float:
        """What it took."""
        return max(0.0, self.end - self.start) * self.gpus / 3600


@dataclass(frozen=True)
class Sign:
    """A stage's sign of life, as `xstilts.progress` writes it.

    Attributes:
        out: Its artifact.
        started: Unix time of its start.
        updated: Unix time of the last line.
        interval: Seconds between two lines.
        total: Steps in all, or 0.
        step: Steps done.
        rate: Steps in a second.
        note: What else the last line says, such as the loss.
        attempt: It as an attempt.
        pid: Its process.
        born: When that was started, in ticks since the machine was.
        reason: Why it ended, if it could say so.
        ended: Whether it ended.
    """

    out: str
    started: float
    updated: float
    interval: float
    total: int
    step: int
    rate: float
    note: str
    attempt: Attempt
    pid: int
    born: int | None
    reason: str
    ended: bool

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.attempt.host == platform.node()

    @property
    def process_lives(self) -> bool:
        """Whether its process is there, on its own machine."""
        return born(self.pid) is not None and born(self.pid) == self.born

    def silent(self, now: float) -> bool:
        """Whether nothing has been heard of it for too long."""
        limit = max(SILENT_SECONDS, SILENT_INTERVALS * self.interval)
        return now - self.updated > limit


@dataclass(frozen=True)
class Saved:
    """The saved state of a training.

    Attributes:
        folder: Where it is.
        step: The newest saved step; None where nothing is saved.
        restarts: How often the training began again because it learnt nothing.
        dev: Newest dev scores by task.
    """

    folder: Path
    step: int | None
    restarts: int
    dev: Mapping[str, float]


@dataclass(frozen=True)
class Driver:
    """The Snakemake that runs a study, as its lock tells.

    Attributes:
        lives: Whether one runs; None where that cannot be told.
        host: Its machine.
        pid: Its process.
        started: When it was started.
        arguments: Its command line.
    """

    lives: bool | None
    host: str
    pid: int
    started: str
    arguments: tuple[str, ...] = ()


def _json(path: Path) -> Any:
    """Content of a JSON file; None if there is none, or not yet, or a torn one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def iso(time: float) -> str:
    """A Unix time in UTC, to the second."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


# ---- signs of life


def signs(results: Path) -> dict[str, Sign]:
    """Signs of life of all stages that run, or ended otherwise than well, by artifact."""
    found: dict[str, Sign] = {}
    folder = results / STATE / PROGRESS
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        content = _json(path)
        if isinstance(content, dict):
            sign = _sign(content)
            found[sign.out] = sign
    return found


def _sign(content: Mapping[str, Any]) -> Sign:
    reason, ended = content.get("reason", ""), "ended" in content
    attempt = Attempt(
        start=content["started"],
        end=content.get("ended", content["updated"]),
        host=content["host"],
        gpus=content["gpus"],
        outcome=_outcome(reason) if ended else "killed",
        slurm=content["slurm"],
    )
    return Sign(
        out=content["out"],
        started=content["started"],
        updated=content["updated"],
        interval=content["log_seconds"],
        total=content["total"],
        step=content.get("step", 0),
        rate=content.get("rate", 0.0),
        note=content.get("note", ""),
        attempt=attempt,
        pid=content["pid"],
        born=content["born"],
        reason=reason,
        ended=ended,
    )


def _outcome(reason: str) -> str:
    if reason == f"SystemExit: {EXIT_MORE_TIME}" or reason.startswith("KeyboardInterrupt"):
        return "interrupted"
    return "failed"


# ---- attempts and states


def attempts_of(entries: Iterable[Mapping[str, Any]], gpus: int = 0) -> list[Attempt]:
    """Attempts as `provenance.json` and `attempts.json` hold them.

    Args:
        entries: Their entries.
        gpus: GPUs of those that do not say how many they held.
    """
    return [
        Attempt(
            start=_unix(entry["start"]),
            end=_unix(entry["end"]),
            host=entry["host"],
            gpus=entry.get("gpus", gpus),
            outcome=entry.get("outcome", "done"),
            slurm=entry.get("SLURM_JOB_ID"),
        )
        for entry in entries
    ]


def attempts_of_artifact(folder: Path) -> list[Attempt]:
    """All attempts at a finished artifact; none at one that was taken from a store."""
    content = _json(folder / PROVENANCE)
    if not isinstance(content, dict) or "taken" in content:  # from a store: made for others
        return []
    used = content.get("processes", 1) if "gpu" in content.get("device", {}) else 0
    return attempts_of(content.get("attempts", ()), used)


def state_folder(results: Path, job: Job) -> Path:
    """Where a training keeps its state."""
    return results / STATE / job.out / sha256_text(job.text)[:16]


def attempts_of_state(folder: Path) -> list[Attempt]:
    """Attempts at a training that is not finished."""
    return attempts_of(_json(folder / "attempts.json") or ())


def saved_in(folder: Path) -> Saved | None:
    """The state of a training that is not finished; None if there is none."""
    if not folder.is_dir():
        return None
    steps = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    step = max((int(name) for name in steps if name.isdecimal()), default=None)
    values = _json(folder / f"step-{step}" / "values.json") if step is not None else None
    history = (values or {}).get("history") or [{}]
    restarts = _json(folder / "restarts.json") or []
    return Saved(folder, step, len(restarts), history[-1].get("dev", {}))


def priced(attempts: Iterable[Attempt], runs: Mapping[str, list[Run]]) -> list[Attempt]:
    """Attempts with the times and GPUs of SLURM's accounting, where that knows them.

    A killed process writes nothing: its own record ends with its last saved state.
    """
    return [_priced(attempt, runs.get(attempt.slurm or "", ())) for attempt in attempts]


def _priced(attempt: Attempt, runs: Iterable[Run]) -> Attempt:
    # Not by number: after a failure of a node SLURM may forget the run that it ended.
    own = [run for run in runs if run.start is not None and _holds(run, attempt)]
    if not own or own[-1].start is None:
        return attempt
    end = own[-1].start + own[-1].seconds
    return replace(attempt, start=own[-1].start, end=end, gpus=own[-1].gpus)


def _holds(run: Run, attempt: Attempt) -> bool:
    """Whether an attempt began during a run; its own time is to the second."""
    begun = run.start is not None and run.start <= attempt.start + 1
    return begun and (run.end is None or run.end >= attempt.start)


# ---- logs


def tail(path: Path) -> list[str]:
    """The last lines of a log, without empty ones; of lines of progress only the last."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # Progress bars return to the start of their line.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    steps = [line for line in lines if _PROGRESS.match(line)]
    return [line for line in lines if line.strip() and line not in steps[:-1]]


def error_in(lines: list[str]) -> str:
    """What a stage says at the end of its log when it fails; empty where it does not."""
    for line in reversed(lines[-5:]):
        if found := _INPUT_ERROR.match(line):
            return found[1]
    raised = next((line for line in reversed(lines[-12:]) if _RAISED.match(line)), "")
    return raised if any(line.startswith("Traceback") for line in lines) else ""


def told_by_slurm(lines: list[str], count: int) -> list[str]:
    """Lines of a SLURM log that say why a job ended, without what Snakemake says around them."""
    telling = [line for line in lines if _TELLING.search(line) and not line.startswith(_USUAL)]
    return (telling or lines)[-count:]


def newest_log(folder: Path) -> Path | None:
    """The log of the newest SLURM job in a folder of logs; ids grow."""
    logs = [path for path in folder.glob("*.log") if re.fullmatch(r"\d+(_\d+)?", path.stem)]
    return max(logs, key=lambda path: [int(part) for part in path.stem.split("_")], default=None)


# ---- the driver


def driver_of(results: Path) -> Driver | None:
    """Who runs the study; None if nobody has written `driver.json`."""
    path = results / FILE
    content = _json(path)
    if not isinstance(content, dict):
        return None
    host, pid = str(content.get("host", "?")), int(content.get("pid", 0))
    started = str(content.get("started", "?"))
    return Driver(lives(results), host, pid, started, tuple(content.get("arguments", ())))
