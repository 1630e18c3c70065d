"""What a study costs before it is run: seconds, GPU-hours and disk of each job, and of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import read_manifest
from xstilts.cluster.memory import asked_share, lora_of, uses
from xstilts.cluster.needs import model_of
from xstilts.cluster.rates import CPU, Calibration, Rates, Sure, least, shipped
from xstilts.cluster.schedule import Task, critical_path, makespan, order
from xstilts.cluster.settings import GPU_STAGES
from xstilts.cluster.sizes import Size, adapter_parameters, size_of
from xstilts.cluster.work import Data, Work, work_of
from xstilts.errors import InputError
from xstilts.plan import CHECK, CHECKED, LOOKS, TRAININGS, Job, Plan
from xstilts.published import Published
from xstilts.training.settings import Lora

#: Stages whose jobs use a GPU where there is one.
ON_GPU = GPU_STAGES


@dataclass(frozen=True)
class Cost:
    """What one job costs.

    Attributes:
        job: The job.
        model: Model that it works with or for.
        there: Whether its artifact is there and stays.
        work: What it has to do.
        seconds: How long it takes; None where nobody knows.
        sure: How sure that is.
        gpus: GPUs that it holds.
        size: Bytes of its artifact, and of what it keeps for later runs.
        state: Bytes of a training's state while it runs.
        serves: Recipes, targets and seeds whose scores need it.
        cells: Scores that need it.
    """

    job: Job
    model: str | None
    there: bool
    work: Work
    seconds: float | None
    sure: Sure
    gpus: int
    size: float
    state: float
    serves: tuple[int, int, int]
    cells: int

    @property
    def gpu_seconds(self) -> float:
        """Seconds times GPUs."""
        return (self.seconds or 0.0) * self.gpus


@dataclass(frozen=True)
class Costs:
    """What a study costs on one kind of device.

    Attributes:
        plan: The plan.
        device: Kind of GPU, or `cpu`.
        by_job: Cost of every job.
    """

    plan: Plan
    device: str
    by_job: dict[str, Cost] = field(default_factory=dict)

    @property
    def to_make(self) -> list[Cost]:
        """Costs of the artifacts that are not there."""
        return [cost for cost in self.by_job.values() if not cost.there]

    @property
    def unknown(self) -> list[Cost]:
        """Those of which nobody knows how long they take; they are counted as nothing."""
        return [cost for cost in self.to_make if cost.seconds is None]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The jobs to run, for the scheduler; a bundle is one, of its members that are missing."""
        index, found = self.plan.bundle_of, dict[str, Task]()
        for cost in self.to_make:
            name, seconds = index.get(cost.job.out, cost.job.out), cost.seconds or 0.0
            after = dict.fromkeys(index.get(other, other) for other in _before(cost.job))
            if before := found.get(name):
                seconds, after = seconds + before.seconds, dict.fromkeys([*before.after, *after])
            found[name] = Task(seconds, cost.gpus, tuple(after))
        return found

    @property
    def gpu_seconds(self) -> float:
        """GPU-seconds of all that is to be made."""
        return sum(cost.gpu_seconds for cost in self.to_make)

    def path(self) -> tuple[list[str], float]:
        """The longest chain of jobs, and its seconds."""
        chain = critical_path(self.tasks)
        return chain, sum(self.tasks[name].seconds for name in chain)

    def wall(self, gpus: int, cpus: int) -> float | None:
        """Seconds on so many GPUs; None where a training needs more."""
        try:
            return makespan(self.tasks, gpus, cpus)
        except ValueError:
            return None

    def disk(self, at_once: int) -> dict[str, float]:
        """Bytes of artifacts, and of the states of as many trainings as may run at once."""
        states = sorted((cost.state for cost in self.to_make), reverse=True)
        return {
            "there": sum(cost.size for cost in self.by_job.values() if cost.there),
            "to make": sum(cost.size for cost in self.to_make),
            "states": sum(states[: max(at_once, 1)]),
        }


def _before(job: Job) -> Iterable[str]:
    """All that must be done before a job, what its inputs' manifests imply included."""
    for value in job.spec.get("inputs", {}).values():
        yield from [value] if isinstance(value, str) else value
    if job.stage in CHECKED:
        yield CHECK


