"""What differs between two results folders: artifacts, why, from where on, and what it did."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from xstilts.artifacts.root import read_root
from xstilts.audit.ancestry import Reader
from xstilts.audit.changes import Change, changes
from xstilts.audit.diff.differing import Pair, is_same, pair_of
from xstilts.audit.diff.moved import mean_of
from xstilts.audit.results import Results
from xstilts.errors import InputError

Facts = dict[str, Any]


@dataclass(frozen=True)
class Cause:
    """Why artifacts differ, besides their inputs.

    Attributes:
        reasons: In words.
        begins: Artifacts with these reasons and the same inputs: the difference begins there.
        further: Artifacts with these reasons and other inputs.
    """

    reasons: tuple[str, ...]
    begins: tuple[str, ...]
    further: tuple[str, ...]

    def content(self) -> Facts:
        """For JSON."""
        names = {"begins": list(self.begins), "further": list(self.further)}
        return {"reasons": list(self.reasons), **names}


class Comparison:
    """Two results folders side by side.

    Args:
        first: The one.
        second: The other.
    """

    def __init__(self, first: Results, second: Results) -> None:
        self.left, self.right = Reader(first), Reader(second)
        mine, its = first.artifacts, second.artifacts
        self.only_first = sorted(mine.keys() - its.keys())
        self.only_second = sorted(its.keys() - mine.keys())
        self.both = sorted(mine.keys() & its.keys())
        self.different = [
            out for out in self.both if not is_same(self.left.read(out), self.right.read(out))
        ]

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same artifacts, of studies of the same content."""
        return not (self.only_first or self.only_second or self.different or self.content_changes)

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """What differs between artifacts of the same name."""
        return {out: pair_of(self.left, out, self.right, out) for out in self.different}

    @cached_property
    def causes(self) -> list[Cause]:
        """Why artifacts differ: those that begin first, then by how many artifacts have it."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for out, pair in self.pairs.items():
            if pair.has_own_reason:
                groups.setdefault(tuple(pair.reasons()), []).append(out)
        found = [
            Cause(
                reasons,
                tuple(out for out in outs if not self.pairs[out].inputs),
                tuple(out for out in outs if self.pairs[out].inputs),
            )
            for reasons, outs in groups.items()
        ]
        size = {cause: len(cause.begins) + len(cause.further) for cause in found}
        return sorted(found, key=lambda cause: (not cause.begins, -size[cause], cause.reasons))

    @property
    def following(self) -> list[str]:
        """Artifacts that differ only because their inputs do."""
        return [out for out, pair in self.pairs.items() if not pair.has_own_reason]

    @cached_property
    def stages(self) -> dict[str, Counter[str]]:
        """Artifacts by stage: how many are the same, differ, or are only in one."""
        found: dict[str, Counter[str]] = {}
        known = {out: "different" for out in self.different}
        known |= {out: "only in first" for out in self.only_first}
        known |= {out: "only in second" for out in self.only_second}
        for out in sorted({*self.both, *known}):
            reader = self.right if out in self.only_second else self.left
            artifact = reader.read(out)
            stage = f"{artifact.stage or '(unknown)'}{' (index)' if artifact.is_index else ''}"
            found.setdefault(stage, Counter())[known.get(out, "same")] += 1
        return dict(sorted(found.items()))

    # ---- what the studies are

    @cached_property
    def content_changes(self) -> list[Change]:
        """What differs in the content of the studies, as their root manifests have it."""
        mine, its = self._root(self.left), self._root(self.right)
        return changes(mine, its) if mine is not None and its is not None else []

    @property
    def without_root(self) -> list[str]:
        """Which of the folders has no root manifest that can be used."""
        readers = {"first": self.left, "second": self.right}
        return [name for name, reader in readers.items() if self._root(reader) is None]

    def _root(self, reader: Reader) -> Mapping[str, Any] | None:
        try:
            root = read_root(reader.results.path)
        except InputError:
            return None
        return root.content if root else None

    @cached_property
    def made_with(self) -> list[Facts]:
        """Versions, environments, devices and commits that only differ in one of the folders."""
        mine, its = (self._made_with(reader) for reader in (self.left, self.right))
        return [
            {"key": key, "first": sorted(mine.get(key, ())), "second": sorted(its.get(key, ()))}
            for key in sorted({*mine, *its})
            if mine.get(key) != its.get(key)
        ]

    def _made_with(self, reader: Reader) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for out in reader.results.artifacts:
            made = reader.provenance(out)
            for part, names in _MADE.items():
                values = made.get(part, {})
                for name in names or values:
                    if name in values:
                        text = values[name]
                        text = text if isinstance(text, str) else json.dumps(text, sort_keys=True)
                        found.setdefault(f"{part}.{name}", set()).add(text)
        return found

    # ---- numbers

    @cached_property
    def moved(self) -> list[Facts]:
        """Means over languages and seeds that differ, by model, recipe and target, largest first.

        Only languages and seeds that both have.
        """
        cells: dict[tuple[str, str, str], list[Facts]] = {}
        for out in self.different:
            parts = out.split("/")
            if parts[0] == "scores" and len(parts) == 5 and (mean := self._mean(out)):
                cells.setdefault((parts[1], parts[2], parts[4]), []).append(mean)
        for out in self.both:
            parts = out.split("/")
            key = (
                (parts[1], parts[2], parts[4]) if parts[0] == "scores" and len(parts) == 5 else None
            )
            if key in cells and out not in self.different and (mean := self._mean(out)):
                cells[key].append(mean)
        rows = [_row(key, means) for key, means in cells.items()]
        return sorted(rows, key=lambda row: (-abs(row["difference"]), _name(row)))

    def _mean(self, out: str) -> Facts | None:
        try:
            contents = [
                json.loads((reader.results.path / out / "scores.json").read_text(encoding="utf-8"))
                for reader in (self.left, self.right)
            ]
            return mean_of(contents[0], contents[1])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None  # what cannot be read has no numbers; its manifest is compared all the same

    def content(self) -> Facts:
        """Everything, for JSON."""
        return {
            "equal": self.is_equal,
            "stages": {stage: dict(counts) for stage, counts in self.stages.items()},
            "causes": [cause.content() for cause in self.causes],
            "following": self.following,
            "only_in_first": self.only_first,
            "only_in_second": self.only_second,
            "different": {
                out: {
                    "reasons": pair.reasons(),
                    "spec": [change.content() for change in pair.spec],
                    "code": pair.code,
                    "inputs": [mine.out for mine, _ in pair.inputs],
                }
                for out, pair in self.pairs.items()
            },
            "moved": self.moved,
            "made_with": self.made_with,
            "study": [change.content() for change in self.content_changes],
            "without_root": self.without_root,
        }


#: Parts of a record that say in what something was made; None for all that they have.
_MADE: dict[str, Sequence[str] | None] = {
    "git": ("commit", "dirty"),
    "versions": None,
    "environment": ("kind", "image", "labels"),
    "device": ("gpu", "cuda", "platform"),
}


def _row(key: tuple[str, str, str], means: Iterable[Facts]) -> Facts:
    found = list(means)
    before, after = (fmean(mean[side] for mean in found) for side in ("first", "second"))
    return {
        **dict(zip(("model", "recipe", "target"), key, strict=True)),
        "seeds": len(found),
        "metric": found[0]["metric"],
        "languages": found[0]["languages"],
        "first": before,
        "second": after,
        "difference": after - before,
    }


def _name(row: Facts) -> tuple[str, str, str]:
    return row["model"], row["recipe"], row["target"]
