"""What differs between two artifacts, and where in their chains the difference begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xstilts.artifacts.spec import canonical
from xstilts.audit.ancestry import Link, Reader, links_of
from xstilts.audit.changes import ABSENT, Change, changes, shown
from xstilts.audit.results import Artifact

#: Parts of a record that say in what something was made; the rest is when, where and how long.
_SURROUNDINGS = ("git", "versions", "environment", "device")
_OF_PLACE = ("environment.prefix", "device.host", "device.peak_gpu_bytes")


@dataclass(frozen=True)
class Pair:
    """Two artifacts that stand for each other.

    Attributes:
        first: The one, with its inputs.
        second: The other.
        spec: What differs in their specs, but for the code and the names of inputs.
        code: Both fingerprints, where they differ.
        inputs: Inputs of both that differ, in pairs.
        renamed: Inputs that only one of them has, or that have other names.
        files: Whether they have other files though nothing else differs.
    """

    first: Artifact
    second: Artifact
    spec: tuple[Change, ...]
    code: tuple[str, str] | None
    inputs: tuple[tuple[Link, Link], ...]
    renamed: tuple[Change, ...]
    files: bool

    @property
    def has_own_reason(self) -> bool:
        """Whether something besides its inputs differs."""
        return bool(self.spec or self.code or self.files or self.first.error or self.second.error)

    @property
    def is_other_kind(self) -> bool:
        """Whether they are of different stages, so that their specs have little in common."""
        stages = {self.first.stage, self.second.stage}
        return len(stages) > 1 and "" not in stages

    def reasons(self) -> list[str]:
        """Why they differ, besides their inputs, in words."""
        if self.is_other_kind:
            return [f"of another stage: {self.first.stage} -> {self.second.stage}"]
        sides = (("first", self.first), ("second", self.second))
        if lost := [side for side, artifact in sides if artifact.manifest is None]:
            return [f"the {side} has no manifest that can be used" for side in lost]
        found = [str(change) for change in self.spec]
        if self.code:
            found.append(f"code: {self.code[0]} -> {self.code[1]}")
        if self.files:
            found.append("other bytes from the same spec, code and inputs")
        return found


def is_same(first: Artifact, second: Artifact) -> bool:
    """Whether two artifacts are of the same spec, inputs and bytes, whatever they are called."""
    if first.manifest is None or second.manifest is None:
        return False
    mine, its = first.manifest, second.manifest
    return first.sha256 == second.sha256 or (
        canonical(mine.spec) == canonical(its.spec)
        and mine.inputs == its.inputs
        and mine.files == its.files
    )


def pair_of(left: Reader, one: str, right: Reader, other: str) -> Pair:
    """Two artifacts, and what differs between them."""
    first, second = left.read(one), right.read(other)
    if first.manifest is None or second.manifest is None:
        return Pair(first, second, (), None, (), (), files=False)
    found = changes(first.spec, second.spec)
    code = [change for change in found if change.key == "fingerprint"]
    paired, rest = _paired(links_of(first), links_of(second))
    inputs = tuple(
        (mine, its) for mine, its in paired if mine.recorded != its.recorded or not mine.recorded
    )
    names = tuple(change for change in found if change.key.partition(".")[0] == "inputs")
    # Names of inputs that are paired say nothing new: their contents are compared.
    lost = names if rest else ()
    own = [change for change in found if change not in code and change not in names]
    if first.is_index and second.is_index:  # it repeats the specs of its members
        own = [change for change in own if ABSENT in (change.old, change.new)]
    spec = (*_without_names(own, paired), *lost)
    return Pair(
        first,
        second,
        spec,
        (shown(code[0].old).strip('"'), shown(code[0].new).strip('"')) if code else None,
        inputs,
        names,
        first.manifest.files != second.manifest.files and not (spec or code or inputs),
    )


def _without_names(found: Sequence[Change], paired: Sequence[tuple[Link, Link]]) -> list[Change]:
    """Changes that are more than an input's other name: parts of a spec repeat those."""
    names = {(mine.out, its.out) for mine, its in paired}

    def is_name(change: Change) -> bool:
        old, new = change.old, change.new
        both = zip(old, new, strict=True) if _are_lists(old, new) else [(old, new)]
        return all(
            isinstance(one, str)
            and isinstance(other, str)
            and (one == other or (one, other) in names)
            for one, other in both
        )

    return [change for change in found if not is_name(change)]


def _are_lists(old: Any, new: Any) -> bool:
    return isinstance(old, list) and isinstance(new, list) and len(old) == len(new) > 0


def _paired(
    first: Sequence[Link], second: Sequence[Link]
) -> tuple[list[tuple[Link, Link]], list[Link]]:
    """Inputs of both in pairs, by their names, then in the order of their roles; and the rest."""
    others = {link.out: link for link in second}
    found = [(link, others[link.out]) for link in first if link.out in others]
    known = {mine.out for mine, _ in found}
    rest: list[Link] = []
    for role in dict.fromkeys(link.role for link in [*first, *second]):
        mine = [link for link in first if link.role == role and link.out not in known]
        its = [link for link in second if link.role == role and link.out not in known]
        if len(mine) == len(its):
            found += zip(mine, its, strict=True)
        else:
            rest += [*mine, *its]
    return found, rest


def differing(left: Reader, one: str, right: Reader, other: str) -> Iterator[Pair]:
    """Two artifacts and all their ancestors that differ in pairs, the artifacts first."""
    seen: set[tuple[str, str]] = set()
    waiting = [(one, other)]
    while waiting:
        names = waiting.pop(0)
        if names in seen:
            continue
        seen.add(names)
        if is_same(left.read(names[0]), right.read(names[1])):
            continue
        pair = pair_of(left, names[0], right, names[1])
        yield pair
        if not pair.is_other_kind:
            waiting += [(mine.out, its.out) for mine, its in pair.inputs]


def surroundings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    """What differs in the commit, the versions, the environment and the device of two records."""
    mine, its = ({name: made.get(name) for name in _SURROUNDINGS} for made in (first, second))
    return [change for change in changes(mine, its) if change.key not in _OF_PLACE]
