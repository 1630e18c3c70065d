"""`xstilts audit stale`: what of a study would be made differently today, and why."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xstilts.audit.code import Sources
from xstilts.audit.stale.agreement import Difference, Memory, compare, memory
from xstilts.audit.stale.dry_run import dry_run
from xstilts.audit.stale.judge import Judge, Verdicts, library_changes
from xstilts.cluster.inventory import drives
from xstilts.errors import InputError
from xstilts.output import write_json
from xstilts.session import Session

#: Most names, and most details of a reason, in a table for people; `--json` has all.
_SHOWN = 4


def run(options: argparse.Namespace) -> None:
    """Look at a study's results; status 1 if Snakemake would not make the same.

    Raises:
        InputError: If the study is wrong, or Snakemake cannot plan it.
    """
    session = Session.of_file(options.study, root=Path.cwd())
    if not session.results.is_dir():
        raise InputError(str(session.results), "there are no results of this study")
    content = look(session, with_snakemake=not options.no_snakemake)
    write_json(options.json, content)
    if content["differences"]:
        raise SystemExit(1)


def look(session: Session, *, with_snakemake: bool = True) -> dict[str, Any]:
    """Judge a study's artifacts, compare with Snakemake and print what is found.

    Args:
        session: The study; its file is `session.where`.
        with_snakemake: Run `snakemake -n`.

    Returns:
        What was found, for JSON; `differences` is None where Snakemake was not asked.
    """
    with tempfile.TemporaryDirectory(prefix="xstilts-code-") as folder:
        judge = Judge(session.plan, session.results, Sources(Path(folder)))
        verdicts = judge.judge()
    libraries = library_changes(session.results, session.plan.jobs.values())
    known = memory(judge)
    for line in _lines(judge, verdicts, libraries, known):
        print(line)
    differences = _compare(session, judge, verdicts, known) if with_snakemake else None
    return {
        "results": str(session.results),
        **verdicts.content(),
        "libraries": libraries,
        "snakemake": asdict(known),
        "differences": None if differences is None else [asdict(one) for one in differences],
    }


def _compare(
    session: Session, judge: Judge, verdicts: Verdicts, known: Memory
) -> list[Difference] | None:
    fetched = [
        job
        for stage in ("fetch", "fetch_model", "fetch_translator")
        for job in session.plan.of(stage)
    ]
    if any(job.spec.get("lock", True) is None for job in fetched):
        print(f"snakemake -n: not asked, it might lock data first: xstilts lock {session.where}")
        return None
    planned = dry_run(Path(session.where), session.results, session.root)
    found = compare(judge, verdicts, known, planned)
    if not found:
        print(f"snakemake -n: agrees, {len(planned)} jobs")
    for one in found:
        print("\n".join(_difference(one)))
    return found


def _difference(one: Difference) -> Iterator[str]:
    if one.snakemake is None:
        yield f"snakemake -n is wrong: it would not make {one.out}, which {one.ours}"
    else:
        yield f"snakemake -n is wrong: it would make {one.out}: {one.snakemake}"
    yield f"  {one.why}"
    if one.followers:
        yield f"  and behind it {_names(one.followers)}"


# ---- for people


def _lines(
    judge: Judge, verdicts: Verdicts, libraries: Mapping[str, Any], known: Memory
) -> Iterator[str]:
    stale, behind = len(verdicts.reasons), len(verdicts.behind)
    yield f"{judge.results}: {verdicts.planned} artifacts planned"
    if drives(judge.results):
        yield "  a driver runs here: what it has not made yet counts as not made"
    yield f"  {stale} would be made differently today, and {behind} stand on them"
    yield from _stale(judge, verdicts)
    if behind:
        yield f"behind them: {_stages(judge, verdicts.behind)}"
    if verdicts.unneeded:
        yield f"gone, and read by nothing that is to be made: {_names(verdicts.unneeded)}"
    for stage, packages in libraries.items():
        yield f"note: {stage}: other libraries than recorded, which alone make nothing again"
        yield from (f"  {name} {_versions(entry)}" for name, entry in packages.items())
    for mark in known.marks:
        yield f"mark of a job that did not end: {mark.out}: {mark.state}"
    if known.forgotten:
        yield f"no record of Snakemake's (--drop-metadata, or by hand): {_names(known.forgotten)}"
    if known.other:
        yield f"Snakemake's record has another spec than the manifest: {_names(known.other)}"


def _stale(judge: Judge, verdicts: Verdicts) -> Iterator[str]:
    """The reasons, each once for all artifacts of a stage."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for out, reasons in verdicts.reasons.items():
        for reason in reasons:
            key = (_stage(judge, out), reason.text, reason.details)
            groups.setdefault(key, []).append(out)
    for (stage, text, details), outs in groups.items():
        yield f"{stage} ({len(outs)}): {text}"
        yield from (f"    {line}" for line in details[:_SHOWN])
        if len(details) > _SHOWN:
            yield f"    and {len(details) - _SHOWN} more: see --json"
        yield f"  {_names(outs)}"


def _stage(judge: Judge, out: str) -> str:
    bundle = judge.plan.bundles.get(out)
    return f"index of {bundle.stage}" if bundle else judge.plan.jobs[out].stage


def _stages(judge: Judge, outs: Iterable[str]) -> str:
    counts = Counter(judge.plan.jobs[out].stage for out in outs)
    return ", ".join(f"{stage} {count}" for stage, count in counts.items())


def _names(outs: Iterable[str]) -> str:
    names = list(outs)
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _versions(entry: Mapping[str, Any]) -> str:
    recorded = ", ".join(f"{version} ({count})" for version, count in entry["recorded"].items())
    return f"{recorded}, now {entry['now'] or 'not installed here'}"
