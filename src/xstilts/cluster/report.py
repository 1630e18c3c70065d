"""`xstilts plan STUDY`: what a study costs before anything is spent, as a table and as JSON."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xstilts.artifacts.record import now
from xstilts.cluster.command import CLUSTER
from xstilts.cluster.costs import (
    Costs,
    Line,
    as_json,
    check_gpus,
    costs_of,
    lines_of,
    models_of,
)
from xstilts.cluster.memory import GIB
from xstilts.cluster.needs import check_needs
from xstilts.cluster.rates import (
    CPU,
    Calibration,
    kind_of,
    read_calibration,
    shipped,
    write_calibration,
)
from xstilts.cluster.settings import GPU_STAGES, Cluster, read_cluster
from xstilts.cluster.spent import duration, measure, spent_of, spent_table, write_plan
from xstilts.errors import InputError
from xstilts.output import check_output, write_json

if TYPE_CHECKING:
    from xstilts.session import Session

#: Numbers of GPUs that a plan is made for where none is named.
USUAL = (1, 4, 16, 64)
#: Jobs without a GPU that run at the same time on a cluster; on one machine it has that many CPUs.
CPU_JOBS = 64


def run(options: argparse.Namespace) -> None:
    """Run the command `plan`."""
    from xstilts.session import Session

    session = Session.of_file(options.study, root=Path.cwd())
    if options.spent:
        print(spent_table(spent_of(session.results)))
        return
    out: Path | None = options.json
    check_output("--json", out)
    cluster = _cluster(options.cluster, session.root, options.gpus)
    device, numbers, cpus = _device(cluster, options.gpus)
    check_gpus(session.plan, numbers, device)
    calibration = _calibration(session, update=options.update)
    costs = costs_of(session.plan, session.results, device, calibration)
    if cluster is not None:
        _check(costs, cluster)
    if costs.to_make:
        write_plan(costs, session.results, now())
    print(table(costs, numbers, cpus))
    if out is not None:
        write_json(out, as_json(costs, numbers, cpus))


def _check(costs: Costs, cluster: Cluster) -> None:
    """Check that the cluster can run it all; where it cannot, all models' needs are told first."""
    try:
        check_needs(costs.plan, cluster)
    except InputError:
        print("\n".join(_models(costs)), flush=True)
        raise


def remember(session: Session, cluster: Cluster) -> None:
    """Store what a driver is about to do, so that its end can be compared with it."""
    device, _, _ = _device(cluster, None)
    calibration = _calibration(session, update=False)
    costs = costs_of(session.plan, session.results, device, calibration)
    if costs.to_make:
        write_plan(costs, session.results, now())


def _cluster(named: Path | None, root: Path, gpus: int | None) -> Cluster | None:
    """The cluster; none where the study is to run on a machine without GPUs."""
    path = named or root / CLUSTER
    if gpus == 0 or (named is None and not path.exists()):
        return None
    return read_cluster(path)


def _device(cluster: Cluster | None, gpus: int | None) -> tuple[str, Sequence[int], int]:
    """Kind of device, numbers of GPUs, and jobs without a GPU that run at the same time."""
    if cluster is None or not cluster.gpus:
        return CPU, (0,), (os.cpu_count() or 1) if cluster is None else CPU_JOBS
    # Jobs that may get any kind are planned for the slowest.
    kinds = [kind_of(name) for name in cluster.kinds]
    peaks = shipped().gpus
    device = min(kinds, key=lambda kind: peaks[kind].fp32 if kind in peaks else 0.0)
    return device, USUAL if gpus is None else (gpus,), CPU_JOBS


def _calibration(session: Session, *, update: bool) -> Calibration:
    folder = session.root / session.study.results
    calibration = read_calibration(folder)
    if update:
        calibration.studies[session.study.study] = measure(session.plan, session.results)
        write_calibration(folder, calibration)
    return calibration


# ---- the table


def table(costs: Costs, numbers: Iterable[int], cpus: int) -> str:
    """The plan as text."""
    sizes = [number for number in numbers if number >= costs.plan.study.processes or not number]
    parts = [_stages(costs), _models(costs), _totals(costs, sizes, cpus), _sure(costs)]
    return "\n\n".join("\n".join(part) for part in parts)


def _stages(costs: Costs) -> list[str]:
    on_gpu = costs.device != CPU
    time = "GPU-hours" if on_gpu else "time"
    head = ("stage", "model", "artifacts", "there", "to make", "jobs", "unshared", "steps")
    shape = "{:<16} {:<28} {:>9} {:>6} {:>8} {:>6} {:>9} {:>10} {:>12} {:>10} {:>9}  {}"
    lines = [shape.format(*head, "M sub-words", time, "GB", "rate").rstrip()]
    for line in lines_of(costs):
        shared = line.stage in GPU_STAGES
        lines.append(
            shape.format(
                line.stage,
                line.model or "",
                f"{line.artifacts:,}",
                f"{line.there:,}",
                f"{line.to_make:,}",
                f"{line.jobs:,}",
                f"{line.unshared:,}" if shared and line.unshared > line.artifacts else "",
                f"{line.steps:,}" if line.steps else "",
                f"{line.tokens / 1e6:,.1f}" if line.tokens else "",
                _time(line, on_gpu=on_gpu),
                f"{line.size / 1e9:,.2f}" if line.size else "",
                line.sure if line.to_make else "",
            ).rstrip()
        )
    return lines


