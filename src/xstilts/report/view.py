"""Tables as the templates draw them: every one is made of these, and drawn by one macro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xstilts.analysis.numbers import heat, interval, plain, signed


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: What stands in it.
        value: What it is sorted by; its text if None.
        href: Where it leads, from the root of the report.
        change: A signed change, in a second place.
        note: An interval or a spread, small; several lines have line breaks between them.
        heat: Step of its colour, see `numbers.heat`.
        code: The text is a name of the study, in the font of code.
    """

    text: str
    value: float | str | None = None
    href: str = ""
    change: str = ""
    note: str = ""
    heat: int | None = None
    code: bool = False

    @property
    def key(self) -> str:
        """What a script sorts by."""
        return self.text if self.value is None else str(self.value)


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: Its heading.
        numeric: Whether it holds numbers.
        href: Where its heading leads.
        edge: Whether a line stands before it.
    """

    title: str
    numeric: bool = False
    href: str = ""
    edge: bool = False

    @property
    def look(self) -> str:
        """Classes of its cells."""
        return " ".join(filter(None, ["num" * self.numeric, "edge" * self.edge]))


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows; also the name of the region that scrolls.
        columns: Its columns; the first holds the names of the rows.
        rows: Its rows.
        download: Its CSV file, from the root of the report.
        about: How to read it, below the caption.
        id: Its anchor.
        sortable: Whether its columns sort it.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    download: str = ""
    about: str = ""
    id: str = ""
    sortable: bool = True

    @property
    def changing(self) -> list[bool]:
        """Columns in which there are changes; those without one leave room for it."""
        return [any(row[place].change for row in self.rows) for place in range(len(self.columns))]


def score(
    mean: float | None,
    change: float | None,
    href: str,
    note: str = "",
    bounds: tuple[float | None, float | None] = (None, None),
) -> Cell:
    """A score with its change against `none`, coloured by the change."""
    if mean is None:
        return Cell(plain(None))
    shown = "" if change is None else signed(change)
    return Cell(
        text=plain(mean),
        value=round(mean, 6),
        href=href,
        change=shown,
        note=note or interval(*bounds),
        heat=heat(change),
    )
