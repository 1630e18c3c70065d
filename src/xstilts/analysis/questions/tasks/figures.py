"""The figures of the first question: a forest plot over all targets, and a panel per target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xstilts.analysis.figures import COLOURS, GREY, zero_line
from xstilts.analysis.questions.phrases import bounds
from xstilts.analysis.questions.tasks.comparison import Gain
from xstilts.analysis.stats.estimate import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: An axis reaches this many times as far as its points; longer intervals are cut, with an arrow.
_REACH = 2.2
#: Colour and marker by what can be said.
_LOOKS: dict[Verdict, tuple[str, str]] = {
    "higher": (COLOURS[0], "^"),
    "lower": (COLOURS[1], "v"),
    "cannot be told apart": ("0.35", "o"),
    "cannot be said": ("0.35", "o"),
}
_TOLD: dict[Verdict, str] = {
    "higher": "higher than none",
    "lower": "lower than none",
    "cannot be told apart": "cannot be told apart (corrected)",
    "cannot be said": "no interval",
}


@dataclass(frozen=True)
class Panel:
    """Gains that share an axis, the first at the top.

    Attributes:
        chosen: The recipe to mark.
    """

    title: str
    gains: Sequence[Gain]
    chosen: str | None = None


def forest(lines: Sequence[Sequence[Panel]], figure: Canvas) -> None:
    """Draw lines of panels, a line per model: gains with both intervals, ranks at the right."""
    columns = max(len(line) for line in lines)
    heights = [max(len(panel.gains) for panel in line) + 2 for line in lines]
    axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
    limits = _limits([gain for line in lines for panel in line for gain in panel.gains])
    for line, row in zip(lines, axes, strict=True):
        for axis in row[len(line) :]:
            axis.set_axis_off()
        for panel, axis in zip(line, row, strict=False):
            _draw_forest(axis, panel, limits)
    for axis in axes[-1]:
        axis.set_xlabel("points gained over none")
    _legend(figure, [gain for line in lines for panel in line for gain in panel.gains], wide=True)


def _draw_forest(axis: Axes, panel: Panel, limits: tuple[float, float]) -> None:
    _frame(axis, panel, limits)
    transform = axis.get_yaxis_transform()
    for place, gain in enumerate(panel.gains):
        if gain.these is not None and (bound := bounds(gain.these)) is not None:
            low, high = (min(max(edge, limits[0]), limits[1]) for edge in bound)
            axis.plot((low, high), (place, place), color="0.82", linewidth=6, zorder=1)
        _draw_point(axis, place, gain, limits)
        axis.text(1.03, place, _rank(gain), transform=transform, va="center", fontsize=8)
    axis.text(1.03, -1, "rank  [95 % set]", transform=transform, va="center", fontsize=8)
    axis.set_ylim(len(panel.gains) - 0.4, -1.3)


def _rank(gain: Gain) -> str:
    if gain.rank is None:
        return "–"
    if gain.rank.low is None:
        return f"{gain.rank.rank}"
    return f"{gain.rank.rank}  [{gain.rank.low}, {gain.rank.high}]"


def by_target(panels: Sequence[Panel], figure: Canvas) -> None:
    """Draw a panel per target; recipes in the same order in all of them."""
    columns, rows = _grid(panels)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    flat = list(axes.flat)
    for axis in flat[len(panels) :]:
        axis.set_axis_off()
    for panel, axis in zip(panels, flat, strict=False):
        limits = _limits(panel.gains)
        shown = _without_none(panel)
        _frame(axis, shown, limits, size=7.5)
        for place, gain in enumerate(shown.gains):
            _draw_point(axis, place, gain, limits, size=4.0)
            if gain.recipe == panel.chosen and gain.value is not None:
                axis.plot(gain.value, place, "o", ms=9, mfc="none", mec="black", mew=0.8, zorder=4)
        axis.set_title(panel.title, fontsize=8.5)
        axis.tick_params(axis="x", labelsize=7.5)
        axis.locator_params(axis="x", nbins=4)
        axis.set_ylim(len(shown.gains) - 0.4, -0.6)
    figure.supxlabel("points gained over none (each panel has its own scale)", fontsize=8.5)
    ring = any(panel.chosen not in (None, "none") for panel in panels)
    _legend(figure, [gain for panel in panels for gain in panel.gains], ring=ring)


def by_target_size(panels: Sequence[Panel]) -> tuple[float, float]:
    """Width and height in inches."""
    lines = max(len(panel.gains) for panel in panels)
    return 7.0, 0.8 + _grid(panels)[1] * (0.55 + 0.145 * lines)


def _grid(panels: Sequence[Panel]) -> tuple[int, int]:
    columns = min(4 if len(panels) != 5 else 3, len(panels))
    return columns, math.ceil(len(panels) / columns)


def _without_none(panel: Panel) -> Panel:
    gains = [gain for gain in panel.gains if gain.recipe != "none"]
    return Panel(panel.title, gains, panel.chosen)


def _frame(axis: Axes, panel: Panel, limits: tuple[float, float], size: float = 8.5) -> None:
    zero_line(axis)
    names = [gain.recipe for gain in panel.gains]
    axis.set_yticks(range(len(names)), labels=names, fontsize=size)
    axis.tick_params(axis="y", length=0, pad=7)  # room for the arrow of a cut interval
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y", color="0.93", linewidth=0.8)
    axis.set_xlim(*limits)
    axis.set_title(panel.title, fontsize=9)


def _draw_point(
    axis: Axes, place: int, gain: Gain, limits: tuple[float, float], size: float = 5.0
) -> None:
    if gain.value is None:
        axis.text(0, place, "–", ha="center", va="center", color=GREY)
        return
    if gain.general is None:  # `none`, where the zero line is
        axis.plot(0, place, "D", color=GREY, markerfacecolor="white", markersize=4)
        return
    colour, marker = _LOOKS[gain.general.verdict]
    if bound := bounds(gain.general):
        low, high = (min(max(edge, limits[0]), limits[1]) for edge in bound)
        axis.plot((low, high), (place, place), color=colour, linewidth=1.2, zorder=2)
        for cut, edge, arrow in ((bound[0] < low, low, "<"), (bound[1] > high, high, ">")):
            if cut:
                axis.plot(edge, place, arrow, color=colour, ms=3.5, clip_on=False, zorder=2)
    face = colour if bound else "white"
    axis.plot(
        gain.value, place, marker, color=colour, markerfacecolor=face, markersize=size, zorder=3
    )


def _limits(gains: Iterable[Gain]) -> tuple[float, float]:
    """Of an axis: all points and what intervals reach, at most some times as far as the points."""
    known = [gain for gain in gains if gain.value is not None]
    values = [0.0, *(gain.value or 0.0 for gain in known)]
    low, high = min(values), max(values)
    most = _REACH * max(abs(low), abs(high), 0.5)
    found = [bounds(gain.general) for gain in known] + [bounds(gain.these) for gain in known]
    edges = [edge for bound in found if bound is not None for edge in bound]
    low = max(min([low, *edges]), low - most / 2)
    high = min(max([high, *edges]), high + most / 2)
    pad = 0.06 * max(high - low, 0.1)
    return low - pad, high + pad


def _legend(figure: Canvas, gains: Sequence[Gain], wide: bool = False, ring: bool = False) -> None:
    """What the points that are there mean, and what their lines do."""
    from matplotlib.lines import Line2D

    there = {gain.general.verdict for gain in gains if gain.general is not None}
    handles = [
        Line2D(
            [],
            [],
            color=_LOOKS[verdict][0],
            marker=_LOOKS[verdict][1],
            ms=5,
            lw=1.2,
            markerfacecolor="white" if verdict == "cannot be said" else None,
            label=label,
        )
        for verdict, label in _TOLD.items()
        if verdict in there
    ]
    if wide and any(bounds(gain.these) for gain in gains):
        handles.append(Line2D([], [], color="0.82", lw=6, label="these languages, other seeds"))
    if ring:
        handles.append(
            Line2D(
                [],
                [],
                color="black",
                marker="o",
                mfc="none",
                ms=8,
                lw=0,
                mew=0.8,
                label="chosen on dev",
            )
        )
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
