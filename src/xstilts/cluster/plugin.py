"""Where the SLURM executor plugin gives up, or waits for ever; seen on SLURM 22.05, plugin 2.8.

* It compares what `sacct` says of a job with SLURM's names of states, and takes all else for a job
  that still runs. A cancelled job is `CANCELLED by 1000` there, and a pre-empted one stays
  `PREEMPTED` even if it was not put back into the queue.
* Where accounting does not answer five times in a row, it forgets all jobs, and waits for none.
* Where the controller does not answer, each submission is a failed job.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

#: Jobs' states by their ids, or None where nothing was said; and the seconds it took.
Answer = tuple[dict[str, str] | None, float | None]
Query = Callable[[str, Any], Awaitable[Answer]]
#: Seconds between two questions to a SLURM that does not answer.
AGAIN = 15.0


def mend() -> None:
    """Mend the plugin in this process; to be called before it submits anything."""
    import snakemake_executor_plugin_slurm as plugin

    plugin.query_job_status = patient(plugin.query_job_status)
    plugin.Executor.run_job = when_slurm_answers(plugin.Executor.run_job)


def patient(query: Query) -> Query:
    """The plugin's question for jobs' states, asked until there is an answer; in words it knows."""

    async def ask(command: str, logger: Any) -> Answer:
        states, seconds = await query(command, logger)
        while states is None:
            logger.warning(f"SLURM does not say how jobs are: asked again in {AGAIN:.0f} s.")
            await asyncio.sleep(AGAIN)
            states, seconds = await query(command, logger)
        return {job: understood(job, state) for job, state in states.items()}, seconds

    return ask


def understood(job: str, state: str) -> str:
    """The name of a job's state; `CANCELLED` for one that was pre-empted and never comes back."""
    name = state.partition(" ")[0]
    return "CANCELLED" if name == "PREEMPTED" and not _queued(job) else name


def _queued(job: str) -> bool:
    """Whether a job is in SLURM's queue; where SLURM does not say, it may be."""
    done = _run("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")
    if done is None or done.returncode:
        return done is None or "Invalid job id" not in done.stderr
    return done.stdout.split() not in ([], ["PREEMPTED"])


def when_slurm_answers(submit: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """A submission that waits for a controller that is away."""

    def patiently(executor: Any, job: Any) -> None:
        while (done := _run("scontrol", "ping")) is None or done.returncode:
            executor.logger.warning(
                f"SLURM's controller does not answer: submitting goes on in {AGAIN:.0f} s."
            )
            time.sleep(AGAIN)
        submit(executor, job)

    return patiently


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
