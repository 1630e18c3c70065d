"""When a training saves its state: now and then, and before its job's time is up (status 75)."""

from __future__ import annotations

import os
import time

from xstilts.runtime import runtime

#: Unix time at which this process has to be gone: from `xstilts stage --minutes`, and SLURM's own
#: variable for a job's time limit (SLURM >= 22.05).
VARIABLES = ("XSTILTS_DEADLINE", "SLURM_JOB_END_TIME")
#: Seconds kept free for what nobody measured, but no more than a tenth of the time there is.
SPARE = 30.0
#: What a kill may cost where the study says nothing else: seconds, and a share of the training.
LOSS_SECONDS, LOSS_SHARE = 120.0, 0.02
#: Bytes per second that a file system is trusted with before a save has been measured.
_SLOW = 1e8


def between_saves(seconds: float, step: int, steps: int) -> float:
    """Seconds between two saved states: what is lost when a process is killed.

    Args:
        seconds: What the steps so far have taken, earlier attempts included.
        step: Steps so far.
        steps: Steps of the training.
    """
    chosen = runtime().save_seconds
    if chosen is not None:
        return chosen
    return max(LOSS_SECONDS, LOSS_SHARE * seconds / max(step, 1) * steps)


class Deadline:
    """Knows when it is time to save.

    Args:
        size: Bytes of a state, from which the time of the first save is guessed.
    """

    def __init__(self, size: int) -> None:
        ends = [os.environ[name] for name in VARIABLES if os.environ.get(name)]
        self.ends = min(map(float, ends), default=float("inf"))
        self.spare = min(SPARE, max(0.0, self.ends - time.time()) / 10)
        self.saving, self.between = size / _SLOW, 0.0
        self._last = time.monotonic()

    def saved(self, seconds: float) -> None:
        """Learn how long a save took."""
        self.saving = seconds

    def due(self) -> bool:
        """Whether the next step may end too late; to be asked once after every step.

        The longest time between two questions so far (a step with its evaluation) and twice the
        time of a save must still fit.
        """
        now = time.monotonic()
        self.between = max(self.between, now - self._last)
        self._last = now
        return time.time() + self.between + 2 * self.saving + self.spare > self.ends
