"""What of a study would be made differently today, from its plan and its results folder alone.

Snakemake's own records are not looked at: an artifact is told by its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from xstilts.artifacts.fingerprint import roots_of
from xstilts.artifacts.manifest import MANIFEST, Manifest, read_manifest, sha256_file
from xstilts.artifacts.record import versions
from xstilts.artifacts.spec import canonical
from xstilts.audit.changes import changes
from xstilts.audit.code import DRIVER_ONLY, Sources, why_code_differs
from xstilts.audit.results import Results
from xstilts.errors import InputError
from xstilts.plan import CHECK, CHECKED, Job, Plan
from xstilts.published import DATA, Published

#: missing: not made; damaged: its manifest cannot be used, or a file has another size; lost: files
#: are gone; spec: planned with other settings, data or inputs; code: made by other code; inputs:
#: made from other bytes of an input than lie there; index: a bundle's index is not of its members.
Kind = Literal["missing", "damaged", "lost", "spec", "code", "inputs", "index"]
#: Of them, those that say that something is gone and may come back as it was.
_GONE = {"missing", "lost"}


@dataclass(frozen=True)
class Reason:
    """Why an artifact would be made differently, or again.

    Attributes:
        kind: What is the matter.
        text: What it is, in words.
        details: Keys, modules, inputs or files.
    """

    kind: Kind
    text: str
    details: tuple[str, ...] = ()


@dataclass
class Verdicts:
    """What was found.

    Attributes:
        reasons: Why an artifact, or a bundle's index, is stale itself, by its folder.
        behind: What an artifact that is as planned stands on that is stale, by its folder.
        unneeded: Data that are gone and that nothing reads that must be made.
        runs: What Snakemake should run: folders of artifacts and of bundles' indexes.
        planned: How many artifacts the study has.
    """

    reasons: dict[str, list[Reason]] = field(default_factory=dict)
    behind: dict[str, list[str]] = field(default_factory=dict)
    unneeded: list[str] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    planned: int = 0

    def content(self) -> dict[str, Any]:
        """For JSON."""
        reasons = {out: [asdict(one) for one in found] for out, found in self.reasons.items()}
        return {
            "planned": self.planned,
            "stale": reasons,
            "behind": self.behind,
            "unneeded": self.unneeded,
            "runs": sorted(self.runs),
        }


class Judge:
    """Judges the artifacts of a plan as they lie in a results folder.

    Args:
        plan: The plan.
        results: The results folder.
        sources: Source trees of commits, to say which modules have changed.
    """

    def __init__(self, plan: Plan, results: Path, sources: Sources) -> None:
        self.plan, self.results, self.sources = plan, results, sources
        self.published = Published(plan, results)
        self._record = Results(results)
        self._code: dict[tuple[Any, ...], tuple[list[str], str]] = {}
        self._known: dict[str, str | None] = {}

    def judge(self) -> Verdicts:
        """Look at all artifacts and at what stands on what."""
        found = Verdicts(planned=len(self.plan.jobs))
        stale = {
            out: reasons for out, job in self.plan.jobs.items() if (reasons := self.reasons(job))
        }
        for out, bundle in self.plan.bundles.items():
            # What is the matter with a member is no second matter of the index.
            if not any(job.out in stale for job in bundle.members) and (own := self.of_index(out)):
                stale[out] = own
        found.runs = self._runs(stale)
        found.reasons = {out: why for out, why in stale.items() if self.run_of(out) in found.runs}
        found.unneeded = [out for out in stale if out not in found.reasons]
        found.behind = self._behind(found)
        return found

    def run_of(self, out: str) -> str:
        """The folder of what Snakemake runs to make an artifact."""
        return self.plan.bundle_of.get(out, out)

    # ---- one artifact

    def reasons(self, job: Job) -> list[Reason]:
        """Why an artifact is stale itself; nothing where it is whole and as planned."""
        if not (self.results / job.out / MANIFEST).exists():
            left = (self.results / job.out).is_dir()
            return [Reason("missing", f"is not there{', but files without a manifest' * left}")]
        try:
            made = read_manifest(self.results / job.out)
        except InputError as error:
            return [Reason("damaged", str(error))]
        return [*self._spec(job, made), *self._inputs(job, made), *self._files(job, made)]

    def _spec(self, job: Job, made: Manifest) -> Iterator[Reason]:
        if canonical(made.spec) == job.text:
            return
        differing = changes(made.spec, json.loads(job.text))
        other = [change for change in differing if change.key != "fingerprint"]
        if other:
            yield Reason("spec", "is planned with another spec", tuple(map(str, other)))
        if len(other) < len(differing):
            names, doubt = self._modules(job, made)
            yield Reason("code", "was made by other code" + (f" ({doubt})" if doubt else ""), names)

    def _modules(self, job: Job, made: Manifest) -> tuple[tuple[str, ...], str]:
        git = self._record.provenance(job.out).get("git", {})
        now, before = job.spec.get("fingerprint"), made.spec.get("fingerprint")
        key = (now, before, git.get("commit"), git.get("dirty"))
        if key not in self._code:
            self._code[key] = why_code_differs(self.sources, git, before, roots_of(now))
        names, doubt = self._code[key]
        return tuple(names), doubt

    def _inputs(self, job: Job, made: Manifest) -> Iterator[Reason]:
        """Inputs with another manifest than the recorded one; those that are gone speak up."""
        there = {name: self._sha256(name) for name in job.reads}
        other = [name for name, sha256 in there.items() if sha256 != made.inputs.get(name)]
        if other := [name for name in other if there[name] and name in made.inputs]:
            yield Reason("inputs", "was made from other bytes than lie there", tuple(other))

    def _files(self, job: Job, made: Manifest) -> Iterator[Reason]:
        lost, damaged = [], []
        for name, known in made.files.items():
            try:
                size = (self.results / job.out / name).stat().st_size
            except OSError:
                lost.append(name)
                continue
            if size != known["size"]:
                damaged.append(f"{name}: {known['size']} bytes -> {size}")
        if lost:
            yield Reason("lost", "has lost files", tuple(lost))
        if damaged:
            yield Reason("damaged", "has files of another size than recorded", tuple(damaged))

    def of_index(self, out: str) -> list[Reason]:
        """Why a bundle's index is stale itself."""
        if not (self.results / out / MANIFEST).exists():
            return [Reason("missing", "is not there")]
        try:
            made = read_manifest(self.results / out)
        except InputError as error:
            return [Reason("damaged", str(error))]
        bundle = self.plan.bundles[out]
        if lines := tuple(map(str, changes(made.spec, bundle.index))):
            return [Reason("index", "lists other members, or other specs of them", lines)]
        names = [job.out for job in bundle.members]
        other = tuple(name for name in names if self._sha256(name) != made.inputs.get(name))
        return [Reason("index", "lists other bytes of its members", other)] if other else []

    def _sha256(self, out: str) -> str | None:
        if out not in self._known:
            path = self.results / out / MANIFEST
            self._known[out] = sha256_file(path) if path.is_file() else None
        return self._known[out]

    # ---- what follows

    def _runs(self, stale: Mapping[str, list[Reason]]) -> set[str]:
        """What is to run: what is stale, what stands on it, and what these read and is gone.

        Data that are gone are put back when something reads them, and not before.
        """
        idle = {
            out
            for out, reasons in stale.items()
            if self._is_data(out) and all(reason.kind in _GONE for reason in reasons)
        }
        lying = {self.run_of(out) for out in stale}
        waiting = [self.run_of(out) for out in stale if out not in idle]
        found: set[str] = set()
        while waiting:
            run = waiting.pop()
            if run not in found:
                found.add(run)
                waiting += [name for name in self._above(run) if name in lying]
                waiting += [name for name in self._below[run] if not self._is_put_back(run, name)]
        return found

    def _is_data(self, out: str) -> bool:
        return (self.plan.bundles.get(out) or self.plan.jobs[out]).stage in DATA

    def _is_put_back(self, run: str, user: str) -> bool:
        """Whether a run only puts back what is gone, and its user stays as it is."""
        is_bundle = run in self.plan.bundles
        return is_bundle and self.published.only_lost(run) and not self.published.is_stale(user)

    def _above(self, run: str) -> list[str]:
        job = self.plan.bundles.get(run) or self.plan.jobs[run]
        check = [CHECK] if job.stage in CHECKED and CHECK in self.plan.jobs else []
        return [*self.plan.inputs(run), *check]

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        runs = [run.out for run in self.plan.runs]
        found: dict[str, list[str]] = {out: [] for out in runs}
        for out in runs:
            for name in self.plan.inputs(out):
                found[name].append(out)
        return found

    def _behind(self, found: Verdicts) -> dict[str, list[str]]:
        """Artifacts that are as planned and stand on what is made again."""
        again = {out for out in found.reasons if out in self.plan.jobs}
        behind: dict[str, list[str]] = {}
        graph = {out: job.inputs for out, job in self.plan.jobs.items()}
        for out in TopologicalSorter(graph).static_order():
            job = self.plan.jobs[out]
            causes = [name for name in job.inputs if name in again]
            if out not in again and causes and self.run_of(out) in found.runs:
                behind[out] = causes
                again.add(out)
        return behind

    def in_order(self, runs: Iterable[str]) -> list[str]:
        """What Snakemake runs, in an order in which it can."""
        wanted, graph = set(runs), {run.out: self.plan.inputs(run.out) for run in self.plan.runs}
        return [out for out in TopologicalSorter(graph).static_order() if out in wanted]


def library_changes(results: Path, jobs: Iterable[Job]) -> dict[str, dict[str, dict[str, Any]]]:
    """Libraries whose recorded versions are not those of this environment, by stage and package.

    They run nothing again by themselves. Each entry has `recorded`, the versions with the number
    of artifacts, and `now`, None where the package is not installed here.
    """
    now, record = versions(), Results(results)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for job in jobs:
        made = record.provenance(job.out).get("versions", {})
        for package, version in made.items():
            if package in DRIVER_ONLY or now.get(package) == version:
                continue
            entry = found.setdefault(job.stage, {}).setdefault(
                package, {"recorded": {}, "now": now.get(package)}
            )
            entry["recorded"][version] = entry["recorded"].get(version, 0) + 1
    return found
