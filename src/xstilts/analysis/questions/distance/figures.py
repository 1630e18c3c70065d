"""Pictures of what was found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from xstilts.analysis.answer import Figure
from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.figures import GREY, intervals, look, zero_line
from xstilts.analysis.labels import place_labels
from xstilts.analysis.numbers import signed
from xstilts.analysis.questions.distance.findings import Findings
from xstilts.analysis.questions.distance.relations import Flattening, Relation, line
from xstilts.analysis.questions.distance.tables import POINTS, RELATIONS
from xstilts.analysis.questions.phrases import first_named
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Name of the first figure.
FIRST = "distance"
#: Panels in a row of small multiples, and the size of one in inches.
_ACROSS, _PANEL = 3, (2.6, 2.3)
#: Panels of slopes in a row.
_SLOPES_ACROSS = 4
#: What marks mean, for captions.
_MARKS = "Filled points and * hold after correction."
#: Colours of correlations from -1 to 1: brown to green are told apart by all.
_COLOURS = "PuOr"


def figures(found: Sequence[Findings]) -> tuple[Figure, ...]:
    """Drops beside measures, correlations, and slopes by recipe, as far as there are any."""
    return first_named(FIRST, (figure for own in found for figure in _of_model(own)))


def _of_model(own: Findings) -> Iterator[Figure]:
    first = own.first
    if first is None:
        return
    mine = [one for one in own.of(first) if one.slope is not None]
    best = [one for subject in own.subjects if (one := own.strongest(subject)) is not None]
    if len(mine) > 1:
        title = f"{own.title}, {own.recipe}: {first.title.lower()} by each measure. {_MARKS}"
        yield _scatters(f"measures_{own.model}", title, mine, by_measure=True)
    if len(best) > 1 or (best and len(mine) == 1):
        title = (
            f"{own.title}, {own.recipe}: every target by the measure it goes with most. {_MARKS}"
        )
        yield _scatters(f"targets_{own.model}", title, best, by_measure=False)
    if len(mine) > 1:
        yield _correlations(own)
    if len(own.relations) > 1 and best:
        yield _slopes(own)


# --- Drops beside measures ---


def _scatters(name: str, title: str, shown: list[Relation], by_measure: bool) -> Figure:
    across = min(_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    panel = _PANEL if len(shown) > 1 else (5.0, 3.2)
    size = (max(4.0, panel[0] * across), panel[1] * down + 0.3)
    seen = "; ".join(_seen(one, by_measure) for one in shown)
    alt = (
        "Small scatter plots, one point per language, with its code. Upright: score minus the "
        "source language's, or the score where there is none. Lying: the distance, farther to the "
        f"right. A line with its 95 % band through each. {seen}."
    )
    return Figure(name, title, alt, POINTS, partial(_draw_scatters, shown, by_measure), size)


def _seen(one: Relation, by_measure: bool) -> str:
    name = one.measure.title if by_measure else f"{one.subject.title}, {one.measure.title}"
    found = one.correlation.pearson if one.correlation else None
    return f"{name}: no correlation" if found is None else f"{name}: r = {signed(found, 2)}"


def _draw_scatters(shown: Sequence[Relation], by_measure: bool, canvas: Canvas) -> None:
    across = min(_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    axes = canvas.subplots(down, across, squeeze=False)
    width, height = canvas.get_size_inches()
    # What a panel has for its points, without axes and titles.
    room = (width / across - 0.65, height / down - 0.85)
    for place, axis in enumerate(axes.flat):
        if place >= len(shown):
            axis.set_axis_off()
            continue
        one = shown[place]
        _scatter(axis, one, room)
        axis.set_title(_panel_title(one, by_measure), fontsize=8.5)
        axis.set_xlabel(_toward(one, by_measure), fontsize=8)
        if place % across == 0 or not by_measure:
            axis.set_ylabel("score − source's" if one.subject.drops else "score", fontsize=8)


def _panel_title(one: Relation, by_measure: bool) -> str:
    name = one.measure.title if by_measure else one.subject.title
    found = one.correlation
    if found is None or found.pearson is None:
        return textwrap.fill(name, 30)
    mark = " *" if one.holds else ""
    return f"{textwrap.fill(name, 30)}\nr = {signed(found.pearson, 2)}{mark}, n = {found.n}"


def _toward(one: Relation, titled: bool) -> str:
    """What grows to the right; short below a title that says it."""
    if one.measure.sign > 0:
        return "" if titled else textwrap.fill(one.measure.title, 34)
    return "reversed" if titled else textwrap.fill(f"{one.measure.title} (reversed)", 34)


def _scatter(axis: Axes, one: Relation, room: tuple[float, float]) -> None:
    points = one.points
    x, y = points.farness, points.values.mean(axis=0)
    colour = look(0)[0]
    holds = one.holds
    ends = np.linspace(x.min(), x.max(), 50)
    height, rise = line(x, y)
    axis.plot(ends, height + rise * ends, color=colour, linewidth=1.2, zorder=2)
    if (band := _band(x, y, ends)) is not None:
        axis.fill_between(ends, *band, color=colour, alpha=0.13, linewidth=0, zorder=1)
    face = colour if holds else "white"
    axis.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=4, zorder=3)
    _frame(axis, x, np.concatenate([y, height + rise * ends]))
    if one.subject.drops:
        zero_line(axis, horizontal=True)
    if one.measure.sign < 0:
        axis.xaxis.set_major_formatter(lambda value, _: _reversed(value))
    axis.tick_params(labelsize=7.5)
    drawn = [(ends, height + rise * ends)]
    place_labels(axis, x, y, points.languages, room, drawn)


def _reversed(value: float) -> str:
    """A tick of an axis that stands for its negative."""
    return f"{0.0 - value:g}".replace("-", "\N{MINUS SIGN}")


def _band(x: Floats, y: Floats, at: Floats) -> tuple[Floats, Floats] | None:
    """The 95 % band of the line through languages; None where they all lie on it."""
    from scipy.stats import t

    df = len(x) - 2
    height, rise = line(x, y)
    left = y - height - rise * x
    if df < 1 or not left.any():
        return None
    squares = float(((x - x.mean()) ** 2).sum())
    error = np.sqrt(left @ left / df * (1 / len(x) + (at - x.mean()) ** 2 / squares))
    reach = float(t.ppf(0.5 + CONFIDENCE / 2, df)) * error
    middle = height + rise * at
    return middle - reach, middle + reach


def _frame(axis: Axes, x: Floats, y: Floats) -> None:
    """Limits with room for labels, set before they are placed."""
    for limits, values in ((axis.set_xlim, x), (axis.set_ylim, y)):
        low, high = float(values.min()), float(values.max())
        margin = 0.12 * (high - low) or 1.0
        limits(low - margin, high + margin)


# --- Correlations ---


def _correlations(own: Findings) -> Figure:
    shown = [one for one in own.measures if any(r.measure == one and r.strength for r in own.main)]
    subjects = [subject for subject in own.subjects if subject.name in own.grids]
    size = (2.4 + 0.62 * len(subjects) + 0.8, 1.7 + 0.42 * len(shown))
    held = sum(one.holds for one in own.main)
    alt = (
        f"Grid of {len(shown)} measures by {len(subjects)} targets and groups. Each cell has the "
        "correlation of drop and distance over languages; colour and size of the dot show it, a "
        f"ring marks those that hold after Holm's correction: {held}."
    )
    title = (
        f"{own.title}, {own.recipe}: correlation of drop and distance over languages (below 0: far "
        "languages lose more). A ring marks what holds after correction."
    )
    draw = partial(_draw_correlations, own)
    return Figure(
        f"correlations_{own.model}", title, alt, RELATIONS, draw, (max(size[0], 4), size[1])
    )


def _draw_correlations(own: Findings, canvas: Canvas) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rows = [one for one in own.measures if any(r.measure == one and r.strength for r in own.main)]
    columns = [subject for subject in own.subjects if subject.name in own.grids]
    axis = canvas.subplots()
    scale = ScalarMappable(Normalize(-1, 1), _COLOURS)
    for one in own.main:
        if one.measure not in rows or one.subject not in columns:
            continue
        place = (columns.index(one.subject), rows.index(one.measure))
        _dot(axis, place, one, scale)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), labels=[textwrap.fill(one.title, 26) for one in rows])
    names = [textwrap.fill(subject.title, 16) for subject in columns]
    axis.set_xticks(
        range(len(columns)), labels=names, rotation=40, ha="left", rotation_mode="anchor"
    )
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    bar = canvas.colorbar(scale, ax=axis, fraction=0.05, pad=0.02, aspect=25)
    bar.set_label("correlation r", fontsize=8)
    bar.outline.set_visible(False)


def _dot(axis: Axes, place: tuple[int, int], one: Relation, scale: object) -> None:
    found = one.correlation.pearson if one.correlation else None
    if found is None:
        axis.text(*place, "–", ha="center", va="center", color=GREY)
        return
    colour = scale.to_rgba(found)  # type: ignore[attr-defined]
    edge, width = ("black", 1.6) if one.holds else ("0.7", 0.5)
    size = 250 + 450 * abs(found)
    axis.scatter(*place, s=size, color=[colour], edgecolors=edge, linewidths=width, zorder=2)
    ink = "white" if abs(found) > 0.65 else "0.1"
    axis.text(*place, signed(found, 2), ha="center", va="center", fontsize=6, color=ink, zorder=3)


# --- Slopes ---


def _slopes(own: Findings) -> Figure:
    shown = _shown_slopes(own)
    across = min(_SLOPES_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    size = (1.2 + 1.75 * across, down * (0.75 + 0.19 * len(own.relations)) + 0.3)
    bent = [
        one
        for of_subject in own.flattenings.values()
        for one in of_subject
        if one.bend in ("flattens", "steepens")
    ]
    alt = (
        "Slopes of the drop, points per standard deviation farther, with 95 % intervals: a row per "
        "recipe, a panel per target or group. A dashed line is the slope without intermediate "
        "training; the thick part of an interval is that of the paired change against it. "
        f"Slopes that differ from it after correction: {len(bent)}."
    )
    title = (
        f"{own.title}: slope by recipe, along the measure that goes most with each target. Thin: "
        "its 95 % interval; thick: that of its change against none. Squares differ from none after "
        "correction."
    )
    return Figure(
        f"slopes_{own.model}",
        title,
        alt,
        RELATIONS,
        partial(_draw_slopes, own),
        (max(4, size[0]), size[1]),
    )


def _shown_slopes(own: Findings) -> list[Relation]:
    """The strongest relation of each group, or of each target that is alone in its group."""
    return [one for subject in own.heads if (one := own.strongest(subject)) is not None]


def _draw_slopes(own: Findings, canvas: Canvas) -> None:
    shown = _shown_slopes(own)
    across = min(_SLOPES_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    axes = canvas.subplots(down, across, squeeze=False, sharey=True)
    recipes = list(own.relations)
    for place, axis in enumerate(axes.flat):
        if place >= len(shown):
            axis.set_axis_off()
            continue
        one = shown[place]
        _slope_panel(axis, own, one)
        axis.set_title(
            f"{textwrap.fill(one.subject.title, 28)}\n{textwrap.fill(one.measure.title, 24)}",
            fontsize=8.5,
        )
        axis.set_yticks(range(len(recipes)), labels=recipes)
        axis.set_ylim(len(recipes) - 0.5, -0.5)
        if place >= len(shown) - across:
            axis.set_xlabel("points per SD farther", fontsize=8)


def _slope_panel(axis: Axes, own: Findings, shown: Relation) -> None:
    zero_line(axis)
    changes = {
        one.recipe: one
        for one in own.flattenings[shown.subject.name]
        if one.measure.name == shown.measure.name
    }
    for row, recipe in enumerate(own.relations):
        of_subject = own.of(shown.subject, recipe)
        one = next((r for r in of_subject if r.measure.name == shown.measure.name), None)
        if one is not None and one.slope is not None:
            _slope_row(axis, row, one.slope, changes.get(recipe))
    if shown.slope is not None:
        dashes = (0, (4, 3))
        axis.axvline(shown.slope.value, color=GREY, linewidth=0.9, linestyle=dashes, zorder=0)
    axis.tick_params(labelsize=7.5)


def _slope_row(axis: Axes, row: int, slope: Estimate, change: Flattening | None) -> None:
    """A slope with its interval; over it, thick, the interval of its change against `none`."""
    bent = change is not None and change.bend in ("flattens", "steepens")
    bounds = None
    if slope.low is not None and slope.high is not None:
        bounds = (slope.low, slope.high)
    intervals(axis, [row], [slope.value], [bounds], int(bent))
    if change is None or change.change is None or change.before is None:
        return
    own = change.change
    if own.low is not None and own.high is not None:
        ends = (change.before + own.low, change.before + own.high)
        axis.plot(ends, (row, row), color=look(int(bent))[0], linewidth=4, alpha=0.45, zorder=2)