def _models(costs: Costs) -> list[str]:
    """What each model needs of a GPU, and how long it is used."""
    on_gpu = costs.device != CPU
    time = "GPU-hours" if on_gpu else "time"
    shape = "{:<28} {:>12} {:<22} {:>13} {:>15} {:>12}"
    head = ("model", "M parameters", "training", "training, GiB", "prediction, GiB", time)
    lines = [shape.format(*head)]
    for needs in models_of(costs):
        spent = needs.gpu_seconds / 3600
        lines.append(
            shape.format(
                needs.model,
                f"{needs.parameters / 1e6:,.1f}",
                needs.way,
                f"{needs.training / GIB:,.1f}" if needs.training else "",
                f"{needs.prediction / GIB:,.1f}" if needs.prediction else "",
                f"{spent:,.2f}" if on_gpu else duration(needs.seconds),
            ).rstrip()
        )
    return lines


def _time(line: Line, *, on_gpu: bool) -> str:
    if on_gpu:
        return f"{line.gpu_seconds / 3600:,.2f}" if line.gpu_seconds else ""
    return duration(line.seconds) if line.seconds else ""


def _totals(costs: Costs, sizes: list[int], cpus: int) -> list[str]:
    made = len(costs.to_make)
    chain, seconds = costs.path()
    most = max(1, max(sizes, default=1) // costs.plan.study.processes)
    disk = {name: f"{size / 1e9:,.1f} GB" for name, size in costs.disk(most).items()}
    lines = [
        f"artifacts      {len(costs.by_job):,}, of which {made:,} are to be made, by "
        f"{len(costs.tasks):,} jobs",
        f"disk           {disk['to make']} to be written, {disk['there']} there; states of "
        f"{most} trainings at once, while they run: {disk['states']}",
    ]
    if costs.device == CPU:
        total = sum(cost.seconds or 0.0 for cost in costs.to_make)
        lines.insert(1, f"CPU time       {duration(total)}")
        lines.append(
            f"wall time      {duration(costs.wall(0, cpus) or 0.0)} with {cpus} jobs at once"
        )
    else:
        lines.insert(1, f"GPU-hours      {costs.gpu_seconds / 3600:,.1f} on {costs.device}")
        walls = [(size, costs.wall(size, cpus)) for size in sizes]
        shown = [f"{duration(wall)} on {size}" for size, wall in walls if wall is not None]
        lines.append(f"wall time      {', '.join(shown)} GPUs, without waiting in queues")
    lines.append(f"critical path  {duration(seconds)}: {_chain(chain)}")
    return lines


def _chain(names: list[str]) -> str:
    """The last steps of a chain; those before are data."""
    shown = [name for name in names if not name.startswith("data/")]
    return " > ".join(shown) or "nothing"


def _sure(costs: Costs) -> list[str]:
    """How sure the figures are, in words."""
    lines = [
        "unshared: as many artifacts there would be if every score had its own",
        "GiB: memory of one GPU at the peak, estimated (src/xstilts/cluster/memory.py)",
    ]
    sures = {cost.sure for cost in costs.to_make}
    if "measured" in sures:
        lines.append("measured: by finished jobs of this results folder (calibration.json)")
    if "shipped" in sures:
        lines.append("shipped: measured on 2 cores of another machine; yours differs")
    if "assumed" in sures:
        peak = shipped().gpus.get(costs.device)
        rates = f"{peak.bf16 or peak.fp32:g} / {peak.fp32:g} TFLOP/s" if peak else "no known peak"
        use = shipped().utilisation
        lines.append(
            f"assumed: operations at {use['bf16']:.0%} / {use['fp32']:.0%} of the published peak "
            f"of {costs.device} (bf16 / fp32: {rates}); nothing was measured on it. Finish a few "
            "jobs, then plan with --update"
        )
    if costs.unknown:
        stages = ", ".join(dict.fromkeys(cost.job.stage for cost in costs.unknown))
        lines.append(
            f"unknown: nobody knows how long {len(costs.unknown)} artifacts take ({stages}); they "
            "are counted as nothing"
        )
    counts = [cost.work.source for cost in costs.to_make if cost.work.steps]
    if counts:
        told = ", ".join(f"{name} {counts.count(name):,}" for name in dict.fromkeys(counts))
        lines.append(f"steps of trainings from rows that are: {told}")
    if sooner := sum(cost.work.at_most for cost in costs.to_make):
        lines.append(f"{sooner:,} trainings may end sooner, when dev no longer improves (patience)")
    return lines
