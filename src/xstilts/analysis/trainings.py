"""The trainings of a study: their length, their score on dev, and which of them learnt nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.artifacts.manifest import check_file

TRAININGS = "trainings.csv"
COLUMNS = ("checkpoint", "steps", "dev", "dev_step", "restarts", "collapsed", "evidence")


def rows(checkpoints: Iterable[str]) -> list[dict[str, Any]]:
    """One row per training: steps, best mean score on dev and its step, restarts, collapse.

    Args:
        checkpoints: Folders of checkpoints.

    Raises:
        InputError: If a file of theirs is missing or not the one that was published.
    """
    return [_row(Path(folder)) for folder in checkpoints]


def _row(folder: Path) -> dict[str, Any]:
    account = json.loads(check_file(folder, "training.json").read_text(encoding="utf-8"))
    lines = check_file(folder, "history.jsonl").read_text(encoding="utf-8").splitlines()
    history = [entry for entry in map(json.loads, lines) if entry["dev"]]
    scores = [fmean(entry["dev"].values()) for entry in history]
    best = scores.index(max(scores)) if scores else None
    collapsed = account["collapsed"]
    return {
        "checkpoint": folder.as_posix(),
        "steps": account["steps"],
        "dev": None if best is None else scores[best],
        "dev_step": None if best is None else history[best]["step"],
        "restarts": len(account["restarts"]),
        "collapsed": "; ".join(f"{entry['task']}: {entry['reason']}" for entry in collapsed),
        "evidence": "; ".join(entry["evidence"] for entry in collapsed),
    }


def warning(found: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph on the trainings that learnt nothing; empty if all learnt something."""
    names = [row["checkpoint"] for row in found if row["collapsed"]]
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"COLLAPSED, {len(names)} of {len(found)} trainings (see {TRAININGS}): {shown}\n"
