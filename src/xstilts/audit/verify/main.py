"""`xstilts audit verify`: whether everything in a results folder is as it was made."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import is_inside
from xstilts.artifacts.root import ROOT, SIGNATURE
from xstilts.audit.findings import Finding, faults
from xstilts.audit.results import REFERENCES, Place, Results, locate
from xstilts.audit.verify.chain import Chain, artifacts_of, root_manifest
from xstilts.audit.verify.contents import Contents
from xstilts.audit.verify.hashing import threads_here
from xstilts.audit.verify.listing import Listing, look_up, walk
from xstilts.audit.verify.recompute import STAGES, Again, Made
from xstilts.audit.verify.unpack import references, unpacked
from xstilts.errors import InputError
from xstilts.output import write_json

#: Notes of one kind that are printed; a file of JSON has them all.
_SHOWN = 10


@dataclass(frozen=True)
class Options:
    """How closely to look.

    Attributes:
        shallow: At sizes and manifests only.
        again: Stages whose artifacts are made again.
        threads: Threads that hash; None for one per CPU.
        key: The public key that the signature must be of.
        tell: Whether to write progress on standard error.
    """

    shallow: bool = False
    again: Collection[str] = tuple(STAGES)
    threads: int | None = None
    key: Path | None = None
    tell: bool = False


@dataclass
class Report:
    """What was looked at, and what was found.

    Attributes:
        path: The results folder, or the artifact in it.
        findings: All findings: faults first, each sort by path.
        artifacts: Artifacts that were looked at.
        files: Files that their manifests list, with the records beside these.
        hashed: Bytes that were hashed.
        unchecked: Bytes of files that an archive names and does not hold.
        seconds: Wall time, and that of hashing.
        hashing: Wall time of hashing, in seconds.
        made: What was made again.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    artifacts: int = 0
    files: int = 0
    hashed: int = 0
    unchecked: int = 0
    seconds: float = 0.0
    hashing: float = 0.0
    made: Made = field(default_factory=Made)

    @property
    def faults(self) -> list[Finding]:
        """What does not hold."""
        return faults(self.findings)

    def content(self) -> dict[str, Any]:
        """For JSON."""
        counts: dict[str, int] = {}
        for finding in self.findings:
            counts[finding.kind] = counts.get(finding.kind, 0) + 1
        content = {**asdict(self), "holds": not self.faults, "counts": counts}
        return {**content, "findings": [finding.content() for finding in self.findings]}


def run(options: argparse.Namespace) -> None:
    """Verify a results folder, an artifact or an archive, and say what was found.

    Raises:
        InputError: If the path is none of them.
        SystemExit: With status 1, if anything does not hold.
    """
    how = Options(
        shallow=options.shallow,
        again=() if options.no_recompute else tuple(STAGES),
        threads=_threads(options.threads),
        key=options.key,
        tell=True,
    )
    report = verify(options.path, how)
    write_json(options.json, report.content())
    print("\n".join(_text(report, how)))
    if report.faults:
        raise SystemExit(1)


def _threads(number: int | None) -> int | None:
    if number is not None and number < 1:
        raise InputError("--threads", "is no number of threads", found=str(number))
    return number


def verify(path: Path, options: Options = Options()) -> Report:
    """Verify what lies at a path.

    Args:
        path: A results folder; an artifact, or a file in it: then it and all that it was made
            from; or an archive of a results folder.
        options: How closely to look.

    Raises:
        InputError: If the path is none of them.
    """
    with unpacked(path) as (folder, findings):
        report = check(_located(folder), options)
        report.findings = _sorted([*findings, *report.findings])
        report.path = str(path)
        return report


def _located(path: Path) -> Place:
    """Like `locate`; a folder with a root manifest is a results folder, whatever else it holds."""
    try:
        return locate(path)
    except InputError:
        if path.is_dir() and os.path.lexists(path / ROOT):
            return Place(Results(path))
        raise


