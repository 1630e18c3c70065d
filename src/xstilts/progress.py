"""What a person sees of a running stage: one line now and then, and one at the end."""

from __future__ import annotations

import sys
import time

from xstilts.runtime import runtime


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
        if not self.total:
            self._print(f"step {step}  {rate:.1f}/s  {note}")
            return
        left = _clock((self.total - step) / rate) if rate > 0 else "?"
        self._print(f"step {step}/{self.total}  {rate:.1f}/s  {left} left  {note}")

    def done(self, note: str = "") -> None:
        """Print the last line."""
        self._print(f"done in {_clock(time.monotonic() - self.start)}  {note}")

    def _print(self, text: str) -> None:
        print(f"{self.label}  {text}".rstrip(), file=sys.stderr, flush=True)
