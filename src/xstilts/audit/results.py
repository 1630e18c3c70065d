"""A results folder as it lies on disk, read and never written; faults are kept, not raised."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, Manifest, sha256_file
from xstilts.artifacts.record import PROVENANCE
from xstilts.audit.shape import read_safely, record_of
from xstilts.cluster.driver import FILE as DRIVER
from xstilts.cluster.inventory import LOGS, NOTES, SNAKEMAKE, STATE
from xstilts.errors import InputError

#: In an archive: what was left out, files of the repository, the description of an RO-Crate.
REFERENCES, SOURCES, CRATE = "references.json", "sources", "ro-crate-metadata.json"
#: What of a results folder is no artifact and decides no number: it is not looked at.
APART = frozenset({SNAKEMAKE, STATE, LOGS, DRIVER, *NOTES, REFERENCES, SOURCES, CRATE})


@dataclass(frozen=True)
class Artifact:
    """A folder with a manifest.

    Attributes:
        out: Its place below the results folder.
        manifest: Its manifest; None where that cannot be used.
        sha256: Of the manifest's bytes; empty where they cannot be read.
        error: Why the manifest cannot be used.
    """

    out: str
    manifest: Manifest | None
    sha256: str
    error: InputError | None = None

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its spec; empty where that is not known."""
        return self.manifest.spec if self.manifest else {}

    @property
    def stage(self) -> str:
        """Its stage; empty where that is not known."""
        return str(self.spec.get("stage", ""))

    @property
    def is_index(self) -> bool:
        """Whether it is the index of a bundle."""
        return "members" in self.spec

    @property
    def inputs(self) -> Mapping[str, str]:
        """Sha256 of the manifests it was made from, by their folders."""
        return self.manifest.inputs if self.manifest else {}

    def roles(self) -> dict[str, list[str]]:
        """Folders it was made from, by what they are to it (`checkpoint`, `tokens`, ...)."""
        named = self.spec.get("inputs", {})
        return {
            role: [value] if isinstance(value, str) else list(dict.fromkeys(value))
            for role, value in named.items()
        }


@dataclass(frozen=True)
class Place:
    """A path inside a results folder.

    Attributes:
        results: The results folder.
        out: The artifact that it lies in; empty for the results folder itself.
        file: The file below the artifact; empty for the artifact itself.
    """

    results: Results
    out: str = ""
    file: str = ""


class Results:
    """A results folder.

    Args:
        path: The folder; see `open_results`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """All artifacts, by their place, in its order."""
        found = (folder.relative_to(self.path).as_posix() for folder in _folders(self.path))
        return {out: self.read(out) for out in sorted(found)}

    def read(self, out: str) -> Artifact:
        """What lies in an artifact's folder now."""
        folder = self.path / out
        sha256 = ""
        try:
            if (folder / MANIFEST).is_file():  # a FIFO would be waited for
                sha256 = sha256_file(folder / MANIFEST)
            return Artifact(out, read_safely(folder), sha256)
        except OSError as error:
            problem = InputError(f"{out}/{MANIFEST}", f"cannot be read ({error.strerror})")
            return Artifact(out, None, "", problem)
        except InputError as error:
            return Artifact(out, None, sha256, error)

    def provenance(self, out: str) -> dict[str, Any]:
        """The record of an artifact's making; empty where there is none that can be read.

        Values of other kinds than a record has are left out.
        """
        path = self.path / out / PROVENANCE
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return record_of(content)


def _folders(results: Path) -> Iterator[Path]:
    """Folders with a manifest; links are not followed, and no artifact lies in another."""
    waiting = [results]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        if any(entry.name == MANIFEST for entry in entries) and folder != results:
            yield folder
            continue
        apart = APART if folder == results else frozenset[str]()
        waiting += [
            Path(entry.path)
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
            and entry.name not in apart
            and not entry.name.startswith(".")
        ]


def open_results(path: Path) -> Results:
    """Open a results folder.

    Raises:
        InputError: If the path is none.
    """
    place = locate(path)
    if place.out:
        raise InputError(
            str(path),
            "is inside a results folder",
            expected=f"the folder itself, {place.results.path}",
        )
    return place.results


def locate(path: Path) -> Place:
    """Find the results folder, the artifact and the file that a path names.

    Raises:
        InputError: If there is nothing, or it belongs to no results folder.
    """
    if not os.path.lexists(path):
        raise InputError(str(path), "there is no such file or folder")
    full = path.parent.resolve() / path.name if path.is_symlink() else path.resolve()
    for folder in (full, *full.parents):
        if (folder / MANIFEST).is_file() and (results := _results_of(folder)):
            out = folder.relative_to(results).as_posix()
            file = full.relative_to(folder).as_posix()
            return Place(Results(results), out, "" if file == "." else file)
    if full.is_dir() and any(_is_home(full, folder) for folder in _folders(full)):
        return Place(Results(full))
    raise InputError(
        str(path),
        "is no results folder, and lies in no artifact of one",
        expected="a folder such as results/STUDY, or a file in it",
    )


def _results_of(folder: Path) -> Path | None:
    """The results folder of an artifact, by the name that its manifest gives it."""
    try:
        parts = Path(read_safely(folder).artifact).parts
    except InputError:
        return None
    return folder.parents[len(parts) - 1] if folder.parts[-len(parts) :] == parts else None


def _is_home(results: Path, folder: Path) -> bool:
    return _results_of(folder) == results
