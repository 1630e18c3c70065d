"""Everything that artifacts were made from, found from manifest to manifest.

What is missing, damaged, made again since, or goes in a circle is kept as a finding; the walk goes
on with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from xstilts.artifacts.manifest import MANIFEST, is_inside
from xstilts.audit.findings import Finding
from xstilts.audit.results import Artifact, Place, Results, locate
from xstilts.audit.shape import read_safely
from xstilts.errors import InputError, OtherVersion

#: Roles in the order in which a chain is told; others follow by name.
_FIRST = (
    *("predictions", "checkpoint", "layer", "model", "testset", "tokens", "tokenizer", "corpus"),
    *("translator", "prepared", "raw"),
)
_AGAIN = "Run snakemake again, or restore the folder from a copy"


@dataclass(frozen=True)
class Link:
    """An input of an artifact.

    Attributes:
        role: What it is to it (`checkpoint`, `tokens`, ...).
        out: Its folder.
        recorded: Sha256 of the manifest that it was made from; empty where that is not recorded.
    """

    role: str
    out: str
    recorded: str


def links_of(artifact: Artifact) -> list[Link]:
    """Inputs of an artifact, in the order in which a chain is told."""
    named = artifact.spec.get("inputs", {})
    roles = named.items() if isinstance(named, Mapping) else ()
    found: dict[str, Link] = {}
    for role, value in sorted(roles, key=lambda item: _order(item[0])):
        names = [value] if isinstance(value, str) else value
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str):
                found.setdefault(name, Link(role, name, artifact.inputs.get(name, "")))
    for name, sha256 in sorted(artifact.inputs.items()):
        found.setdefault(name, Link("input", name, sha256))
    return list(found.values())


def _order(role: str) -> tuple[int, str]:
    return (_FIRST.index(role) if role in _FIRST else len(_FIRST), role)


class Reader:
    """Manifests of a results folder, each read once and only when it is asked for."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.read = cache(self._read)
        self.provenance = cache(results.provenance)

    def _read(self, out: str) -> Artifact:
        if _leaves(self.results, out):
            problem = InputError(out, "leads out of the results folder")
            return Artifact(out, None, "", problem)
        return self.results.read(out)

    def problem(self, out: str) -> Finding | None:
        """What is wrong with an artifact's own manifest."""
        artifact = self.read(out)
        place = f"{out}/{MANIFEST}"
        if _leaves(self.results, out):
            return Finding(out, "outside", "leads out of the results folder")
        if artifact.manifest is None and not (self.results.path / place).exists():
            return Finding(out, "missing", "the artifact is missing", hint=_AGAIN)
        if artifact.error is not None:
            kind = "version" if isinstance(artifact.error, OtherVersion) else "manifest"
            kind = kind if artifact.sha256 else "unreadable"
            said = str(artifact.error).rpartition(f"{MANIFEST}: ")[2]
            return Finding(place, kind, said)
        if artifact.manifest is not None and artifact.manifest.artifact != out:
            said = "the manifest is that of another place"
            return Finding(place, "manifest", said, expected=out, found=artifact.manifest.artifact)
        return None


def _leaves(results: Results, out: str) -> bool:
    """Whether a name leads out of the results folder, by itself or through a link."""
    return not is_inside(out) or not (results.path / out).resolve().is_relative_to(results.path)


class Ancestry:
    """Artifacts and all that they were made from.

    Args:
        reader: Reads their manifests.
        starts: Their folders.

    Attributes:
        artifacts: By folder, in the order in which they are met.
        links: Inputs of each.
    """

    def __init__(self, reader: Reader, starts: Iterable[str]) -> None:
        self.reader = reader
        self.starts = list(dict.fromkeys(starts))
        self.artifacts: dict[str, Artifact] = {}
        self.links: dict[str, list[Link]] = {}
        waiting = list(reversed(self.starts))
        while waiting:
            out = waiting.pop()
            if out in self.artifacts:
                continue
            self.artifacts[out] = artifact = reader.read(out)
            self.links[out] = links_of(artifact)
            waiting += [link.out for link in reversed(self.links[out])]

    @cached_property
    def problems(self) -> dict[str, list[Finding]]:
        """What is wrong, by the artifact that it is said of."""
        found: dict[str, list[Finding]] = {out: [] for out in self.artifacts}
        for out in self.artifacts:
            if problem := self.reader.problem(out):
                found[out].append(problem)
            found[out] += [item for link in self.links[out] if (item := self.mismatch(out, link))]
        for out, around in self._loops():
            circle = " from ".join([out, *around])
            found[out].append(Finding(out, "loop", f"is made from itself: {circle}"))
        return found

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong, in the order in which artifacts are met."""
        return [finding for found in self.problems.values() for finding in found]

    @cached_property
    def troubled(self) -> set[str]:
        """Artifacts with something wrong in themselves or in what they were made from."""
        users: dict[str, list[str]] = {}
        for out, links in self.links.items():
            for link in links:
                users.setdefault(link.out, []).append(out)
        found: set[str] = set()
        waiting = [out for out, problems in self.problems.items() if problems]
        while waiting:
            out = waiting.pop()
            if out not in found:
                found.add(out)
                waiting += users.get(out, ())
        return found

    def mismatch(self, out: str, link: Link) -> Finding | None:
        """Whether an input is another one than was recorded when it was used."""
        there = self.artifacts[link.out].sha256
        if not there or there == link.recorded:
            return None
        if not link.recorded:
            said = f"does not record the manifest of its input {link.out}"
            return Finding(out, "manifest", said)
        return Finding(
            out,
            "input",
            f"was made from another manifest of {link.out} than lies there",
            expected=link.recorded,
            found=there,
        )

    def _loops(self) -> Iterator[tuple[str, list[str]]]:
        """Artifacts that are made from themselves, each with the way round; a circle once."""
        done: set[str] = set()
        for start in self.artifacts:
            path: list[str] = []
            waiting = [(start, 0)]
            while waiting:
                out, depth = waiting.pop()
                del path[depth:]
                if out in path:
                    yield out, [*path[path.index(out) + 1 :], out]
                elif out not in done:
                    done.add(out)
                    path.append(out)
                    waiting += [(link.out, len(path)) for link in self.links[out]]


def place_of(path: Path) -> Place:
    """`locate`, that says what is wrong with the manifest where that is why it fails.

    Raises:
        InputError: If the path belongs to no results folder.
    """
    try:
        return locate(path)
    except InputError:
        full = path.resolve()
        for folder in (full, *full.parents):
            if (folder / MANIFEST).is_file():
                read_safely(folder)
        raise
