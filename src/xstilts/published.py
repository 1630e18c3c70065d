"""What lies in the results folder, beside what is planned: stale, lost, as it should be.

Snakemake sees manifests of artifacts and indexes of bundles. What it does not see, files that got
lost and members of bundles, is looked at here, when the Snakefile is parsed. Nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path

from xstilts.artifacts.manifest import MANIFEST, Manifest, read_manifest, sha256_file
from xstilts.artifacts.spec import canonical
from xstilts.errors import InputError
from xstilts.plan import REPORT, Job, Plan

#: Stages of data, which are large and which nobody reads once the tables are made.
DATA = ("fetch", "prepare", "tokens", "testset")


class Published:
    """The artifacts of a plan as they lie on disk; each is looked at once.

    Args:
        plan: The plan.
        results: The results folder.
    """

    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results = plan, results
        # Each of them is asked for by many jobs.
        self.is_stale = cache(self._is_stale)
        self.is_broken = cache(self._is_broken)
        # All of them would fill the memory; an index is asked for several times in a row.
        self._manifest = lru_cache(4)(self._read_manifest)
        self._sha256 = cache(self._sha256_of_manifest)
        self.must_mend = cache(self._must_mend)
        self._is_settled = cache(self._settled)
        self._is_index = cache(self._has_index)
        self._lost = cache(self._lost_files)

    def lost(self) -> list[str]:
        """Published artifacts that have lost files, but for those of bundles.

        Snakemake looks at manifests only: with each other file of thousands of jobs a plan takes
        longer.

        Raises:
            InputError: If a manifest is broken.
        """
        alone = (out for out in self.plan.jobs if out not in self.plan.bundle_of)
        return [out for out in alone if self._lost(out)]

    def _is_stale(self, out: str) -> bool:
        """Whether what lies in a folder is not what is planned for it, or not whole.

        Stale artifacts further up are not looked for.

        Args:
            out: Folder of an artifact, or of a bundle's index.
        """
        if bundle := self.plan.bundles.get(out):
            return (
                not self._is_index(out)
                or self.is_broken(out)
                or any(map(self._has_other_inputs, bundle.members))
            )
        job = self.plan.jobs[out]
        made = self._manifest(out)
        return (
            made is None
            or canonical(made.spec) != job.text
            or any(self._expected(name) != made.inputs.get(name) for name in job.inputs)
            or bool(self._lost(out))
        )

    def _has_other_inputs(self, job: Job) -> bool:
        """Whether a member was made from other inputs than lie there.

        Its index says that it is as planned and that its manifest is the one that was written.
        """
        made = json.loads((self.results / job.out / MANIFEST).read_bytes())["inputs"]
        return any(self._expected(name) != made.get(name) for name in job.inputs)

    def _is_broken(self, out: str) -> bool:
        """Whether members of a bundle's index are not those that lie there, or have lost files."""
        made = self._manifest(out)
        if made is None:
            return (self.results / out / MANIFEST).exists()
        try:
            lost = any(self._lost(job.out) for job in self.plan.bundles[out].members)
        except InputError:
            return True
        return lost or not self._are(made.inputs)

    def _must_mend(self, out: str) -> bool:
        """Whether a bundle is broken and must run. Data are put back when something reads them."""
        if not self.is_broken(out):
            return False
        bundle = self.plan.bundles[out]
        if bundle.stage not in DATA:
            return True
        return any(self._runs(user) for job in bundle.members for user in self._users[job.out])

    def _runs(self, out: str) -> bool:
        """Whether an artifact will be made."""
        if self._is_gone(out):
            return self.must_mend(self.plan.bundle_of[out])
        return self.is_stale(out) or not all(map(self._is_settled, self._above(out)))

    def is_finished(self) -> bool:
        """Whether everything that is planned lies there as it is planned."""
        return self._is_settled(REPORT) and not self.lost()

    def is_outdated(self, out: str) -> bool:
        """Whether an artifact lies there and is not what is planned."""
        return (self.results / out / MANIFEST).exists() and self.is_stale(out)

    @cached_property
    def _users(self) -> dict[str, list[str]]:
        """Artifacts that read an artifact."""
        found: dict[str, list[str]] = {out: [] for out in self.plan.jobs}
        for job in self.plan.jobs.values():
            for name in job.reads:
                found[name].append(job.out)
        return found

    def only_lost(self, out: str) -> bool:
        """Whether a bundle must run for nothing but lost files, which it will make as they were."""
        if not (self.is_broken(out) and self._is_index(out)):
            return False
        made = read_manifest(self.results / out).inputs
        there = {name: sha256 for name, sha256 in made.items() if self._sha256(name)}
        return self._are(there) and all(map(self._is_settled, self._above(out)))

    def _settled(self, out: str) -> bool:
        """Whether nothing at or above an artifact is stale; what is put back as it was is not."""
        stale = self.is_stale(out) and not self._is_gone(out)
        return not stale and all(map(self._is_settled, self._above(out)))

    def _above(self, out: str) -> list[str]:
        return (self.plan.bundles.get(out) or self.plan.jobs[out]).inputs

    def _has_index(self, out: str) -> bool:
        """Whether a bundle's index is of the specs that are planned."""
        made = self._manifest(out)
        return made is not None and canonical(made.spec) == canonical(self.plan.bundles[out].index)

    def _expected(self, out: str) -> str | None:
        """Sha256 of an artifact's manifest; of a lost one, which will be put back, by its index."""
        index = self.plan.bundle_of.get(out)
        lost = self._manifest(index) if index and self._sha256(out) is None else None
        return lost.inputs.get(out) if lost else self._sha256(out)

    def _is_gone(self, out: str) -> bool:
        """Whether an artifact is lost whose bundle would put it back."""
        index = self.plan.bundle_of.get(out)
        return index is not None and self._sha256(out) is None and self._is_index(index)

    def _are(self, known: Mapping[str, str | None]) -> bool:
        """Whether artifacts have the manifests that are known of them by their sha256."""
        return all(self._sha256(name) == sha256 is not None for name, sha256 in known.items())

    def _sha256_of_manifest(self, out: str) -> str | None:
        path = self.results / out / MANIFEST
        return sha256_file(path) if path.exists() else None

    def _read_manifest(self, out: str) -> Manifest | None:
        try:
            return read_manifest(self.results / out)
        except InputError:
            return None

    def _lost_files(self, out: str) -> set[str]:
        """Files that an artifact's manifest lists and that are gone."""
        names, folder = self.plan.jobs[out].files, self.results / out
        if not names or not (folder / MANIFEST).exists():
            return set()
        absent = set(names) - set(os.listdir(folder))  # one look for a file per language
        absent = {name for name in absent if "/" not in name or not (folder / name).exists()}
        # Where the job has grown (a language more), what is absent was never there.
        return absent & read_manifest(folder).files.keys() if absent else set()
