"""Small figures as inline SVG: gains by language as dots, retrieval by hidden state as lines.

Colours and markers are those of `analysis.figures`; every series has a marker of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from xstilts.analysis.figures import look
from xstilts.analysis.numbers import counted, plain, signed

#: Units of the drawings.
WIDTH = 760
_LEFT, _RIGHT, _ROW = 170, 30, 26
#: Outlines of the markers of `analysis.figures.MARKERS`, about the origin.
_SHAPES = {
    "o": '<circle r="4"/>',
    "s": '<rect x="-3.6" y="-3.6" width="7.2" height="7.2"/>',
    "^": '<path d="M0-4.6 4.4 3.4H-4.4z"/>',
    "D": '<path d="M0-5 5 0 0 5-5 0z"/>',
    "v": '<path d="M0 4.6 4.4-3.4H-4.4z"/>',
    "P": '<path d="M-1.6-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z"/>',
    "X": '<path d="M-4.5-2.4-2.4-4.5 0-2.1 2.4-4.5 4.5-2.4 2.1 0 4.5 2.4 2.4 4.5 0 2.1-2.4 4.5'
    '-4.5 2.4-2.1 0z"/>',
    "<": '<path d="M-4.6 0 3.4-4.4V4.4z"/>',
    ">": '<path d="M4.6 0-3.4-4.4V4.4z"/>',
    "*": '<path d="M0-5.4 1.4-1.6 5.2-1.6 2.1.8 3.2 4.6 0 2.3-3.2 4.6-2.1.8-5.2-1.6-1.4-1.6z"/>',
}


@dataclass(frozen=True)
class Chart:
    """A figure and the words that stand for it."""

    title: str
    alt: str
    svg: Markup


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers that span a range, 0 among them where it lies inside; two or more.

    A range of one value is given a point to each side.
    """
    if high - low < 1e-6:
        low, high = low - 1, high + 1
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 10) + 0.0 for place in range(first, last + 1)]


def dots(title: str, rows: Mapping[str, Mapping[str, float]], of: str) -> Chart | None:
    """Gains as dots, one line per recipe: a dot per language or target, a bar at their mean.

    Args:
        title: What it shows.
        rows: By recipe, points gained over `none` by language or target.
        of: What a dot is: `language` or `target`.

    Returns:
        None where no recipe gained or lost anything that is known.
    """
    rows = {name: values for name, values in rows.items() if values}
    if not rows:
        return None
    everything = [value for values in rows.values() for value in values.values()]
    marks = ticks(min([0.0, *everything]), max([0.0, *everything]))
    height = _ROW * len(rows) + 52
    bottom = height - 40

    def x(value: float) -> float:
        share = (value - marks[0]) / (marks[-1] - marks[0])
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    parts = [
        f'<line x1="{x(mark)}" x2="{x(mark)}" y1="4" y2="{bottom}" '
        f'class="{"zero" if mark == 0 else "grid"}"/>'
        f'<text x="{x(mark)}" y="{bottom + 16}" class="tick">{signed(mark, _digits(marks))}</text>'
        for mark in marks
    ]
    for place, (name, values) in enumerate(rows.items()):
        y = 4 + _ROW * place + _ROW / 2
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" class="name">{escape(_cut(name))}</text>')
        parts += [
            f'<circle cx="{x(value)}" cy="{y}" r="4.5" class="dot">'
            f"<title>{escape(key)}: {signed(value)}</title></circle>"
            for key, value in values.items()
        ]
        mean = x(sum(values.values()) / len(values))
        parts.append(f'<line x1="{mean}" x2="{mean}" y1="{y - 9}" y2="{y + 9}" class="mean"/>')
    parts.append(
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{height - 6}" class="axis">'
        f"points gained over none; a dot is a {escape(of)}, a bar their mean</text>"
    )
    alt = "; ".join(_spoken(name, values, of) for name, values in rows.items())
    return Chart(title, f"Points gained over none. {alt}.", _svg(height, parts))


def _spoken(name: str, values: Mapping[str, float], of: str) -> str:
    mean = sum(values.values()) / len(values)
    low, high = min(values.values()), max(values.values())
    spread = f"from {signed(low)} to {signed(high)}" if len(values) > 1 else ""
    return f"{name}: mean {signed(mean)} over {counted(len(values), of)} {spread}".strip()


def lines(title: str, series: Mapping[str, Sequence[float]], axis: str) -> Chart | None:
    """Scores by hidden state, a line per recipe.

    Args:
        title: What it shows.
        series: By recipe, the score of each hidden state, from 0.
        axis: What the scores are.
    """
    series = {name: values for name, values in series.items() if values}
    if not series:
        return None
    last = max(len(values) for values in series.values()) - 1
    everything = [value for values in series.values() for value in values]
    marks = ticks(min(everything), max(everything), 5)
    top, bottom, left, right = 12, 250, 50, WIDTH - 200

    def x(layer: int) -> float:
        return round(left + (right - left) * layer / max(last, 1), 1)

    def y(value: float) -> float:
        share = (value - marks[0]) / ((marks[-1] - marks[0]) or 1)
        return round(bottom - share * (bottom - top), 1)

    every = max(1, math.ceil((last + 1) / 13))
    parts = [
        f'<line x1="{left}" x2="{right}" y1="{y(mark)}" y2="{y(mark)}" class="grid"/>'
        f'<text x="{left - 8}" y="{y(mark) + 4}" class="name">{plain(mark, _digits(marks))}</text>'
        for mark in marks
    ]
    parts += [
        f'<text x="{x(layer)}" y="{bottom + 18}" class="tick">{layer}</text>'
        for layer in range(0, last + 1, every)
    ]
    for place, (name, values) in enumerate(series.items()):
        colour, marker = look(place)
        path = " ".join(f"{x(layer)},{y(value)}" for layer, value in enumerate(values))
        shape = _SHAPES[marker]
        parts.append(f'<g fill="{colour}"><polyline points="{path}" stroke="{colour}" class="l"/>')
        parts += [
            f'<g transform="translate({x(layer)} {y(value)})">{shape}'
            f"<title>{escape(name)}, hidden state {layer}: {plain(value)}</title></g>"
            for layer, value in enumerate(values)
        ]
        parts.append(f'<g transform="translate({right + 24} {top + 20 * place + 4})">{shape}</g>')
        parts.append(
            f'</g><text x="{right + 36}" y="{top + 20 * place + 8}">{escape(_cut(name))}</text>'
        )
    height = max(bottom + 46, top + 20 * len(series) + 10)
    parts.append(f'<text x="{(left + right) / 2}" y="{bottom + 38}" class="axis">')
    parts.append(f"hidden state (0: embeddings); {escape(axis)}</text>")
    best = "; ".join(
        f"{name}: best {plain(max(values))} at {list(values).index(max(values))}"
        for name, values in series.items()
    )
    return Chart(title, f"{axis} by hidden state. {best}.", _svg(height, parts))


def _digits(marks: Sequence[float]) -> int:
    return 0 if all(mark == round(mark) for mark in marks) else 1


def _cut(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(height: float, parts: Sequence[str]) -> Markup:
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height}" aria-hidden="true">{"".join(parts)}</svg>')
