"""The answer to one question: paragraphs made from numbers, tables and figures, as files.

A module of a question gives an :class:`Answer`; the analyse stage writes it, and the report reads
it again with :func:`read_answer`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xstilts.analysis.study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ANSWER = "answer.json"
#: How a column is shown: names of the study, points (one decimal), signed points, a number with so
#: many digits as `digits` says, a p-value, a whole number.
Kind = Literal[
    "text", "model", "recipe", "target", "language", "points", "gain", "number", "p", "n"
]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Its name in the CSV file and in the rows.
        title: Its heading.
        kind: How its values are shown, and linked: a row with the columns `model`, `recipe` and
            `target` (and `language`, `seed`) leads to the scores behind its numbers.
        digits: Decimals of a `number`.
    """

    key: str
    title: str
    kind: Kind = "text"
    digits: int = 2


@dataclass(frozen=True)
class Table:
    """Rows of an answer, written as `<name>.csv`; values are numbers as they are, None is blank."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Figure:
    """A figure of an answer, written as `<name>.svg`.

    Attributes:
        name: Its file, without ending.
        title: What it shows, for a caption.
        alt: What one who cannot see it has to know: what is on the axes, and what it shows.
        table: The table that holds its numbers.
        draw: Draws it on an empty figure (`analysis.figures` has the style); None in an answer that
            was read from files.
        size: Width and height in inches.
    """

    name: str
    title: str
    alt: str
    table: str
    draw: Callable[[Canvas], None] | None = None
    size: tuple[float, float] = (7.0, 4.0)


@dataclass(frozen=True)
class Answer:
    """What a study answers to a question.

    Attributes:
        question: Its short name, also of its folder: `tasks`, `robustness`, `distance`, `number`,
            `reasoning`, `prediction`, `published`.
        title: The question.
        says: Paragraphs, plain text, made from the numbers. Empty where the study cannot answer.
        cannot: What the study cannot say, and why; each a sentence.
        methods: How it was computed: sentences for a methods section.
        tables: By order of importance; the first is shown first.
        figures: Likewise.
    """

    question: str
    title: str
    says: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = field(default=())


def write_answer(answer: Answer, folder: Path) -> None:
    """Write an answer into a folder: `answer.json`, a CSV per table, an SVG per figure.

    The first figure has the question's name, which Snakemake's report asks for: without figures it
    says why there is none.
    """
    from xstilts.analysis.figures import save, save_text

    folder.mkdir(parents=True, exist_ok=True)
    first = folder / f"{answer.question}.svg"
    if not answer.figures:
        save_text(" ".join(answer.cannot) or "No figure.", first)
    elif answer.figures[0].name != answer.question:
        raise ValueError(f"the first figure of {answer.question!r} must have its name")
    for table in answer.tables:
        _write_table(table, folder)
    for figure in answer.figures:
        assert figure.draw is not None
        save(figure.draw, figure.size, folder / f"{figure.name}.svg")
    text = json.dumps(_content(answer), ensure_ascii=False, indent=1)
    (folder / ANSWER).write_text(text + "\n", encoding="utf-8")


def _write_table(table: Table, folder: Path) -> None:
    keys = [column.key for column in table.columns]
    with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, keys, restval="", lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table.rows)


def _content(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question,
        "title": answer.title,
        "says": answer.says,
        "cannot": answer.cannot,
        "methods": answer.methods,
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "columns": [vars(column) for column in table.columns],
                "rows": [[row.get(column.key) for column in table.columns] for row in table.rows],
            }
            for table in answer.tables
        ],
        "figures": [
            {
                "name": figure.name,
                "title": figure.title,
                "alt": figure.alt,
                "table": figure.table,
                "size": figure.size,
            }
            for figure in answer.figures
        ],
    }


def read_answer(path: Path) -> Answer:
    """Read what :func:`write_answer` wrote, without what draws the figures."""
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    tables = []
    for table in content["tables"]:
        columns = tuple(Column(**column) for column in table["columns"])
        keys = [column.key for column in columns]
        rows = [dict(zip(keys, values, strict=True)) for values in table["rows"]]
        tables.append(Table(table["name"], table["title"], columns, rows))
    return Answer(
        question=content["question"],
        title=content["title"],
        says=tuple(content["says"]),
        cannot=tuple(content["cannot"]),
        methods=tuple(content["methods"]),
        tables=tuple(tables),
        figures=tuple(
            Figure(**{**figure, "size": tuple(figure["size"])}) for figure in content["figures"]
        ),
    )
