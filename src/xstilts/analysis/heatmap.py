"""The figure of gains: a heat map of changes against `none`, one panel per model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xstilts.analysis.numbers import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_NAME = "gains"
#: Purple to orange: told apart with every common colour blindness, and in grey by its numbers.
_COLOURS = "PuOr_r"
#: Gains up to about this many points spread linearly, larger ones by their logarithm: one
#: retrieval target with +30 must not bleach the others.
_LINEAR = 1.0
_ABSENT = "0.92"
#: Inches.
_CELL_HEIGHT = 0.3


@dataclass(frozen=True)
class Gains:
    """What the figure shows.

    Attributes:
        rows: Recipes.
        columns: Titles of the targets, and of their average at the end.
        panels: By model, points gained [rows][columns]; None where there is nothing to compare.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    panels: dict[str, list[list[float | None]]]

    def matrix(self, model: str) -> NDArray[np.float64]:
        """A panel's gains [rows, columns], NaN where there are none."""
        shape = (len(self.rows), len(self.columns))
        return np.array(self.panels[model], dtype=np.float64).reshape(shape)


def draw_gains(gains: Gains, folder: Path) -> None:
    """Write `gains.svg` and `gains.png` into a folder: the same bytes for the same gains."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc decides no byte
        mpl.rcParams.update({"svg.hashsalt": "xstilts", "font.size": 9})
        figure = Figure(figsize=_size(gains), layout="constrained")
        if any(np.isfinite(gains.matrix(model)).any() for model in gains.panels):
            _draw(figure, gains)
        else:
            text = "No gains to show: they need scores of the recipe 'none' and of another one."
            figure.text(0.5, 0.5, text, ha="center", va="center")
        figure.savefig(folder / f"{_NAME}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(folder / f"{_NAME}.png", dpi=150, metadata={"Software": None})


def _size(gains: Gains) -> tuple[float, float]:
    """Width and height in inches, by the number of cells and the longest names."""
    names = max((len(name) for name in gains.rows), default=0)
    cell = max(0.62, 0.15 + 0.075 * max(map(len, gains.columns)))
    width = 1.3 + 0.075 * names + cell * len(gains.columns)
    height = 0.4 + len(gains.panels) * (0.5 + _CELL_HEIGHT * max(1, len(gains.rows)))
    return max(6.0, width), max(2.0, height)


def _draw(figure: Figure, gains: Gains) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm

    known = np.concatenate([gains.matrix(model).ravel() for model in gains.panels])
    limit = max(1.0, float(np.nanmax(np.abs(known))))
    style = colormaps[_COLOURS].with_extremes(bad=_ABSENT), AsinhNorm(_LINEAR, -limit, limit)
    axes: list[Axes] = list(figure.subplots(len(gains.panels), 1, squeeze=False)[:, 0])
    for axis, model in zip(axes, gains.panels, strict=True):
        image = _draw_panel(axis, gains, model, style)
        axis.tick_params(length=0, top=False, labeltop=axis is axes[0], labelbottom=False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    ticks = _ticks(limit)
    bar.set_ticks(ticks, labels=[signed(tick, 0) for tick in ticks])
    bar.minorticks_off()
    bar.set_label("points gained over none")
    bar.outline.set_visible(False)


def _draw_panel(
    axis: Axes, gains: Gains, model: str, style: tuple[Colormap, Normalize]
) -> AxesImage:
    matrix = gains.matrix(model)
    image = axis.imshow(matrix, cmap=style[0], norm=style[1], aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        text = "–" if math.isnan(value) else signed(value, 1)
        colour = "0.35" if math.isnan(value) else _readable(image, value)
        axis.text(column, row, text, ha="center", va="center", color=colour)
    axis.set_title(model, loc="left", fontsize=10, fontweight="bold", pad=8)
    axis.set_yticks(range(len(gains.rows)), labels=gains.rows)
    axis.set_xticks(range(len(gains.columns)), labels=gains.columns)
    axis.spines[:].set_visible(False)
    # White lines between the cells, a wide one before the average.
    for edge in range(1, len(gains.rows)):
        axis.axhline(edge - 0.5, color="white", linewidth=1)
    for edge in range(1, len(gains.columns)):
        last = edge == len(gains.columns) - 1
        axis.axvline(edge - 0.5, color="white", linewidth=5 if last else 1)
    return image


def _readable(image: AxesImage, value: float) -> str:
    """White or near-black, whichever stands out more from a value's colour (WCAG's contrast)."""
    channels = np.asarray(image.to_rgba(np.array([value]))[0][:3])
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "white" if luminance < 0.18 else "0.1"


def _ticks(limit: float) -> list[float]:
    """Ticks of the colour bar: 1, 3, 10, 30 ... on both sides as far as the limit."""
    positive = [step for step in (1.0, 3.0, 10.0, 30.0, 100.0) if step <= limit]
    return [*(-step for step in reversed(positive)), 0.0, *positive]
