"""Whether Snakemake would make what the manifests say must be made, and where it is wrong."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, read_manifest
from xstilts.artifacts.spec import canonical, sha256_text
from xstilts.audit.stale.dry_run import Planned, remembered
from xstilts.audit.stale.judge import Judge, Reason, Verdicts
from xstilts.cluster.inventory import drives, finished, unfinished_outputs
from xstilts.errors import InputError
from xstilts.plan import Bundle, Job


@dataclass(frozen=True)
class Difference:
    """Something that Snakemake would make and the manifests do not ask for, or the other way.

    Attributes:
        out: The artifact, or the bundle's index.
        ours: Why it is to be made, by the manifests; None where it is not.
        snakemake: Why Snakemake would make it; None where it would not.
        why: Where the difference comes from.
        followers: What differs for no other reason than that it stands on this one.
    """

    out: str
    ours: str | None
    snakemake: str | None
    why: str
    followers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """Snakemake's mark of a job that did not end.

    Attributes:
        out: The artifact, or the bundle's index.
        state: What lies there.
    """

    out: str
    state: str


@dataclass(frozen=True)
class Memory:
    """What Snakemake remembers of what is there, beside what the manifests say.

    Attributes:
        marks: Marks of jobs that did not end.
        forgotten: Made by rules, and without a record, as `--drop-metadata` leaves them.
        other: Recorded with another spec than the manifest's.
    """

    marks: list[Mark]
    forgotten: list[str]
    other: list[str]


def memory(judge: Judge) -> Memory:
    """Compare Snakemake's records with the manifests."""
    found = Memory(_marks(judge), [], [])
    for run in judge.plan.runs:
        if not (judge.results / run.out / MANIFEST).exists():
            continue
        record = remembered(judge.results, run.out)
        if record is None:
            found.forgotten.append(run.out)
        elif _is_of_another_spec(judge.results, run, record):
            found.other.append(run.out)
    return found


def _marks(judge: Judge) -> list[Mark]:
    if drives(judge.results):
        return []  # they are of jobs that run
    marked = {name.rpartition("/")[0] for name in unfinished_outputs(judge.results)}
    planned = {run.out: run for run in judge.plan.runs}
    return [Mark(out, _state(judge.results, planned.get(out), out)) for out in sorted(marked)]


def _state(results: Path, run: Job | Bundle | None, out: str) -> str:
    sha256 = finished(results / out)
    if sha256 is None:
        return "nothing whole lies there"
    if run is None:
        return "a whole artifact lies there, which the study does not plan"
    spec = run.index if isinstance(run, Bundle) else run.spec
    as_planned = sha256 == sha256_text(canonical(spec))
    return f"a whole artifact lies there, {'as' if as_planned else 'not as'} planned"


def _is_of_another_spec(results: Path, run: Job | Bundle, record: Mapping[str, Any]) -> bool:
    """Whether Snakemake has told a job another spec than stands in a manifest that it made."""
    told = _told(record)
    specs = told.get("members", {}) if isinstance(run, Bundle) else {run.out: told}
    for out, spec in specs.items():
        try:
            made = read_manifest(results / out).spec
        except InputError:  # that is a matter of its own
            continue
        if canonical(made) != canonical(spec):
            return True
    return False


def _told(record: Mapping[str, Any]) -> Any:
    """The one parameter of a job, as Snakemake has written it down."""
    try:
        (written,) = record["params"]
        return json.loads(ast.literal_eval(written))
    except (KeyError, TypeError, ValueError, SyntaxError):
        return {}


def compare(
    judge: Judge, verdicts: Verdicts, known: Memory, planned: Mapping[str, Planned]
) -> list[Difference]:
    """What Snakemake would make and the manifests do not ask for, and the other way round."""
    extra, absent = planned.keys() - verdicts.runs, verdicts.runs - planned.keys()
    heads = _heads(judge, extra), _heads(judge, absent)
    found = [
        Difference(out, None, planned[out].reason, _why_extra(out, known), below)
        for out, below in heads[0].items()
    ]
    for out, below in heads[1].items():
        ours = _reasons(judge, verdicts, out)
        text = "; ".join(dict.fromkeys(reason.text for reason in ours)) or "stands on stale ones"
        found.append(Difference(out, text, None, _why_absent(judge, out, ours, known), below))
    return found


def _heads(judge: Judge, outs: set[str]) -> dict[str, tuple[str, ...]]:
    """Those that stand on no other of them, with those that stand on these."""
    found: dict[str, list[str]] = {}
    head: dict[str, str] = {}
    for out in judge.in_order(outs):
        above = [head[name] for name in judge.plan.inputs(out) if name in head]
        head[out] = above[0] if above else out
        found.setdefault(head[out], []).extend([out] if above else [])
    return {out: tuple(below) for out, below in found.items()}


def _reasons(judge: Judge, verdicts: Verdicts, run: str) -> list[Reason]:
    bundle = judge.plan.bundles.get(run)
    outs = [run, *(job.out for job in bundle.members)] if bundle else [run]
    return [reason for out in outs for reason in verdicts.reasons.get(out, ())]


def _why_extra(out: str, known: Memory) -> str:
    if any(mark.out == out for mark in known.marks):
        return (
            "it bears the mark of a job that did not end, and is whole: artifacts appear in one "
            "piece. Without --rerun-incomplete, Snakemake stops at it"
        )
    if out in known.other:
        return "as after --drop-metadata, Snakemake remembers another spec than the manifest has"
    return "by its manifest it is as planned, and so is all that it stands on"


def _why_absent(judge: Judge, out: str, reasons: list[Reason], known: Memory) -> str:
    kinds = {reason.kind for reason in reasons}
    if out in known.forgotten and kinds & {"spec", "code", "index"}:
        return "Snakemake has no record of its making (--drop-metadata), and sees no other spec"
    if kinds & {"spec", "code"} and out in known.other:
        return "as after --drop-metadata, Snakemake remembers another spec than the manifest has"
    if "missing" in kinds:
        return "Snakemake asks for nothing that is gone behind results that are there"
    if kinds & {"lost", "damaged"}:
        return "Snakemake looks at names of manifests and their times, not at files or sizes"
    if "inputs" in kinds or "index" in kinds:
        return "Snakemake compares an input only where it is newer than what was made from it"
    return "Snakemake sees no reason"
