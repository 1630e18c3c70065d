"""What a person sees of a running stage: one line now and then, and one at the end.

The same stands in a small file for `xstilts status`, `state/progress/<artifact>.json`: written at
the start, again with every line, and removed at the end. Nothing in it decides a byte, and a stage
goes on where it cannot be written.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xstilts.artifacts.record import gpus
from xstilts.runtime import runtime

#: Below the folder of states.
PROGRESS = "progress"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class Progress:
    """Lines of one stage on standard error.

    Args:
        stage: Name of the stage.
        name: Name of the artifact, as in its path.
        total: Number of steps, or 0 where there is nothing to count.
    """

    def __init__(self, stage: str, name: str, total: int = 0) -> None:
        self.label = f"{stage:<12} {name}"
        self.total = total
        self.start = self.last = time.monotonic()
        self.first = 0
        self.sign = Sign(stage, name)
        self.sign.write(total=total)

    def resume(self, step: int) -> None:
        """Leave out the steps of earlier attempts when the rate is computed."""
        self.first = step

    def step(self, step: int, note: str = "") -> None:
        """Print a line if the last one is long enough ago."""
        time_now = time.monotonic()
        if time_now - self.last < runtime().log_seconds:
            return
        self.last = time_now
        rate = (step - self.first) / max(time_now - self.start, 1e-9)
        self.sign.write(total=self.total, step=step, rate=rate, note=note)
        if not self.total:
            self._print(f"step {step}  {rate:.1f}/s  {note}")
            return
        left = _clock((self.total - step) / rate) if rate > 0 else "?"
        self._print(f"step {step}/{self.total}  {rate:.1f}/s  {left} left  {note}")

    def done(self, note: str = "") -> None:
        """Print the last line."""
        self.sign.remove()
        self._print(f"done in {_clock(time.monotonic() - self.start)}  {note}")

    def _print(self, text: str) -> None:
        print(f"{self.label}  {text}".rstrip(), file=sys.stderr, flush=True)


class Sign:
    """The sign of life of one stage; of several processes only the first writes it.

    Args:
        stage: Name of the stage.
        name: Name of the artifact, as in its path.
    """

    def __init__(self, stage: str, name: str) -> None:
        self.path = sign_path(runtime().state, name)
        self.first = os.environ.get("RANK", "0") == "0"
        self.known = {
            "stage": stage,
            "out": name,
            "started": time.time(),
            "log_seconds": runtime().log_seconds,
            "host": platform.node(),
            "pid": os.getpid(),
            "born": born(os.getpid()),
            "gpus": gpus(),
            "slurm": os.environ.get("SLURM_JOB_ID"),
        }

    def write(self, **values: Any) -> None:
        """Write it, in one rename; a disk that is full or gone stops nothing."""
        if not self.first:
            return
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                content = {**self.known, "updated": time.time(), **values}
                draft.write_text(json.dumps(content), encoding="utf-8")
                draft.rename(self.path)
            finally:
                draft.unlink(missing_ok=True)

    def remove(self) -> None:
        """The stage is done."""
        if self.first:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def sign_path(state: Path, name: str) -> Path:
    """File of an artifact's progress: all lie in one folder, so that one look finds them."""
    return state / PROGRESS / f"{quote(name, safe='')}.json"


def born(pid: int) -> int | None:
    """When a process was started, in ticks since its machine was: ids are given out again."""
    try:
        words = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
        return int(words.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def ended(name: str, reason: str) -> None:
    """Note why a stage of this process ended without an artifact, where it has told of itself."""
    path = sign_path(runtime().state, name)
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["pid"] == os.getpid() and known["host"] == platform.node():
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(json.dumps({**known, "ended": time.time(), "reason": reason}))
            draft.rename(path)
