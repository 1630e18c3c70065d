"""Numbers made again: scores from predictions, then tables, answers and the report from scores."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xstilts.analysis.questions import QUESTIONS
from xstilts.artifacts.fingerprint import fingerprint
from xstilts.artifacts.manifest import MANIFEST, read_manifest
from xstilts.artifacts.record import versions
from xstilts.audit.code import DRIVER_ONLY
from xstilts.audit.findings import Finding, Level
from xstilts.audit.results import Results
from xstilts.audit.verify.chain import Chain
from xstilts.audit.verify.difference import first_difference
from xstilts.audit.workspace import Workspace
from xstilts.report.assets import assets_sha256

#: Stages that take seconds and need no model, in the order in which they stand on each other, with
#: the modules that their code starts at, as in `plan`.
STAGES = {
    "testset": ("xstilts.data.testset",),
    "check": ("xstilts.data.check",),
    "score": ("xstilts.evaluation.score",),
    "aggregate": ("xstilts.analysis.aggregate",),
    "analyse": (
        "xstilts.analysis.analyse",
        *(f"xstilts.analysis.questions.{name}.answer" for name in QUESTIONS),
    ),
    "report": ("xstilts.report.build",),
}
#: The stage that reads the manifests of all artifacts that it stands on, not of its inputs alone.
_READS_ALL = "report"
#: Files that hold numbers, in the order in which a difference is best shown.
_NUMBERS = (".json", ".csv", ".jsonl", ".md", ".safetensors")
#: Libraries that decide no byte of these stages.
_APART = DRIVER_ONLY | {"torch", "transformers"}


@dataclass
class Made:
    """What was made again.

    Attributes:
        counts: Artifacts that were made, by stage.
        skipped: Artifacts that were not, because something that they stand on is not as it was.
    """

    counts: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


class Again:
    """Makes artifacts again and compares them with what lies there.

    Args:
        results: The results folder.
        chain: The manifests, looked at before.
        findings: What was found so far; findings of files that are made again are put into the
            words of the difference.
        away: Files that are kept elsewhere.
        tell: Whether to write progress on standard error.
    """

    def __init__(
        self,
        results: Results,
        chain: Chain,
        findings: list[Finding],
        away: Collection[str],
        tell: bool,
    ) -> None:
        self.results, self.chain, self.tell = results, chain, tell
        self.findings, self.made = findings, Made()
        self.faulty = _faulty(chain, findings)
        self.away = set(away)

    def run(self, stages: Collection[str]) -> None:
        """Make all that can be made, stage by stage, in a folder that is removed again.

        Args:
            stages: Stages of `STAGES`.
        """
        with tempfile.TemporaryDirectory(prefix="xstilts-verify-") as folder:
            work = Workspace(self.results, Path(folder))
            for stage in (stage for stage in STAGES if stage in stages):
                if specs := self._specs(stage):
                    self._make(work, stage, specs)

    def _specs(self, stage: str) -> dict[str, Mapping[str, Any]]:
        found = {}
        for out, artifact in self.chain.artifacts.items():
            if artifact.stage != stage or artifact.is_index:
                continue
            if self._stands(out):
                found[out] = artifact.spec
            else:
                self.made.skipped.append(out)
        return found

    def _stands(self, out: str) -> bool:
        """Whether all that an artifact is made from is as it was."""
        artifact, chain = self.chain.artifacts[out], self.chain
        named = {name for names in artifact.roles().values() for name in names}
        if artifact.manifest is None or artifact.manifest.artifact != out:
            return False
        if not named | artifact.inputs.keys() <= chain.artifacts.keys():
            return False
        if out not in chain.doubtful and any(
            chain.artifacts[name].sha256 != sha256 for name, sha256 in artifact.inputs.items()
        ):
            return False
        above = chain.made_from(out) if artifact.stage == _READS_ALL else named
        return not above & (self.faulty | chain.doubtful | chain.absent)

    def _make(self, work: Workspace, stage: str, specs: Mapping[str, Mapping[str, Any]]) -> None:
        if self.tell:
            print(f"making {len(specs)} × {stage} again", file=sys.stderr, flush=True)
        failed = work.make(stage, specs)
        for out in specs:
            if out in failed:
                self._failed(out, failed[out])
            else:
                self.made.counts[stage] = self.made.counts.get(stage, 0) + 1
                self._compare(out, work.place(out))

    def _failed(self, out: str, why: str) -> None:
        """A stage that stops for a file that is kept elsewhere is no fault."""
        inputs = self.chain.artifacts[out].inputs
        away = any(path.startswith(f"{name}/") for name in inputs for path in self.away)
        text = f"could not be made again: {why}"
        level: Level = "note" if away else "fault"
        self.faulty |= {out} if level == "fault" else set()
        self.findings.append(Finding(out, "recomputed", text, level=level))

    # ---- what is different

    def _compare(self, out: str, place: Path) -> None:
        manifest = self.chain.artifacts[out].manifest
        assert manifest is not None
        again = read_manifest(place).files
        for name in again.keys() & manifest.files.keys():
            self._say(f"{out}/{name}", place / name, again[name] == manifest.files[name])
        differing = [
            name
            for name in again.keys() | manifest.files.keys()
            if again.get(name) != manifest.files.get(name)
        ]
        if not differing:
            return
        name = min(differing, key=_rank)
        found = self._finding(out, name, place, len(differing) - 1)
        self.faulty |= {out} if found.level == "fault" else set()
        if out in self.chain.doubtful:
            self._add_to_manifest(out, found)
        else:
            self.findings.append(found)

    def _say(self, path: str, again: Path, is_right: bool) -> None:
        """Say of a file that is known to be changed where, if it was made again as it was."""
        for number, finding in enumerate(self.findings):
            if finding.path != path or finding.kind != "changed" or not is_right:
                continue
            there = first_difference(again, self.results.path / path)
            if there:
                text = f"{finding.problem}, at {there.place}"
                self.findings[number] = replace(
                    finding, problem=text, expected=there.first, found=there.second
                )

    def _finding(self, out: str, name: str, place: Path, more: int) -> Finding:
        path, own = f"{out}/{name}", self.results.path / out / name
        others = f", and {more} other file{'s' * (more > 1)} differ" if more else ""
        reason = self._other_code(out)
        is_number = _rank(name)[0] < len(_NUMBERS)
        kind = "code" if reason else "recomputed"
        level: Level = "note" if reason and not is_number else "fault"
        made = f"made again with {reason}, it" if reason else "made again, it"
        if not (place / name).is_file() or not own.is_file():
            is_new = (place / name).is_file()
            text = f"{made} is {'there' if is_new else 'not there'}{others}"
            return Finding(path, kind, text, level=level)
        there = first_difference(place / name, own)
        if there is None:  # the file is what is made; the manifest lists another
            text = f"{made} is not what the manifest lists{others}"
            return Finding(path, kind, text, level=level)
        text = f"{made} differs at {there.place}{others}"
        return Finding(path, kind, text, there.first, there.second, level=level)

    def _add_to_manifest(self, out: str, found: Finding) -> None:
        """An artifact whose manifest was changed: the difference is part of that finding."""
        for number, finding in enumerate(self.findings):
            if finding.path == f"{out}/{MANIFEST}":
                name = found.path.removeprefix(f"{out}/")
                values = f" ({found.expected}, not {found.found})" if found.expected else ""
                text = f"{finding.problem}; {name}: {found.problem}{values}"
                self.findings[number] = replace(finding, problem=text)
                return

    def _other_code(self, out: str) -> str:
        """What of the code and the libraries is another than when an artifact was made."""
        artifact, provenance = self.chain.artifacts[out], self.results.provenance(out)
        known = provenance.get("versions", {})
        here = {name: version for name, version in versions().items() if name not in _APART}
        other = [
            f"{name} {version} instead of {known[name]}"
            for name, version in here.items()
            if known.get(name, version) != version
        ]
        spec = artifact.spec
        if spec.get("fingerprint") != fingerprint(*STAGES[artifact.stage]) or (
            spec.get("assets", assets_sha256()) != assets_sha256()
        ):
            other.insert(0, "other code")
        return ", ".join(other)


def _faulty(chain: Chain, findings: Collection[Finding]) -> set[str]:
    """Artifacts with a file that is not as it was."""
    paths = {finding.path for finding in findings if finding.level == "fault"}
    return {out for out in chain.artifacts if any(_is_in(path, out) for path in paths)}


def _is_in(path: str, out: str) -> bool:
    """Whether a place is in an artifact, or is above it."""
    return f"{path}/".startswith(f"{out}/") or out.startswith(f"{path}/")


def _rank(name: str) -> tuple[int, str]:
    suffix = Path(name).suffix
    return (_NUMBERS.index(suffix) if suffix in _NUMBERS else len(_NUMBERS), name)
