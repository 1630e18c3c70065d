"""What one job asks SLURM for, and whether its model fits into the GPU.

`needs` is asked for every job of a study whenever it is planned, thousands of times: it reads no
file and remembers what it has found.
"""

from __future__ import annotations

from collections.abc import Iterable

from xstilts.cluster.memory import check_fit
from xstilts.cluster.settings import GPU_STAGES, RESUMED, Cluster, Partition, Row
from xstilts.cluster.sizes import parameters_of
from xstilts.errors import InputError
from xstilts.plan import LOOKS, TRAININGS, Bundle, Job, Plan

#: Stages that need more memory for a larger model.
_BY_SIZE = (*GPU_STAGES, "merge")
#: Stages whose job names no model: where in the folder of any other the model's name stands.
_PLACE = {"tokens": 2, "prompts": 2, "testset": 2, "tokenizer": 1, "fetch_model": 1, "pretrain": 1}
_PLACE |= dict.fromkeys(("intermediate", "finetune", "merge", *LOOKS, "score", "distances"), 1)


def model_of(job: Job | Bundle) -> str | None:
    """Name of the model that a job works with or for; None if it has none, or a translator."""
    place = _PLACE.get(job.stage)
    out = job.members[0].out if isinstance(job, Bundle) else job.out
    return None if place is None else out.split("/", place + 1)[place]


def is_adapted(job: Job | Bundle) -> bool:
    """Whether a job trains adapters alone."""
    return isinstance(job, Job) and bool(job.spec.get("settings", {}).get("lora"))


def gpus_of(job: Job | Bundle, plan: Plan, cluster: Cluster) -> int:
    """GPUs of a job: one for each process of a training, one for predictions, else none."""
    if job.stage not in GPU_STAGES or not cluster.gpus:
        return 0
    return plan.study.processes if job.stage in TRAININGS else 1


def needs(
    job: Job | Bundle, plan: Plan, cluster: Cluster, attempt: int = 1
) -> dict[str, int | str]:
    """Resources of a job, under the names that the SLURM plugin knows.

    Memory doubles and trebles with the attempt, and so does the runtime, but not that of a stage
    that goes on where it was stopped: its jobs are slices. Both are cut to what one partition that
    offers the rest has.

    Args:
        job: The job.
        plan: Its plan.
        cluster: The cluster.
        attempt: 1 for the first try.

    Returns:
        `gpu`, `mem_mb`, `runtime` (minutes) and `cpus_per_task`; `gpu_model` where a GPU of a
        certain kind is wanted, `slurm_account` where the cluster's file names one.

    Raises:
        InputError: If no partition offers so many GPUs or CPUs, or no row is for so large a model.
    """
    processes = plan.study.processes if job.stage in TRAININGS else 1
    key = (job.stage, model_of(job), job.threads, processes, attempt, is_adapted(job))
    return dict(cluster.remembered(key, lambda: _needs(job, plan, cluster, processes, attempt)))


def _needs(
    job: Job | Bundle, plan: Plan, cluster: Cluster, processes: int, attempt: int
) -> dict[str, int | str]:
    model = model_of(job)
    size = parameters_of(plan.registry.models[model]) if model and job.stage in _BY_SIZE else 1
    row = cluster.resources.row(job.stage, size)
    if is_adapted(job):
        # Frozen weights have no gradients and moments: they are read as for a prediction.
        memory = min(row.mem_mb, cluster.resources.row("evaluate", size).mem_mb)
        row = row.model_copy(update={"mem_mb": memory})
    gpus = gpus_of(job, plan, cluster)
    cpus = processes * max(row.cpus, job.threads)
    offers = _partitions(job, cluster, gpus, cpus)
    memory = min(processes * row.mem_mb * attempt, max(offer.max_mem_mb for offer in offers))
    # The plugin takes a partition only if everything fits into it.
    roomy = [offer for offer in offers if offer.max_mem_mb >= memory]
    longest = max(offer.max_runtime for offer in roomy)
    found: dict[str, int | str] = {
        "gpu": gpus,
        "mem_mb": memory,
        "runtime": min(_minutes(row, job.stage, attempt), longest),
        "cpus_per_task": cpus,
    }
    if gpus and cluster.gpu:
        found["gpu_model"] = cluster.gpu
    if cluster.account:
        found["slurm_account"] = cluster.account
    return found


def _minutes(row: Row, stage: str, attempt: int) -> int:
    return row.runtime if stage in RESUMED else row.runtime * attempt


def _partitions(job: Job | Bundle, cluster: Cluster, gpus: int, cpus: int) -> list[Partition]:
    """Partitions that can run a job; those with GPUs are left to jobs that use them."""
    offers = [part for part in cluster.partitions.values() if part.offers(gpus, cluster.gpu)]
    if not offers:
        most = max(part.max_gpu for part in cluster.partitions.values())
        raise InputError(
            "cluster.yaml: partitions",
            f"no partition has {gpus} GPUs{_named(cluster.gpu)} for one job ({job.out})",
            expected=f"max_gpu of at least {gpus}",
            found=str(most),
            hint="Lower the study's key `processes`, or ask for another `gpu`",
        )
    if not gpus:
        offers = [part for part in offers if not part.max_gpu] or offers
    wide = [part for part in offers if part.max_threads >= cpus]
    if not wide:
        raise InputError(
            "cluster.yaml: partitions",
            f"no partition has {cpus} CPUs for one job ({job.out})",
            expected=f"max_threads of at least {cpus}",
            found=str(max(part.max_threads for part in offers)),
            hint=f"Lower `cpus` of {job.stage} in resources.yaml, or the training's `threads`",
        )
    return wide


def _named(kind: str | None) -> str:
    return f" of the kind {kind}" if kind else ""


def check_needs(plan: Plan, cluster: Cluster) -> None:
    """Check that some partition can run every job, and that its model fits into the GPU.

    Raises:
        InputError: On the first that none can, with the key to change.
    """
    for job in _one_of_each(plan.jobs.values()):
        needs(job, plan, cluster)
    check_fit(plan, cluster)


def _one_of_each(jobs: Iterable[Job]) -> list[Job]:
    """One job of each stage, model, number of threads and way of training."""
    found = {(job.stage, model_of(job), job.threads, is_adapted(job)): job for job in jobs}
    return list(found.values())