def costs_of(plan: Plan, results: Path, device: str, calibration: Calibration) -> Costs:
    """Cost of every job of a study.

    Args:
        plan: The plan.
        results: The study's results folder; it need not exist.
        device: Kind of GPU (see `xstilts.cluster.rates.kind_of`), or `cpu`.
        calibration: What finished jobs have measured.
    """
    data, rates = Data(plan, results), Rates(device, calibration)
    there, serves = _there(plan, results), _serves(plan)
    costs = Costs(plan, device)
    for job in plan.jobs.values():
        work = work_of(job, data)
        seconds, sure = _seconds(job, work, plan, rates)
        uses = device != CPU and job.stage in ON_GPU
        gpus = (plan.study.processes if job.stage in TRAININGS else 1) if uses else 0
        kept = there[job.out]
        size = _made_size(results / job.out, job) if kept else _size(job, work, plan, data)
        state = _state(job, plan)
        counts, cells = serves[job.out]
        costs.by_job[job.out] = Cost(
            job, model_of(job), kept, work, seconds, sure, gpus, size, state, counts, cells
        )
    return costs


# ---- what is there


def _there(plan: Plan, results: Path) -> dict[str, bool]:
    """Whether each artifact stays as it is: whole, as planned, and so are its inputs."""
    if not results.is_dir():
        return dict.fromkeys(plan.jobs, False)
    published, found = Published(plan, results), dict[str, bool]()
    for out in order({job.out: Task(0, 0, tuple(job.inputs)) for job in plan.jobs.values()}):
        stays = all(found.get(name, True) for name in plan.jobs[out].inputs)
        found[out] = stays and not published.is_stale(out)
    return found


def _made_size(folder: Path, job: Job) -> float:
    size = sum(entry["size"] for entry in read_manifest(folder).files.values())
    return float(2 * size if job.stage == "evaluate" else size)


def _serves(plan: Plan) -> dict[str, tuple[tuple[int, int, int], int]]:
    """Recipes, targets, seeds and cells of the scores that need each job, as numbers."""
    axes: list[dict[str, int]] = [{}, {}, {}, {}]
    masks = {out: [0, 0, 0, 0] for out in plan.jobs}
    tasks = {job.out: Task(0, 0, tuple(_before(job))) for job in plan.jobs.values()}
    for out in reversed(order(tasks)):
        job, own = plan.jobs[out], masks[out]
        if job.stage == "score":
            _, _, recipe, seed, target = out.split("/")
            for axis, name in enumerate((recipe, target, seed, out)):
                own[axis] |= 1 << axes[axis].setdefault(name, len(axes[axis]))
        for name in _inputs(job):
            for axis, mask in enumerate(own):
                masks[name][axis] |= mask
    return {
        out: ((own[0].bit_count(), own[1].bit_count(), own[2].bit_count()), own[3].bit_count())
        for out, own in masks.items()
    }


def _inputs(job: Job) -> Iterable[str]:
    for value in job.spec.get("inputs", {}).values():
        yield from [value] if isinstance(value, str) else value


# ---- time


def _seconds(job: Job, work: Work, plan: Plan, rates: Rates) -> tuple[float | None, Sure]:
    model = model_of(job)
    if job.stage not in (*LOOKS, *TRAININGS) or model is None:
        return rates.stage(job.stage, work.rows)
    size = size_of(plan.registry.models[model])
    if work.source == "unknown" and not work.tokens and not work.forward:
        return None, "unknown"
    start, start_sure = rates.start()
    if job.stage not in TRAININGS:
        each, sure = rates.prediction(model, size, job.spec.get("target", job.stage))
        seconds = None if each is None else each * work.forward
        if seconds is not None and sure != "measured":
            seconds += rates.written(size, work.written)
    else:
        asked = _asked(job, plan) if size.is_decoder else 0.0
        both, sure = rates.training(model, size, job.spec["settings"], task_of(job), asked)
        seconds = None if both is None else _training_seconds(work, *both, plan.study.processes)
    return (None, "unknown") if seconds is None else (start + seconds, least([sure, start_sure]))


def _training_seconds(work: Work, token: float, step: float, processes: int) -> float:
    """Seconds of a training's batches; a look at dev is the forward third of a step."""
    return token * (work.tokens + work.forward / 3) / processes + step * (work.steps or 0)


