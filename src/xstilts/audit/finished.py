"""A finished study: its root manifest, and artifacts that are what it says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xstilts.artifacts.manifest import is_inside
from xstilts.artifacts.root import ROOT, Root, describe, read_root
from xstilts.audit.results import Artifact, Results
from xstilts.errors import InputError


@dataclass(frozen=True)
class Finished:
    """A finished study.

    Attributes:
        results: Its results folder.
        root: Its root manifest.
        artifacts: What the root manifest lists, the indexes of bundles too, by folder.
    """

    results: Results
    root: Root
    artifacts: Mapping[str, Artifact]

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The record of each artifact's making."""
        return {out: self.results.provenance(out) for out in self.artifacts}

    def started(self, out: str) -> str | None:
        """When the making of an artifact began, its first attempt's (ISO 8601, UTC)."""
        return min(self._times(out, "start"), default=None)

    def ended(self, out: str) -> str | None:
        """When the making of an artifact ended (ISO 8601, UTC)."""
        return max(self._times(out, "end"), default=None)

    def _times(self, out: str, key: str) -> list[str]:
        return [str(row[key]) for row in self.records[out].get("attempts", ()) if key in row]

    @cached_property
    def end(self) -> str | None:
        """When the last artifact was made (ISO 8601, UTC)."""
        return max(filter(None, map(self.ended, self.artifacts)), default=None)

    @cached_property
    def start(self) -> str | None:
        """When the first artifact was begun (ISO 8601, UTC)."""
        return min(filter(None, map(self.started, self.artifacts)), default=None)

    def of(self, *stages: str) -> dict[str, Artifact]:
        """Artifacts of some stages; no indexes."""
        return {
            out: item
            for out, item in self.artifacts.items()
            if item.stage in stages and not item.is_index
        }

    @cached_property
    def datasets(self) -> Mapping[str, Mapping[str, Any]]:
        """Title, licence and notes of the data sets, as the report's spec holds them."""
        reports = self.of("report").values()
        return {name: row for item in reports for name, row in item.spec["datasets"].items()}


def agreed_root(results: Results) -> Root:
    """The root manifest of a results folder, which says what lies there.

    Raises:
        InputError: If there is none, or if it is not of the artifacts that lie there.
    """
    root = read_root(results.path)
    if root is None:
        raise InputError(
            str(results.path / ROOT),
            "is missing",
            hint="Run snakemake to the end: it writes this file when everything is made",
        )
    found = describe(results.path, root.artifacts)
    others = [out for out, known in root.artifacts.items() if found.get(out) != known]
    if others:
        raise InputError(
            str(results.path / ROOT),
            f"does not say what lies there: {len(others)} artifacts have another manifest or "
            f"record, or none",
            found=shortened(others),
            hint="`xstilts audit verify` says what is wrong; snakemake makes it again",
        )
    return root


def finished(results: Results) -> Finished:
    """Read a finished study, every manifest and the size of every file.

    Raises:
        InputError: If it is not finished, or if something of it is damaged.
    """
    root = agreed_root(results)
    study = Finished(results, root, {out: results.read(out) for out in sorted(root.artifacts)})
    if found := list(_problems(study)):
        raise InputError(
            str(results.path),
            f"{len(found)} faults keep it from being exported",
            found=shortened(found),
            hint="`xstilts audit verify` lists all of them",
        )
    return study


def _problems(study: Finished) -> Iterator[str]:
    """What is wrong with a study's artifacts, as far as can be told without reading files."""
    for out, item in study.artifacts.items():
        if item.manifest is None:
            yield str(item.error)
            continue
        if item.manifest.artifact != out:
            yield f"{out}: its manifest is that of {item.manifest.artifact}"
        for name, sha256 in item.inputs.items():
            if name in study.artifacts and study.artifacts[name].sha256 != sha256:
                yield f"{out}: was made from another {name}"
        for name, known in item.manifest.files.items():
            if problem := _wrong(study.results, out, name, known):
                yield f"{out}/{name}: {problem}"


def _wrong(results: Results, out: str, name: str, known: Mapping[str, Any]) -> str:
    """What is wrong with a file; empty where nothing is."""
    if not is_inside(name):
        return "leads out of its artifact"
    try:
        found = os.lstat(results.path / out / name)
    except OSError as error:
        return str(error.strerror)
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    return "" if found.st_size == known["size"] else "has another size than in its manifest"


def shortened(names: list[str], most: int = 5) -> str:
    """The first of some names, and how many there are beside them."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
