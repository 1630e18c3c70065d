"""Where the SLURM executor plugin would wait for ever.

Version 2.8 of snakemake-executor-plugin-slurm compares what `sacct` says of a job with SLURM's
names of states, and takes all else for a job that still runs. A cancelled job is `CANCELLED by
1000` there, and a pre-empted one stays `PREEMPTED` even if it was not put back into the queue.
"""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

#: Jobs' states by their ids, or None where nothing was said; and the seconds it took.
Answer = tuple[dict[str, str] | None, float | None]
Query = Callable[[str, Any], Awaitable[Answer]]


def mend_states() -> None:
    """Make the plugin see that a job has ended; to be called before it asks for the first time."""
    import snakemake_executor_plugin_slurm as plugin

    plugin.query_job_status = mended(plugin.query_job_status)


def mended(query: Query) -> Query:
    """The plugin's question for the states of jobs, with answers that it understands."""

    async def ask(command: str, logger: Any) -> Answer:
        states, seconds = await query(command, logger)
        if states is None:
            return None, seconds
        return {job: understood(job, state) for job, state in states.items()}, seconds

    return ask


def understood(job: str, state: str) -> str:
    """The name of a job's state; `CANCELLED` for one that was pre-empted and never comes back."""
    name = state.partition(" ")[0]
    return "CANCELLED" if name == "PREEMPTED" and not _queued(job) else name


def _queued(job: str) -> bool:
    """Whether a job is in SLURM's queue; where SLURM does not say, it may be."""
    command = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True
    if done.returncode:
        return "Invalid job id" not in done.stderr
    return done.stdout.split() not in ([], ["PREEMPTED"])