def _asked(job: Job, plan: Plan) -> float:
    """Share of a decoder's sub-words that go through its output layer, all tasks alike."""
    shares = [asked_share(entry, plan) for entry in job.spec.get("tasks", ())]
    shares += [1.0] if job.spec["mlm"] else []
    return sum(shares) / max(1, len(shares))


def task_of(job: Job) -> str:
    """The task of a training, or all of them; raw text by what is learnt of it."""
    names, mlm = [entry["name"] for entry in job.spec.get("tasks", ())], job.spec["mlm"]
    text = ["masked_lm" if mlm.get("mask") else "causal_lm"] if mlm else []
    return "+".join([*names, *text])


# ---- disk


def _state(job: Job, plan: Plan) -> float:
    """Bytes of a training's state at its largest; of adapters where they alone are trained.

    Two steps are kept while a third is written; each has weights, AdamW's two moments and the best
    weights so far, all in 32-bit floats.
    """
    model = model_of(job)
    if job.stage not in TRAININGS or model is None:
        return 0.0
    return (
        3 * (3 + 1) * _weights(size_of(plan.registry.models[model]), lora_of(job.spec["settings"]))
    )


def _size(job: Job, work: Work, plan: Plan, data: Data) -> float:
    """Bytes of an artifact that is not there yet."""
    sizes = shipped().bytes
    if job.stage in ("fetch", "fetch_model", "fetch_translator") and job.spec.get("lock"):
        return float(sum(file["size"] for file in job.spec["lock"]["files"].values()))
    model = model_of(job)
    if job.stage in ("fetch_model", "merge", *TRAININGS) and model is not None:
        lora = lora_of(job.spec.get("settings", {}))
        return _weights(size_of(plan.registry.models[model]), lora)
    if job.stage in ("prepare", "translate"):
        row = plan.registry.datasets[job.spec["dataset"]]
        return work.rows * sizes["prepared"][row.format]
    if job.stage in ("tokens", "prompts"):
        counts, kind = data.counts(job.out).values(), _format(job)
        return sum(one.tokens for one in counts) * sizes["token"][kind]
    if job.stage == "evaluate":
        return 2 * work.rows * sizes["prediction"][job.spec["format"]]
    return 0.0


def _format(job: Job) -> str:
    """Format of what a job makes: prompts have one of their own."""
    return "prompted" if job.stage == "prompts" else str(job.spec["format"])


def _weights(size: Size, lora: Lora | None) -> float:
    """Weights as 32-bit floats, or the adapters' alone; heads are small."""
    if lora is not None:
        return 4.0 * adapter_parameters(size, lora.rank, lora.targets)
    return 4.0 * size.parameters


# ---- summed up


@dataclass
class Line:
    """The costs of one stage and model.

    Attributes:
        stage: The stage.
        model: The model.
        artifacts: Their number.
        there: Those that are there.
        jobs: Jobs that make the others.
        unshared: So many artifacts there would be if every score had its own.
        steps: Optimiser steps to be done, as those that follow.
        tokens: Sub-words.
        seconds: Seconds.
        gpu_seconds: Seconds times GPUs.
        size: Bytes to be written.
        unknown: Artifacts of which nobody knows how long they take.
        sure: How sure the times are.
    """

    stage: str
    model: str | None
    artifacts: int = 0
    there: int = 0
    jobs: int = 0
    unshared: int = 0
    steps: int = 0
    tokens: float = 0.0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    size: float = 0.0
    unknown: int = 0
    sure: Sure = "measured"

    @property
    def to_make(self) -> int:
        """Artifacts that are to be made."""
        return self.artifacts - self.there


def lines_of(costs: Costs) -> list[Line]:
    """The costs by stage and model, in the order of the stages."""
    found: dict[tuple[str, str | None], Line] = {}
    index, bundles = costs.plan.bundle_of, set[str]()
    for cost in costs.by_job.values():
        key = (cost.job.stage, cost.model)
        line = found.setdefault(key, Line(*key))
        line.artifacts += 1
        line.there += cost.there
        line.unshared += max(cost.cells, 1)
        if cost.there:
            continue
        bundle = index.get(cost.job.out)
        line.jobs += bundle is None or bundle not in bundles
        bundles.add(bundle or "")
        line.steps += cost.work.steps or 0
        line.tokens += cost.work.tokens + cost.work.forward
        line.seconds += cost.seconds or 0.0
        line.gpu_seconds += cost.gpu_seconds
        line.size += cost.size
        line.unknown += cost.seconds is None
        line.sure = least([line.sure, cost.sure])
    return sorted(
        found.values(), key=lambda line: (STAGE_ORDER.index(line.stage), line.model or "")
    )


