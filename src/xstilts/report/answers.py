"""A page per question: what is said, figures, tables, what cannot be said, methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xstilts.analysis import numbers
from xstilts.analysis.answer import Answer, Column
from xstilts.analysis.answer import Table as AnswerTable
from xstilts.analysis.study import Row
from xstilts.report import view
from xstilts.report.material import Material
from xstilts.report.site import Site
from xstilts.report.view import Cell, Table

_NUMERIC = ("points", "gain", "number", "p", "n")
#: Rows of a table that a page holds: thousands take a browser minutes to check and to sort.
MOST_ROWS = 300
#: What stands below a value, and how the keys of its columns end (`Estimate.row`).
_BELOW = {
    "low": ("low", "lower"),
    "high": ("high", "upper"),
    "p": ("adjusted",),
    "verdict": ("verdict",),
}
_UNDECIDED = ("cannot be told apart", "cannot be said")


def write(site: Site, material: Material) -> None:
    """Write `questions.html` and `questions/<question>.html`."""
    if not material.answers:
        return
    site.write("questions.html", "questions.html", "Questions", answers=material.answers)
    for place, answer in enumerate(material.answers):
        others = material.answers
        site.write(
            f"questions/{answer.question}.html",
            "question.html",
            answer.title,
            answer=answer,
            tables={table.name: _table(material, answer, table) for table in answer.tables},
            before=others[place - 1] if place else None,
            after=others[place + 1] if place + 1 < len(others) else None,
        )


@dataclass(frozen=True)
class _Shown:
    """A column with those that stand below its number: bounds, corrected p-value, verdict."""

    column: Column
    below: Mapping[str, Column]


def _table(material: Material, answer: Answer, table: AnswerTable) -> Table:
    shown = _shown(material, table)
    caption = table.title
    if len(table.rows) > MOST_ROWS:
        caption += f" (the first {MOST_ROWS} of {len(table.rows):,} rows; the CSV has all)"
    return Table(
        caption=caption,
        columns=[view.Column(s.column.title, s.column.kind in _NUMERIC) for s in shown],
        rows=[[_cell(material, s, row) for s in shown] for row in table.rows[:MOST_ROWS]],
        download=f"files/analysis/{answer.question}/{table.name}.csv",
        id=f"table-{table.name}",
    )


def _shown(material: Material, table: AnswerTable) -> list[_Shown]:
    """The columns that are shown: bounds and tests below their value, and none that are empty.

    The one model of a study need not stand in every row either. The CSV file has everything.
    """
    by_key = {column.key: column for column in table.columns}
    below = {
        column.key: {
            part: by_key[name]
            for part, endings in _BELOW.items()
            for name in (f"{stem}{ending}" for stem in _stems(column.key) for ending in endings)
            if name in by_key
        }
        for column in table.columns
        if column.kind in ("points", "gain", "number", "n")
    }
    pairs = {key: found for key, found in below.items() if {"low", "high"} <= found.keys()}
    folded = {column.key for found in pairs.values() for column in found.values()}
    return [
        _Shown(column, pairs.get(column.key, {}))
        for column in table.columns
        if column.key not in folded
        and not (column.kind == "model" and _single(material))
        and any(row[column.key] not in (None, "") for row in table.rows)
    ]


def _stems(key: str) -> list[str]:
    """How the keys begin of what belongs to a value."""
    if key.endswith("value"):
        return [key.removesuffix("value")]
    return [f"{key}_", *([""] if key == "mean" else [])]


def _cell(material: Material, shown: _Shown, row: Row) -> Cell:
    column = shown.column
    value = row[column.key]
    if value is None:
        return Cell(numbers.ABSENT, "")
    if column.kind in _NUMERIC:
        return _number(material, shown, row, value)
    name = str(value)
    if column.kind == "model":
        title = material.model_title(name) if name in material.models else name
        return Cell(title)
    if column.kind == "recipe":
        known = name in material.recipes
        href = material.lineage(_model(material, row), name) if known else ""
        return Cell(name, href=href, code=known)
    if column.kind == "target" and name in material.targets:
        return Cell(material.target_title(name), href=f"targets/{name}.html")
    if column.kind == "language" and name in material.languages:
        return Cell(material.language_name(name), href=f"languages/{name}.html")
    return Cell(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _number(material: Material, shown: _Shown, row: Row, value: float) -> Cell:
    column, href = shown.column, ""
    if row.get("recipe") and column.kind in ("points", "gain"):
        target, seed = str(row.get("target") or ""), row.get("seed") or ""
        href = material.lineage(_model(material, row), str(row["recipe"]), target, seed)
    verdict = _below(shown, row, "verdict")
    # A colour speaks louder than words: what cannot be told apart from nothing has none.
    coloured = column.kind == "gain" and verdict not in _UNDECIDED
    return Cell(
        _text(column, value),
        value,
        href=href,
        note="\n".join(filter(None, [_bounds(shown, row), *_test(shown, row), verdict])),
        heat=numbers.heat(value) if coloured else None,
    )


def _text(column: Column, value: float) -> str:
    """A number as its column shows it."""
    if column.kind == "gain":
        return numbers.signed(value)
    if column.kind == "p":
        return numbers.p_value(value)
    if column.kind == "n":
        return numbers.whole(value)
    return numbers.plain(value, column.digits if column.kind == "number" else 1)


def _below(shown: _Shown, row: Row, part: str) -> Any:
    return row[shown.below[part].key] if part in shown.below else None


def _bounds(shown: _Shown, row: Row) -> str:
    low, high = _below(shown, row, "low"), _below(shown, row, "high")
    if low is None or high is None:
        return ""
    return f"[{_text(shown.column, low)}, {_text(shown.column, high)}]"


def _test(shown: _Shown, row: Row) -> Iterator[str]:
    p = _below(shown, row, "p")
    if p is not None:
        yield f"p\N{NO-BREAK SPACE}{numbers.p_value(p)}"


def _model(material: Material, row: Row) -> str:
    """The model of a row; the study's only one where the row names none."""
    return str(row.get("model") or (next(iter(material.models)) if _single(material) else ""))


def _single(material: Material) -> bool:
    return len(material.models) == 1
