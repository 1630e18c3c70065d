"""`xstilts audit replay`: artifacts made again from their inputs, and compared."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.root import ROOT, read_root
from xstilts.audit.code import Sources
from xstilts.audit.findings import Finding
from xstilts.audit.replay.compare import FileDifference, Verdict, compare, worst
from xstilts.audit.replay.draw import draw
from xstilts.audit.replay.inputs import Inputs
from xstilts.audit.replay.recorded import Environment, Recorded
from xstilts.audit.results import Artifact, Results, locate, open_results
from xstilts.audit.workspace import Workspace
from xstilts.errors import InputError
from xstilts.output import write_json
from xstilts.runtime import VARIABLE, Runtime
from xstilts.session import Session

#: Most differing files of an artifact in a table for people; `--json` has all.
_SHOWN = 8
_TITLES = {"same": "same bytes", "within": "within tolerance"}


@dataclass
class Replay:
    """An artifact that was made again.

    Attributes:
        out: Its folder.
        stage: Its stage.
        verdict: Whether it came out as it was.
        seconds: What that took, with the start of its process.
        files: Files that have other bytes.
        findings: Why it could not be made again, or what is wrong with the recorded one.
        notes: What it was made with that is not this process's own.
        doubts: What may make other bytes.
    """

    out: str
    stage: str
    verdict: Verdict = "could not"
    seconds: float = 0.0
    files: list[FileDifference] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people: doubts only where they may be the reason for something."""
        title = _TITLES.get(self.verdict, self.verdict)
        yield f"{title:<17} {self.seconds:7.1f} s  {self.out}"
        yield from (f"    {line}" for line in self.notes)
        yield from (f"    {finding}" for finding in self.findings)
        for one in self.files[:_SHOWN]:
            yield f"    {one.name}: {one.text}"
        if len(self.files) > _SHOWN:
            yield f"    and {len(self.files) - _SHOWN} more files: see --json"
        if self.verdict != "same":
            yield from (f"    {line}" for line in self.doubts)

    def content(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "findings": [finding.content() for finding in self.findings]}


def run(options: argparse.Namespace) -> None:
    """Make artifacts again; status 1 if one differs or could not be made.

    Raises:
        InputError: If there is nothing to make again.
    """
    if options.keep and options.keep.exists():
        raise InputError(f"--keep: {options.keep}", "is there already", expected="a new folder")
    if not options.tolerance >= 0:
        raise InputError("--tolerance", "is no tolerance", found=str(options.tolerance))
    chosen = list(_chosen(options))
    done: list[Replay] = []
    with tempfile.TemporaryDirectory(prefix="xstilts-replay-", dir=_beside(options.keep)) as folder:
        sources = Sources(Path(folder, "code"))
        for results, artifacts in chosen:
            replayer = Replayer(results, sources, Path(folder), options)
            for artifact in artifacts:
                done.append(replayer.replay(artifact))
                print("\n".join(done[-1].lines()), flush=True)
    _end(done, options)


def _end(done: list[Replay], options: argparse.Namespace) -> None:
    counts = Counter(one.verdict for one in done)
    parts = ", ".join(f"{_TITLES.get(name, name)} {count}" for name, count in counts.items())
    print(f"{len(done)} made again: {parts}")
    content = {
        "tolerance": options.tolerance,
        "seed": options.seed if options.sample else None,
        "artifacts": [one.content() for one in done],
    }
    write_json(options.json, content)
    if any(one.verdict not in _TITLES for one in done):
        raise SystemExit(1)


def _beside(keep: Path | None) -> Path | None:
    """Where drafts lie, so that what is kept is moved and not copied."""
    if keep is None:
        return None
    keep.parent.mkdir(parents=True, exist_ok=True)
    return keep.parent


def _chosen(options: argparse.Namespace) -> Iterator[tuple[Results, list[Artifact]]]:
    """The artifacts that are named, or drawn, by their results folder."""
    if options.sample is not None:
        if len(options.path) != 1:
            raise InputError("--sample", "draws from one results folder", found="several paths")
        results = open_results(options.path[0])
        yield results, draw(results, options.sample, options.seed, options.stage)
        return
    if options.stage:
        raise InputError("--stage", "is for --sample: name the artifacts, or draw some")
    named: dict[Path, dict[str, None]] = {}
    for path in options.path:
        place = locate(path)
        if not place.out:
            raise InputError(str(path), "is a whole results folder", hint="Give --sample K")
        outs = _members(place.results.read(place.out))
        named.setdefault(place.results.path, {}).update(dict.fromkeys(outs))
    for folder, some in named.items():
        results = Results(folder)
        yield results, [results.read(out) for out in some]


