"""Figures of the curves by number of intermediate tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from xstilts.analysis.answer import Figure
from xstilts.analysis.figures import GREY, intervals, look, zero_line
from xstilts.analysis.questions.number.tables import Findings
from xstilts.analysis.questions.phrases import bounds, model_title
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.knee import Knee
from xstilts.analysis.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Panels beside each other.
_ACROSS = 4
#: Inches.
_WIDTH, _HEIGHT = 2.6, 2.3
_DOT = 0.28

_Draw = Callable[["Axes", Findings], None]


def figures(study: Study, found: Sequence[Findings]) -> tuple[Figure, ...]:
    """The curves and what each task adds: of retrieval, and of the other targets."""
    made = list[Figure]()
    for suffix, of in (("", "retrieval"), ("_others", "the other targets")):
        chosen = [one for one in found if one.retrieval == (not suffix)]
        if not chosen:
            continue
        made.append(_curves(study, chosen, f"number{suffix}", of))
        if any(one.added for one in chosen):
            made.append(_dots(study, chosen, f"number_added{suffix}", of))
    return tuple(made)


def _curves(study: Study, found: Sequence[Findings], name: str, of: str) -> Figure:
    alt = (
        "Mean score (vertical) by number of intermediate tasks (horizontal), one panel per model "
        "and target. Thin lines: single orders. Thick line: mean, with its 95 % interval. "
        "Dotted vertical line: knee. "
    )
    return Figure(
        name=name,
        title=f"Scores on {of} by number of intermediate tasks",
        alt=alt + _alt(study, found),
        table="number_curve",
        draw=partial(_draw_panels, study=study, found=found, draw=_draw_curve),
        size=_size(found, _HEIGHT),
    )


def _dots(study: Study, found: Sequence[Findings], name: str, of: str) -> Figure:
    alt = (
        "Points (horizontal) that a task (vertical) brings, with 95 % intervals, one panel per "
        "model and target. Circles: when it is added to a set. Squares: against the average task, "
        "at the same number of tasks. A hollow point has no interval."
    )
    height = 0.9 + _DOT * max(len(one.added) for one in found)
    return Figure(
        name=name,
        title=f"What each task brings on {of} when it is added",
        alt=alt,
        table="number_added",
        draw=partial(_draw_panels, study=study, found=found, draw=_draw_dots),
        size=_size(found, height),
    )


def _alt(study: Study, found: Sequence[Findings]) -> str:
    parts = []
    for one in found:
        first, last = (one.means[size].value for size in (one.curve.sizes[0], one.curve.sizes[-1]))
        where = f"{model_title(study, one.curve.model)} on {one.target.title}"
        sizes = f"from {one.curve.sizes[0]} to {one.curve.sizes[-1]} tasks"
        parts.append(f"{where}: {first:.1f} to {last:.1f} {sizes}.")
    return " ".join(parts)


def _shape(found: Sequence[Findings]) -> tuple[int, int]:
    """Rows and columns: a row per model where its targets fit, else as they come."""
    models = len({one.curve.model for one in found})
    targets = len({one.curve.target for one in found})
    if targets <= _ACROSS and len(found) == models * targets:
        return models, targets
    return math.ceil(len(found) / _ACROSS), min(_ACROSS, len(found))


def _size(found: Sequence[Findings], height: float) -> tuple[float, float]:
    rows, columns = _shape(found)
    return max(4.0, 0.4 + _WIDTH * columns), 0.5 + height * rows


def _draw_panels(canvas: Canvas, study: Study, found: Sequence[Findings], draw: _Draw) -> None:
    rows, columns = _shape(found)
    axes = list(canvas.subplots(rows, columns, squeeze=False).flat)
    several = len({one.curve.model for one in found}) > 1
    for place, (axis, one) in enumerate(zip(axes, found, strict=False)):
        draw(axis, one)
        title = one.target.title
        if several:
            title = f"{model_title(study, one.curve.model)}\n{title}"
        axis.set_title(title, fontsize=9)
        if draw is _draw_dots and (place % columns == 0 or _tasks(one) != _tasks(found[place - 1])):
            axis.set_yticks(range(len(one.added)), labels=_tasks(one))
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    if draw is _draw_dots:
        canvas.supxlabel("points", fontsize=9)
        _legend(canvas, axes[: len(found)])
        return
    canvas.supxlabel("intermediate tasks", fontsize=9)
    canvas.supylabel("mean score", fontsize=9)
    _legend(canvas, axes[: len(found)])


def _legend(canvas: Canvas, axes: Sequence[Axes]) -> None:
    """What the lines are, once for all panels."""
    named = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    canvas.legend(list(named.values()), list(named), loc="outside upper left", ncols=4, fontsize=8)


def _draw_curve(axis: Axes, one: Findings) -> None:
    curve, (colour, marker) = one.curve, look(0)
    for number, chain in enumerate(curve.chains if len(curve.chains) > 1 else []):
        scores = [float(curve.values[name].mean()) for name in chain.values()]
        label = "one order" if number == 0 else None
        axis.plot(list(chain), scores, color=GREY, linewidth=0.8, label=label, zorder=1)
    if not curve.chains:
        _draw_sets(axis, one)
    means = [one.means[size] for size in curve.sizes]
    known = [i for i, mean in enumerate(means) if mean.low is not None]
    if known:
        axis.fill_between(
            [curve.sizes[i] for i in known],
            [bound[0] for i in known if (bound := bounds(means[i]))],
            [bound[1] for i in known if (bound := bounds(means[i]))],
            color=colour,
            alpha=0.18,
            linewidth=0,
            label="95 % interval",
            zorder=0,
        )
    values = [mean.value for mean in means]
    axis.plot(
        curve.sizes, values, color=colour, marker=marker, markersize=4, linewidth=2, label="mean"
    )
    _draw_knee(axis, one)
    _limit(axis, one)
    axis.set_xticks(curve.sizes)


def _draw_sets(axis: Axes, one: Findings) -> None:
    """Every set as a dot, where no order joins them."""
    sizes = [size for size, names in one.curve.sets.items() for _ in names]
    scores = [float(one.curve.values[n].mean()) for names in one.curve.sets.values() for n in names]
    axis.plot(sizes, scores, "o", color=GREY, markersize=3, label="one set", zorder=1)


def _draw_knee(axis: Axes, one: Findings) -> None:
    bend = one.knee
    if not isinstance(bend, Knee) or bend.low is None or bend.high is None:
        return
    colour, _ = look(1)
    axis.axvline(bend.place, color=colour, linestyle=":", linewidth=1.5, label="knee", zorder=2)
    axis.axvspan(bend.low, bend.high, color=colour, alpha=0.10, linewidth=0, zorder=0)


def _limit(axis: Axes, one: Findings) -> None:
    """Room for all lines and intervals; very wide ones (one degree of freedom) leave the panel."""
    scores = [float(values.mean()) for values in one.curve.values.values()]
    low, high = min(scores), max(scores)
    room = 2 * max(1.0, high - low)
    ends = [end for mean in one.means.values() for end in bounds(mean) or ()]
    low = min([low, *(max(end, low - room) for end in ends)])
    high = max([high, *(min(end, high + room) for end in ends)])
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)


def _tasks(one: Findings) -> list[str]:
    return [added.task for added in one.added]


def _draw_dots(axis: Axes, one: Findings) -> None:
    zero_line(axis)
    places = list(range(len(one.added)))
    series = ("when it is added", "beside the average task")
    gains: list[list[Estimate | None]] = [[added.gain for added in one.added]]
    gains.append([added.beside for added in one.added])
    for number, (label, found) in enumerate(zip(series, gains, strict=True)):
        known = [(place, gain) for place, gain in enumerate(found) if gain is not None]
        intervals(
            axis,
            [place + (number - 0.5) * 0.3 for place, _ in known],
            [gain.value for _, gain in known],
            [bounds(gain) for _, gain in known],
            number,
            label,
        )
    axis.set_yticks(places, labels=[""] * len(places))
    axis.set_ylim(len(places) - 0.5, -0.5)
