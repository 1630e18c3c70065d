"""Where a study runs, for the rules: on this machine alone, or on a cluster through its driver.

A profile for a cluster names its `cluster.yaml` in the default resource `cluster_file`: Snakemake
has no other place for it that a command line does not overwrite. Jobs find it in their environment.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xstilts.artifacts import kept
from xstilts.artifacts.root import mend_root, root_of, write_root
from xstilts.artifacts.store import check_store
from xstilts.cluster import driver, environment, preflight
from xstilts.cluster.job import CLUSTER, hand_on_sigterm
from xstilts.cluster.needs import check_needs, gpus_of, needs
from xstilts.cluster.plugin import mend
from xstilts.cluster.prune import clean_finished
from xstilts.cluster.queue import Entry, SlurmSilent, alive, job_name
from xstilts.cluster.settings import GPU_STAGES, Cluster, read_cluster
from xstilts.errors import InputError
from xstilts.plan import Bundle, Job
from xstilts.published import Published
from xstilts.runtime import runtime
from xstilts.session import Session

#: Default resource of a cluster's profile.
RESOURCE = "cluster_file"

Find = Callable[[Mapping[str, str]], Job | Bundle]


@dataclass
class Site:
    """Where a study runs.

    Attributes:
        session: The study.
        cluster: The cluster; None for this machine alone.
        file: The cluster's file.
        alive: Jobs of an earlier driver that still wait or run, by the artifact they make.
        whole: Whether the run was asked for all of the study, not for some of its files.
    """

    session: Session
    cluster: Cluster | None = None
    file: Path = Path()
    alive: dict[str, Entry] = field(default_factory=dict)
    whole: bool = False
    _begun: bool = False

    @classmethod
    def of_workflow(cls, workflow: Any, session: Session) -> Site:
        """Read the file that the profile names, if it names one.

        Args:
            workflow: Snakemake's workflow, while the Snakefile is read.
            session: The study.

        Raises:
            InputError: If the cluster's file is wrong, or it has no place for a job of the study.
        """
        name = _named(workflow.resource_settings)
        if name is None:
            return cls(session)
        file = session.root / name
        cluster = read_cluster(file)
        site = cls(session, cluster, file)
        os.environ[CLUSTER] = str(file)
        environment.use(cluster.stage_command)
        if workflow.is_main_process:
            check_needs(session.plan, cluster)
            site.alive = site._alive()
        else:
            hand_on_sigterm()
        return site

    def _alive(self) -> dict[str, Entry]:
        try:
            return alive(self.session.results, self.session.plan.runs)
        except SlurmSilent as error:
            raise InputError(
                str(self.file),
                f"SLURM does not say which jobs of this study still run ({error})",
                hint="Run snakemake again when SLURM answers: `squeue --me`",
            ) from error

    # ---- for the rules

    def resources(self, stage: str, job: Find) -> dict[str, Any]:
        """Resources of a rule. On one machine there are only GPUs to share, and no time limit.

        Args:
            stage: The rule's stage.
            job: Finds a job by its wildcards.
        """
        if self.cluster is None:
            return {"runtime": 0, **({"gpu": 1} if stage in GPU_STAGES else {})}
        keys = ["mem_mb", "runtime", "gpu", "cpus_per_task"]
        found: dict[str, Any] = {key: self._need(job, key) for key in keys}
        if self.cluster.gpu is not None:
            found["gpu_model"] = self._need(job, "gpu_model")
        if self.cluster.account is not None:
            found["slurm_account"] = self.cluster.account
        if self.alive:
            found["slurm_extra"] = lambda wildcards: self._after(job(wildcards))
        return found

    def _need(self, job: Find, key: str) -> Callable[[Mapping[str, str], int], int | str | None]:
        plan, cluster = self.session.plan, self.cluster
        assert cluster is not None

        def need(wildcards: Mapping[str, str], attempt: int) -> int | str | None:
            return needs(job(wildcards), plan, cluster, attempt).get(key)

        # Snakemake asks for it before each of thousands of calls; found anew, it takes longer than
        # the call.
        need.__signature__ = inspect.signature(need)  # type: ignore[attr-defined]
        return need

    def _after(self, job: Job | Bundle) -> str:
        """Begin when the job of an earlier driver for the same artifact has ended."""
        entry = self.alive.get(job.members[0].out if isinstance(job, Bundle) else job.out)
        return f"--dependency=afterany:{entry.id}" if entry else ""

    # ---- for the driver

    def begin(self, workflow: Any) -> None:
        """Begin a run: become the folder's one driver, and see that the cluster is as described.

        Args:
            workflow: Snakemake's workflow, when it is known whether jobs will run.

        Raises:
            InputError: If another driver lives, or jobs would fail for a reason that shows now.
        """
        for_show = workflow.dryrun or workflow.touch or not workflow.is_main_process
        # Nothing is executed for Snakemake's own report, and there are no settings for it.
        if self._begun or for_show or workflow.execution_settings is None:
            return
        self._begun = True
        if driver.hold(self.session.results):
            driver.forget_the_dead(self.session.results)
            clean_finished(self.session.plan, self.session.results)
        own = self.cluster and self.cluster.stage_command
        environment.check_chosen(f"{self.file}: stage_command" if own else environment.VARIABLE)
        if self.session.store is not None:
            check_store(self.session.store)
        latency = workflow.execution_settings.latency_wait
        preflight.tell(preflight.check_folders(self.session.results, latency))
        if self.cluster is not None:
            self._begin_cluster(workflow, self.cluster)

    def mend(self, published: Published) -> None:
        """Put the root manifest back where there will be nothing to do, and so no end of a run."""
        if self._begun and published.is_finished():
            mend_root(self.session.results, root_of(self.session))

    def _begin_cluster(self, workflow: Any, cluster: Cluster) -> None:
        from xstilts.cluster.report import remember

        plan = self.session.plan
        gpus = any(gpus_of(job, plan, cluster) for job in plan.jobs.values())
        preflight.tell(preflight.check_cluster(cluster, str(self.file), gpus))
        for out, entry in self.alive.items():
            print(f"{out}: job {entry.id} of an earlier driver goes on", file=sys.stderr)
        settings = workflow.executor_settings
        if hasattr(settings, "partition_config"):
            settings.partition_config = settings.partition_config or self.file
            settings.jobname_prefix = settings.jobname_prefix or job_name(self.session.study.study)
        mend()
        remember(self.session, cluster)

    def fail(self) -> None:
        """End a run in which jobs failed: their own messages had no room on a full disk."""
        try:
            preflight.check_folders(self.session.results, latency_wait=0)
        except InputError as error:
            print(f"\n{error}", file=sys.stderr)

    def end(self) -> None:
        """End a run that made what was asked for; say what it was planned to take, and took."""
        if self.whole:
            write_root(self.session.results, root_of(self.session))
            kept.forget(self.session.results / runtime().state)
        if self.cluster is not None:
            from xstilts.cluster.spent import spent_of, spent_table

            print(f"\n{spent_table(spent_of(self.session.results))}")


def _named(settings: Any) -> str | None:
    """The cluster's file that a profile names; taken out of Snakemake's default resources.

    They are expressions, and this one would be evaluated for each of thousands of jobs, after
    looking up the size of their inputs.
    """
    given = settings.default_resources or {}
    if RESOURCE not in given:
        return os.environ.get(CLUSTER)
    name = str(given[RESOURCE].raw).strip("\"'")
    # Memory and disk by the size of the inputs are among the defaults; every rule says its own.
    kept = {key: value for key, value in given.items() if key in ("_cores", "_nodes", "tmpdir")}
    settings.default_resources = type(given)(kept)
    return name


__all__ = ["RESOURCE", "Site"]