def _members(artifact: Artifact) -> list[str]:
    """An artifact, or for a bundle's index its members."""
    return list(artifact.spec["members"]) if artifact.is_index else [artifact.out]


class Replayer:
    """Makes artifacts of a results folder again.

    Args:
        results: The results folder, which is only read.
        sources: Source trees of commits.
        folder: Where to work.
        options: Of the command line.
    """

    def __init__(
        self, results: Results, sources: Sources, folder: Path, options: argparse.Namespace
    ) -> None:
        self.results, self.folder, self.options = results, folder, options
        self.inputs = Inputs(results)
        self.session, self.unknown = _study(results)
        plan = self.session.plan if self.session else None
        self.recorded = Recorded(results.path, sources, plan)

    def replay(self, artifact: Artifact) -> Replay:
        """Make one artifact again and compare it."""
        done = Replay(artifact.out, artifact.stage)
        if artifact.manifest is None:
            done.findings.append(Finding(artifact.out, "manifest", str(artifact.error)))
            return done
        done.findings += self.inputs.check(artifact)
        if done.findings:
            return done
        record = self.results.provenance(artifact.out)
        own = self.options.here
        chosen = Environment() if own else self.recorded.environment(artifact, record)
        done.notes += chosen.notes
        done.doubts += [*chosen.doubts, *self.unknown, *_device(record)]
        start = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            self._make(artifact, chosen, Path(folder), done)
        done.seconds = time.monotonic() - start
        return done

    def _make(self, artifact: Artifact, chosen: Environment, folder: Path, done: Replay) -> None:
        variables = {**chosen.variables, VARIABLE: self._runtime(artifact)}
        workspace = Workspace(self.results, folder, chosen.command, variables)
        try:
            failed = workspace.make(artifact.stage, {artifact.out: artifact.spec})
        except InputError as error:
            failed = {artifact.out: str(error)}
        if artifact.out in failed:
            problem = f"could not be made again: {failed[artifact.out]}"
            done.findings.append(Finding(artifact.out, "recomputed", problem))
            return
        self._compare(artifact, workspace.place(artifact.out), done)
        if self.options.keep:
            place = self.options.keep / artifact.out
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(workspace.place(artifact.out), place)

    def _compare(self, artifact: Artifact, made: Path, done: Replay) -> None:
        assert artifact.manifest is not None
        # What lies there may have been changed since; the manifest says what it was.
        done.findings += self.inputs.files(artifact.out)
        done.files = compare(
            self.results.path / artifact.out,
            made,
            artifact.manifest,
            read_manifest(made),
            self.options.tolerance,
        )
        broken = {finding.path for finding in done.findings}
        done.verdict = worst(
            "different" if f"{artifact.out}/{one.name}" in broken else one.verdict
            for one in done.files
        )

    def _runtime(self, artifact: Artifact) -> str:
        """Settings of the process; a training that has collapsed once may do so again."""
        own = self.session.runtime_json if self.session else "{}"
        settings = Runtime.model_validate_json(own)
        if _collapsed(self.results.path / artifact.out):
            settings = settings.model_copy(update={"on_collapse": "report"})
        # Older code refuses keys that it does not know.
        return settings.model_dump_json(exclude_defaults=True)


def _collapsed(folder: Path) -> bool:
    try:
        account = json.loads((folder / "training.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(account, dict) and bool(account.get("collapsed"))


def _study(results: Results) -> tuple[Session | None, list[str]]:
    """The study of a results folder, from its root manifest, or why it cannot be known."""
    try:
        root = read_root(results.path)
        if root is None:
            return None, [f"there is no {ROOT}: settings of the process are the usual ones"]
        where = f"{results.path / ROOT}: content"
        return Session.of_config(dict(root.content), where, Path.cwd(), main=False), []
    except InputError as error:
        return None, [f"settings of the process are the usual ones: {error}"]


def _device(record: dict[str, Any]) -> Iterator[str]:
    """Where an artifact was made, if that was on another kind of machine."""
    device = record.get("device", {})
    if device.get("gpu"):
        yield f"recorded on a GPU, {device['gpu']}"
    elif device.get("platform") not in (None, platform.platform()):
        yield f"recorded on another system, {device['platform']}"
