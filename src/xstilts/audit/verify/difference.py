"""Where two files first differ, in the words of their format: a row and column, a key, a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

_TEXT = (".md", ".html", ".svg", ".js", ".css", ".txt", ".jsonl")
#: Characters of a value that are worth showing.
_SHOWN = 80


@dataclass(frozen=True)
class Difference:
    """The first place at which two files differ.

    Attributes:
        place: As ``rows[3].value``, ``row 4, gain``, ``line 7``, ``byte 120``.
        first: What the first file has there.
        second: What the second has.
    """

    place: str
    first: str
    second: str


def first_difference(first: Path, second: Path) -> Difference | None:
    """Compare two files; None where they have the same bytes.

    Args:
        first: A file.
        second: Another, of the same format; the name of `first` says which.
    """
    one, two = first.read_bytes(), second.read_bytes()
    if one == two:
        return None
    try:
        if first.suffix == ".json":
            return _values(json.loads(one), json.loads(two), "") or _bytes(one, two)
        if first.suffix == ".csv":
            return _rows(one.decode(), two.decode()) or _bytes(one, two)
        if first.suffix in _TEXT:
            return _lines(one.decode(), two.decode()) or _bytes(one, two)
    except (ValueError, csv.Error, RecursionError):
        pass  # one of them is broken: its bytes still differ somewhere
    return _bytes(one, two)


def _values(one: Any, two: Any, place: str) -> Difference | None:
    """The first key or position at which two values of JSON differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        pairs: Iterator[tuple[str, Any, Any]] = (
            (f"{place}.{key}".removeprefix("."), one.get(key, _ABSENT), two.get(key, _ABSENT))
            for key in {**one, **two}
        )
    elif isinstance(one, list) and isinstance(two, list):
        both = enumerate(zip_longest(one, two, fillvalue=_ABSENT))
        pairs = ((f"{place}[{number}]", *values) for number, values in both)
    elif type(one) is type(two) and one == two:
        return None
    else:
        return Difference(place, _shown(one), _shown(two))
    return next((found for name, a, b in pairs if (found := _values(a, b, name))), None)


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()


def _shown(value: Any) -> str:
    text = repr(value) if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _rows(one: str, two: str) -> Difference | None:
    """The first cell; the header is row 1."""
    first, second = (list(csv.reader(text.splitlines(keepends=True))) for text in (one, two))
    header = first[0] if first else []
    for number, (a, b) in enumerate(zip_longest(first, second), start=1):
        if a is None or b is None:
            return Difference(f"row {number}", _line(a), _line(b))
        for column, (x, y) in enumerate(zip_longest(a, b, fillvalue="")):
            if x != y:
                name = header[column] if column < len(header) else f"column {column + 1}"
                return Difference(f"row {number}, {name}", _cut(x), _cut(y))
    return None


def _line(row: list[str] | None) -> str:
    return "nothing" if row is None else _cut(",".join(row))


def _lines(one: str, two: str) -> Difference | None:
    both = zip_longest(one.split("\n"), two.split("\n"))
    for number, (a, b) in enumerate(both, start=1):
        if a != b:
            if a is None or b is None:
                return Difference(f"line {number}", *("nothing" if x is None else _cut(x)
                                                      for x in (a, b)))  # fmt: skip
            start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
            start = max(0, start - 20)
            return Difference(f"line {number}", _cut(a[start:]), _cut(b[start:]))
    return None


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _bytes(one: bytes, two: bytes) -> Difference:
    count = min(len(one), len(two))
    at = next((n for n in range(count) if one[n] != two[n]), count)
    shown = (f"0x{part[at]:02x}" if at < len(part) else "the end" for part in (one, two))
    return Difference(f"byte {at:,}", *shown)
