"""What differs between two pieces of JSON, such as specs, by their paths of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xstilts.artifacts.spec import canonical

#: The value of a key that one side does not have.
ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A value that differs, by its path of keys."""

    key: str
    old: Any = ABSENT
    new: Any = ABSENT

    def content(self) -> dict[str, Any]:
        """For JSON; what is absent on one side is left out."""
        sides = {"first": self.old, "second": self.new}
        return {"key": self.key, **{k: v for k, v in sides.items() if v is not ABSENT}}

    def __str__(self) -> str:
        if isinstance(self.old, list) and isinstance(self.new, list):
            return f"{self.key}: {_lists(self.old, self.new)}"
        return f"{self.key}: {shown(self.old)} -> {shown(self.new)}"


def shown(value: Any) -> str:
    """A value in a line for people."""
    if value is ABSENT:
        return "(absent)"
    text = canonical(value)
    return text if len(text) <= 70 else text[:69] + "…"


def _lists(old: Sequence[Any], new: Sequence[Any]) -> str:
    """Two lists in short: their lengths, and what only one of them has."""
    before, after = [canonical(item) for item in old], [canonical(item) for item in new]
    parts = [f"{len(old)} -> {len(new)} entries"]
    for sign, own, other in (("-", before, set(after)), ("+", after, set(before))):
        only = [item for item in own if item not in other]
        parts += [f"{sign} {item if len(item) <= 50 else item[:49] + '…'}" for item in only[:3]]
        parts += [f"{sign} … and {len(only) - 3} more"] if len(only) > 3 else []
    return ", ".join([*parts, *(["in another order"] if len(parts) == 1 else [])])


def changes(old: Any, new: Any, path: str = "") -> list[Change]:
    """Values that differ in two pieces of JSON, by their paths of keys; lists by named entries."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            at = f"{path}.{key}" if path else str(key)
            found += changes(old.get(key, ABSENT), new.get(key, ABSENT), at)
        return found
    named = [_by_name(value) for value in (old, new)]
    if named[0] is not None and named[1] is not None and named[0].keys() == named[1].keys():
        found = []
        for name in named[0]:
            found += changes(named[0][name], named[1][name], f"{path}[{name}]")
        if list(named[0]) == list(named[1]):
            return found
    if old is ABSENT or new is ABSENT or canonical(old) != canonical(new):
        return [Change(path, old, new)]
    return []


def _by_name(value: Any) -> dict[str, Any] | None:
    """Entries of a list by their names, where each has one of its own."""
    if not isinstance(value, list) or not value:
        return None
    for key in ("name", "code"):
        names = [str(item[key]) for item in value if isinstance(item, Mapping) and key in item]
        if len(set(names)) == len(value):
            return dict(zip(names, value, strict=True))
    return None