@dataclass
class ModelNeeds:
    """What one model needs in a study.

    Attributes:
        model: Its name.
        parameters: Its parameters.
        way: How it is trained.
        training: Bytes of a GPU that its largest training takes; 0 without one.
        prediction: Bytes that its largest prediction takes; 0 without one.
        seconds: Seconds of its trainings and predictions that are to be made.
        gpu_seconds: Likewise, times GPUs.
    """

    model: str
    parameters: int
    way: str = ""
    training: float = 0.0
    prediction: float = 0.0
    seconds: float = 0.0
    gpu_seconds: float = 0.0


def models_of(costs: Costs) -> list[ModelNeeds]:
    """What each model of a study needs of a GPU."""
    rows = costs.plan.registry.models
    found = {
        name: ModelNeeds(name, size_of(rows[name]).parameters) for name in costs.plan.study.models
    }
    ways: dict[str, list[str]] = {name: [] for name in found}
    for _, use in uses(costs.plan):
        needs = found[use.model]
        if use.training:
            needs.training = max(needs.training, use.needed)
            ways[use.model].append(use.way)
        else:
            needs.prediction = max(needs.prediction, use.needed)
    for name, needs in found.items():
        needs.way = " and ".join(dict.fromkeys(ways[name]))
    for cost in costs.to_make:
        if cost.job.stage in ON_GPU and cost.model in found:
            found[cost.model].seconds += cost.seconds or 0.0
            found[cost.model].gpu_seconds += cost.gpu_seconds
    return list(found.values())


STAGE_ORDER = (
    *("fetch", "prepare", "fetch_translator", "translate", "fetch_model", "tokenizer", "tokens"),
    *("prompts", "testset", "check", "pretrain", "intermediate", "finetune", "merge", "sweep"),
    *("evaluate", "score"),
    *("transferability", "distances", "aggregate", "analyse", "report"),
)


def as_json(costs: Costs, gpus: Iterable[int], cpus: int) -> dict[str, Any]:
    """All figures, for other programs."""
    numbers = list(gpus)
    chain, seconds = costs.path()
    return {
        "version": 1,
        "study": costs.plan.study.study,
        "device": costs.device,
        "jobs_to_run": len(costs.tasks),
        "gpu_hours": costs.gpu_seconds / 3600,
        "critical_path": {"seconds": seconds, "jobs": chain},
        "wall_seconds": {str(number): costs.wall(number, cpus) for number in numbers},
        "disk_bytes": costs.disk(_at_once(costs.plan, max(numbers))),
        "stages": [vars(line) | {"to_make": line.to_make} for line in lines_of(costs)],
        "models": [vars(needs) for needs in models_of(costs)],
        "artifacts": {out: job_json(cost) for out, cost in costs.by_job.items()},
    }


def _at_once(plan: Plan, gpus: int) -> int:
    return max(1, gpus // plan.study.processes)


def job_json(cost: Cost) -> dict[str, Any]:
    """The figures of one job."""
    recipes, targets, seeds = cost.serves
    return {
        "stage": cost.job.stage,
        "model": cost.model,
        "there": cost.there,
        "steps": cost.work.steps,
        "tokens": round(cost.work.tokens),
        "forward_tokens": round(cost.work.forward),
        "rows": round(cost.work.rows),
        "counts": cost.work.source,
        "may_end_sooner": cost.work.at_most,
        "missing": list(cost.work.missing),
        "seconds": cost.seconds,
        "rate": cost.sure,
        "gpus": cost.gpus,
        "bytes": round(cost.size),
        "state_bytes": round(cost.state),
        "serves": {"recipes": recipes, "targets": targets, "seeds": seeds, "scores": cost.cells},
    }


def check_gpus(plan: Plan, gpus: Iterable[int], device: str) -> None:
    """Refuse a number of GPUs on which a training cannot run.

    Raises:
        InputError: If the study's trainings have more processes.
    """
    if device != CPU and min(gpus) < plan.study.processes:
        raise InputError(
            "--gpus",
            "a training of this study runs on several GPUs",
            expected=f"at least {plan.study.processes} (the study's `processes`)",
            found=str(min(gpus)),
        )
