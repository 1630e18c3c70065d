"""The style of all figures, and how they are written: the same bytes for the same numbers.

Colours are those of Okabe and Ito (2008, "Color universal design"), which people with any common
colour blindness can tell apart. Every series also has a marker of its own, so that a figure can be
read in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, the darkest first; yellow is left out: it is not seen on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
#: Of what stands behind: zero lines, grids, and what cannot be said.
GREY = "0.55"
#: Resolution of a PNG.
DPI = 150


def look(number: int) -> tuple[str, str]:
    """Colour and marker of the series of that number, counted from 0."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever a user's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.hashsalt": "xstilts",
                "font.size": 9,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "axes.titlelocation": "left",
                "legend.frameon": False,
            }
        )
        yield


def save(draw: Callable[[Figure], None], size: tuple[float, float], *paths: Path) -> None:
    """Draw a figure and write it to SVG and PNG files, by their endings.

    Args:
        draw: Draws on the empty figure.
        size: Width and height in inches.
        paths: Files; their folders are made.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".svg":
                figure.savefig(path, metadata={"Date": None, "Creator": None})
            else:
                figure.savefig(path, dpi=DPI, metadata={"Software": None})


def save_text(text: str, *paths: Path) -> None:
    """Write a figure that says why there is none."""

    def draw(figure: Figure) -> None:
        wrapped = "\n".join(textwrap.wrap(text, 90))
        figure.text(0.5, 0.5, wrapped, ha="center", va="center")

    save(draw, (7.0, 2.0), *paths)


def zero_line(axis: Axes, horizontal: bool = False) -> None:
    """A grey line where a change is nothing; upright unless it shall lie."""
    (axis.axhline if horizontal else axis.axvline)(0, color=GREY, linewidth=0.8, zorder=0)


def intervals(
    axis: Axes,
    places: Sequence[float],
    values: Sequence[float],
    bounds: Sequence[tuple[float, float] | None],
    number: int = 0,
    label: str | None = None,
) -> None:
    """Points with lying 95 % intervals; a hollow point where there is no interval.

    Args:
        axis: Where.
        places: Heights of the points.
        values: Points.
        bounds: Interval of each, or None.
        number: Of the series, for its colour and marker.
        label: Its name in a legend.
    """
    colour, marker = look(number)
    for place, bound in zip(places, bounds, strict=True):
        if bound is not None:
            axis.plot(bound, (place, place), color=colour, linewidth=1.2, zorder=2)
    for known in (True, False):
        chosen = [i for i, bound in enumerate(bounds) if (bound is not None) == known]
        axis.plot(
            [values[i] for i in chosen],
            [places[i] for i in chosen],
            marker,
            color=colour,
            markerfacecolor=colour if known else "white",
            markersize=5,
            linestyle="none",
            label=label if known else None,
            zorder=3,
        )
