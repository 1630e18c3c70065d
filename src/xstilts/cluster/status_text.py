"""The status of a study as a table for people and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from xstilts.cluster import queue
from xstilts.cluster.queue import FOLDERS
from xstilts.cluster.standing import STATES, Standing, Status
from xstilts.cluster.traces import iso

#: Artifacts that a part of the text shows; all of them stand in the JSON.
SHOWN = 20


def text(status: Status) -> str:
    """All of it for a terminal."""
    parts = [
        _head(status),
        _table(status),
        _part("running", status.of("running"), _running),
        _part("silent: no sign of life, and nobody here can tell", status.of("silent"), _silent),
        _part("in SLURM's queue", [one for one in status.of("waiting") if one.slurm], _queued),
        _part("interrupted", status.of("interrupted"), _ended),
        _part("failed", status.of("failed"), _ended),
        _part(
            "collapsed, and reported so", [one for one in status.of("done") if one.collapsed], _lost
        ),
        _end(status),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(status: Status) -> str:
    counts = status.counts
    told = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    hours = f"{status.gpu_hours:.2f} GPU-hours spent" if status.gpu_hours else "no GPU used so far"
    lines = [f"{status.study}: {len(status.all)} artifacts, {', '.join(told)}; {hours}"]
    if len(status.of("done")) < len(status.all) or status.driver:
        lines.append(f"driver: {_driver(status)}")
    if status.slurm not in ("none", "answers"):
        lines.append(f"SLURM does not answer: {status.slurm}. What follows is without it.")
    return "\n".join(lines)


def _driver(status: Status) -> str:
    driver = status.driver
    if driver and driver.lives:
        return f"running on {driver.host} since {driver.started} (pid {driver.pid})"
    if driver and driver.lives is None:
        return f"of {driver.host}, started {driver.started}; whether it runs cannot be told here"
    if len(status.of("done")) == len(status.all):
        return "none runs; nothing is left to do"
    how = "--workflow-profile workflow/profiles/slurm" if queue.there() else "--cores all"
    command = f"{how} --configfile {status.where}"
    if driver and driver.arguments:
        command = shlex.join(driver.arguments[1:])
    return f"none runs: start it again with `snakemake {command}`"


def _table(status: Status) -> str:
    """Artifacts by stage and state, GPU-hours, attempts."""
    by_stage: dict[str, list[Standing]] = {stage: [] for stage in FOLDERS}
    for one in status.all.values():
        by_stage[one.stage].append(one)
    shown = [state for state in STATES if status.counts[state] or state != "silent"]
    rows = [["stage", "all", *shown, "attempts", "GPU-hours"]]
    for stage, ones in by_stage.items():
        if not ones:
            continue
        counts = [str(sum(one.state == state for one in ones) or "·") for state in shown]
        attempts = sum(len(one.attempts) for one in ones)
        hours = sum(one.gpu_hours for one in ones)
        rows.append([stage, str(len(ones)), *counts, str(attempts), f"{hours:.2f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _part(title: str, ones: list[Standing], tell: Callable[[Standing], Iterable[str]]) -> str:
    if not ones:
        return ""
    lines = [f"{title} ({len(ones)})"]
    for one in ones[:SHOWN]:
        first, *more = tell(one)
        lines += [f"  {one.out}  {first}", *(f"      {line}" for line in more)]
    if len(ones) > SHOWN:
        lines.append(f"  … and {len(ones) - SHOWN} more (--json has all)")
    return "\n".join(lines)


def _running(one: Standing) -> list[str]:
    told = [*_step(one), one.words, *_history(one)]
    return ["  ".join(told)]


def _silent(one: Standing) -> list[str]:
    last = clock(one.updated) if one.updated else "?"
    return ["  ".join([f"last heard of at {last}", *_step(one), one.words, *_history(one)])]


def _queued(one: Standing) -> list[str]:
    assert one.slurm is not None
    start = f"  expected start {clock(one.slurm.start)}" if one.slurm.start else ""
    return ["  ".join([f"job {one.slurm.id} {one.words}{start}", *_history(one)])]


def _ended(one: Standing) -> list[str]:
    lines = ["  ".join([one.words, *_step(one), *_history(one)])]
    if one.tail:
        lines += [f"{one.log}:", *(f"| {line[:160]}" for line in one.tail)]
    if one.slurm_tail:
        lines += [f"{one.slurm_log}:", *(f"| {line[:160]}" for line in one.slurm_tail)]
    return lines


def _lost(one: Standing) -> list[str]:
    return ["; ".join(one.collapsed)]


def _step(one: Standing) -> list[str]:
    """Step, rate, expected end, loss and dev scores, as far as they are known."""
    told = []
    if one.state == "interrupted" and one.step is not None:
        told.append(f"saved at step {one.step}")
    elif one.step is not None:
        told.append(f"step {one.step}/{one.total}" if one.total else f"step {one.step}")
    if one.rate:
        told.append(f"{one.rate:.2g}/s")
    if one.ends and one.state == "running":
        told.append(f"ends {clock(one.ends)}")
    told += [one.note] if one.note else []
    told += [f"dev {name} {score:.3f}" for name, score in one.dev.items()]
    return told


def _history(one: Standing) -> list[str]:
    """Attempts and restarts, where there was more than one."""
    told = [f"attempt {len(one.attempts)}"] if len(one.attempts) > 1 else []
    return told + ([f"{one.restarts} restarts after a collapse"] if one.restarts else [])


def _end(status: Status) -> str:
    if status.ends is None:
        return ""
    left_out = f", without {status.unknown} of kinds that none has finished yet"
    return f"expected end: {clock(status.ends)}, if as many run at a time as now" + (
        left_out if status.unknown else ""
    )


def clock(time: float) -> str:
    """Local date and time, to the minute."""
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")


# ---- JSON


def content(status: Status) -> dict[str, Any]:
    """All of it as JSON values; times in UTC."""
    driver = asdict(status.driver) if status.driver else None
    return {
        "study": status.study,
        "results": str(status.results),
        "time": iso(status.time),
        "counts": {state: status.counts[state] for state in STATES},
        "gpu_hours": status.gpu_hours,
        "expected_end": iso(status.ends) if status.ends else None,
        "expected_end_leaves_out": status.unknown,
        "driver": driver,
        "slurm": status.slurm,
        "artifacts": [_artifact(one) for one in status.all.values()],
    }


def _artifact(one: Standing) -> dict[str, Any]:
    known = asdict(one) | {"gpu_hours": one.gpu_hours}
    known["attempts"] = [
        asdict(attempt) | {"start": iso(attempt.start), "end": iso(attempt.end)}
        for attempt in one.attempts
    ]
    for name in ("updated", "ends"):
        known[name] = iso(known[name]) if known[name] else None
    return known
