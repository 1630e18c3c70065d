"""A stage inside a SLURM job: when its time is up, how it gets more, how it hears of an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

END = "SLURM_JOB_END_TIME"
#: The cluster's file, in the environment of the jobs that a driver has submitted.
CLUSTER = "XSTILTS_CLUSTER"
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
    # An allocation in which a person runs Snakemake is not ours to put back.
    if number is None or CLUSTER not in os.environ:
        return
    if _slurm("squeue", "--noheader", "--jobs", number, "--format", "%T") == "RUNNING":
        if _slurm("scontrol", "requeue", number) is None:
            return
        print(f"job {number} goes on when SLURM starts it again", file=sys.stderr, flush=True)
    time.sleep(_PATIENCE)  # SLURM ends all of the job meanwhile


def hand_on_sigterm() -> None:
    """Hand SIGTERM on to the stage below this process, which is Snakemake inside a job.

    SLURM sends it before a pre-emption, at a time limit and on `scancel`, but only to the task
    itself; Snakemake takes it as a wish to submit nothing more and tells nobody (snakemake#3241).
    Blocked here and in whatever is started from here, it ends nothing but who lets it through:
    the stage, and not the shell around it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_hand_on, daemon=True).start()


def _hand_on() -> None:
    while True:
        signal.sigwait({signal.SIGTERM})
        for process in descendants(os.getpid()):
            try:
                os.kill(process, signal.SIGTERM)
            except OSError:  # it has just ended
                continue


def descendants(process: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything; then come the state and the parent.
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue
        children[int(parent)].append(int(path.parent.name))
    found, waiting = list[int](), [process]
    while waiting:
        own = children[waiting.pop()]
        found += own
        waiting += own
    return found


def hear_sigterm() -> None:
    """Let SIGTERM through, for a stage that Snakemake has started inside a job."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


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