def check(place: Place, options: Options) -> Report:
    """Verify a results folder, or one artifact and all that it was made from.

    Args:
        place: The folder or the artifact.
        options: How closely to look.
    """
    start = time.monotonic()
    results, report = place.results, Report(place.out or str(place.results.path))
    artifacts = artifacts_of(results, place.out)
    listing = walk(results.path, sorted(artifacts) if place.out else [""])
    if place.out:
        names = (name for one in artifacts.values() for name in one.inputs if is_inside(name))
        look_up(results.path, [place.out, *names], listing)
    root, found = root_manifest(results.path)
    chain = Chain(results, artifacts, root, listing)
    chain.check(whole=not place.out)
    away, wrong = references(results.path, chain)
    listing.files.pop(REFERENCES, None)
    contents = Contents(results, chain, root, listing, away)
    hashing = time.monotonic()
    contents.check(options.shallow, options.threads, options.tell)
    report.hashing = time.monotonic() - hashing
    found += [*wrong, *contents.findings, *chain.findings, *_unlistable(listing)]
    found += [*_signature(results.path, options.key), *_unchecked(contents)]
    found = list(dict.fromkeys(found))
    if options.again and not options.shallow:
        again = Again(results, chain, found, contents.away, options.tell)
        again.run(options.again)
        report.made = again.made
    report.findings = _sorted(found)
    report.artifacts, report.files = len(artifacts), len(contents.expected)
    report.hashed = sum(digest.size for digest in contents.digests.values())
    report.unchecked = contents.unchecked
    report.seconds = time.monotonic() - start
    return report


def _unlistable(listing: Listing) -> list[Finding]:
    return [
        Finding(folder or ".", "unreadable", f"the folder cannot be read ({why})")
        for folder, why in listing.errors.items()
    ]


def _signature(results: Path, key: Path | None) -> list[Finding]:
    if key is None and not os.path.lexists(results / SIGNATURE):
        return []
    from xstilts.audit.sign import verify_signature

    return verify_signature(results, key)


def _unchecked(contents: Contents) -> list[Finding]:
    if not contents.away:
        return []
    text = f"{len(contents.away):,} files of {_size(contents.unchecked)} are named and not held"
    hint = "What their manifests say of them is as it was"
    return [Finding(REFERENCES, "missing", text, hint=hint, level="note")]


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (one.level != "fault", one.path, one.kind))


# ---- what a person reads


def _text(report: Report, options: Options) -> list[str]:
    lines = [_plain(str(finding)) for finding in report.faults]
    notes = [finding for finding in report.findings if finding.level == "note"]
    kinds = dict.fromkeys(finding.kind for finding in notes)
    for kind in kinds:
        own = [finding for finding in notes if finding.kind == kind]
        lines += [f"note: {_plain(str(finding))}" for finding in own[:_SHOWN]]
        if more := len(own) - _SHOWN:
            lines += [f"note: {kind:<10}  and {more} more"] if more > 0 else []
    if report.made.skipped:
        skipped = report.made.skipped
        names = ", ".join(sorted(skipped)[:3]) + (", …" if len(skipped) > 3 else "")
        lines.append(f"not made again, because of what they stand on: {len(skipped)} ({names})")
    lines += [_plain(_looked_at(report, options)), _verdict(report, len(notes))]
    return lines


def _looked_at(report: Report, options: Options) -> str:
    text = f"{report.path}: {report.artifacts:,} artifacts, {report.files:,} files"
    if options.shallow:
        return f"{text}; sizes and manifests only, in {report.seconds:.1f} s"
    rate = report.hashed / max(report.hashing, 1e-9) / 1e9
    threads = options.threads or threads_here()
    text += f"; {_size(report.hashed)} hashed in {report.hashing:.1f} s"
    text += f" ({rate:.2f} GB/s, {threads} thread{'s' * (threads > 1)})"
    if made := ", ".join(f"{count} × {stage}" for stage, count in report.made.counts.items()):
        text += f"; made again: {made}"
    return f"{text}; {report.seconds:.1f} s in all"


def _verdict(report: Report, notes: int) -> str:
    count = len(report.faults)
    text = f"{count} fault{'s' * (count != 1)}" if count else "all holds"
    return text + (f", {notes} note{'s' * (notes != 1)}" if notes else "")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _plain(text: str) -> str:
    """A text that cannot steer a terminal: names of files may hold anything."""
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in text.replace("\n", " ")
    )
