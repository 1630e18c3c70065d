"""A stage inside a SLURM job: when its time is up, and how it gets more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime

END = "SLURM_JOB_END_TIME"
#: Seconds that SLURM is given to end a job it has just put back into the queue.
_PATIENCE = 600


def learn_end() -> None:
    """Set SLURM's own variable for the end of the job where nobody else did.

    SLURM before 22.05 has none, and the executor's inner call drops it from the environment.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is None or END in os.environ:
        return
    # %e: the time at which the job will be stopped, in local time.
    said = _slurm("squeue", "--noheader", "--jobs", number, "--format", "%e")
    try:
        os.environ[END] = str(datetime.fromisoformat(said or "").timestamp())
    except ValueError:
        print(f"SLURM does not say when job {number} ends: {said!r}", file=sys.stderr)


def ask_for_more_time() -> None:
    """Put this job back into SLURM's queue: it goes on from its state, under the same number.

    Nothing is counted as a failure, and no driver is needed. Where SLURM refuses, the stage's exit
    status fails the job, and Snakemake's retries start another. A job that SLURM is ending already
    is left to it: who was pre-empted is put back into the queue only if it does not end by itself
    (SLURM 22.05), and who was cancelled must not come back.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is None:
        return
    if _slurm("squeue", "--noheader", "--jobs", number, "--format", "%T") == "RUNNING":
        if _slurm("scontrol", "requeue", number) is None:
            return
        print(f"job {number} goes on when SLURM starts it again", file=sys.stderr, flush=True)
    time.sleep(_PATIENCE)  # SLURM ends all of the job meanwhile


def _slurm(*command: str) -> str | None:
    """What a command of SLURM's says; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.CalledProcessError as error:
        print(f"{command[0]}: {error.stderr.strip()}", file=sys.stderr)
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return None
    return done.stdout.strip()
