"""Figures of predictions: regret by predictor, and predicted against measured gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xstilts.analysis.answer import Figure
from xstilts.analysis.figures import intervals, look, zero_line
from xstilts.analysis.labels import place_labels
from xstilts.analysis.numbers import plain
from xstilts.analysis.questions.phrases import model_title
from xstilts.analysis.questions.prediction.predicted import (
    KS,
    Case,
    Loss,
    bounds_of,
    gain_of,
    holds,
    main_kind,
)
from xstilts.analysis.questions.prediction.predictors import (
    LOGME,
    PREDICTORS,
    SIMILARITY,
    Predictions,
    Predictor,
)
from xstilts.analysis.study import BASELINE, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Width of a figure, in inches.
_WIDTH = 7.0


def figures_of(
    study: Study, predictions: Predictions, cases: Sequence[Case], losses: Sequence[Loss]
) -> Iterator[Figure]:
    """Regret by predictor, then a figure per model and predictor that depends on the target."""
    shown = [loss for loss in losses if loss.kind == main_kind(loss.model, cases)]
    if shown:
        yield _loss_figure(study, shown)
    for model in study.models:
        own = [c for c in cases if (c.model, c.kind) == (model, main_kind(model, cases))]
        for predictor in (LOGME, SIMILARITY):
            told = [case for case in own if not case.silent(predictor)]
            if shown and told:
                yield _scatter_figure(study, predictions, model, predictor, told)


def _loss_figure(study: Study, losses: Sequence[Loss]) -> Figure:
    models = [model for model in study.models if any(loss.model == model for loss in losses)]
    ks = [k for k in KS if any(loss.k == k for loss in losses)]

    def draw(figure: Canvas) -> None:
        axes = figure.subplots(len(models), len(ks), squeeze=False, sharey=True, sharex="row")
        for row, model in enumerate(models):
            for column, k in enumerate(ks):
                axis = axes[row, column]
                own = [loss for loss in losses if (loss.model, loss.k) == (model, k)]
                _draw_losses(axis, own)
                name = f"{model_title(study, model)}: " if len(models) > 1 else ""
                axis.set_title(f"{name}regret@{k}")
                axis.set_xlabel("% below the best recipe")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)

    return Figure(
        "prediction",
        "Regret by predictor: what is lost by trying the recipes that it puts first",
        "Percent by which the best of the first k recipes of each predictor falls short of the "
        "best of all: mean over targets with its 95 % interval, each target as a small stroke, "
        "and a random choice as a dotted line.",
        "regret",
        draw,
        (_WIDTH, 1.1 + 1.6 * len(models)),
    )


def _draw_losses(axis: Axes, losses: Sequence[Loss]) -> None:
    """A row per predictor, the first on top."""
    places = {one.name: -number for number, one in enumerate(PREDICTORS)}
    axis.set_yticks(list(places.values()), [one.title for one in PREDICTORS])
    axis.set_ylim(min(places.values()) - 0.5, 0.5)
    heights = [places[loss.predictor.name] for loss in losses]
    values = [loss.mean.value for loss in losses]
    cut = [bounds_of(loss.mean) for loss in losses]
    bounds = [None if one["low"] is None else (one["low"], one["high"]) for one in cut]
    intervals(axis, heights, values, bounds, label="mean, 95 % interval (hollow: none)")
    for name, loss, height in zip(
        ("a target", *[None] * len(losses)), losses, heights, strict=False
    ):
        own = list(loss.by_target.values())
        axis.plot(own, [height + 0.2] * len(own), "|", color=look(1)[0], label=name)
    lows, highs = [height - 0.35 for height in heights], [height + 0.35 for height in heights]
    chance = [loss.random for loss in losses]
    axis.vlines(chance, lows, highs, "black", linestyles=":", label="random choice")
    axis.set_xlim(left=min(0.0, axis.get_xlim()[0]))
    zero_line(axis)


def _scatter_figure(
    study: Study,
    predictions: Predictions,
    model: str,
    predictor: Predictor,
    cases: Sequence[Case],
) -> Figure:
    columns = {1: 1, 2: 2, 4: 2}.get(len(cases), 3)
    rows = -(-len(cases) // columns)

    def draw(figure: Canvas) -> None:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, case in zip(axes, cases, strict=False):
            _draw_case(axis, study, predictions, case, predictor, _WIDTH / columns)
        for axis in axes[len(cases) :]:
            axis.set_axis_off()
        figure.legend(
            handles=_marks(predictor is LOGME), loc="outside upper center", ncols=3, fontsize=8
        )
        figure.supxlabel(predictor.title)
        figure.supylabel("gain over none, points")

    return Figure(
        f"{predictor.name}-{model}",
        f"{model_title(study, model)}: {predictor.title} against the measured gain",
        f"One panel per target, one point per recipe: {predictor.title} across, the measured gain "
        "over none upwards. Where points rise to the right, the prediction holds.",
        "predictions",
        draw,
        (_WIDTH, 0.8 + 2.1 * rows),
    )


def _marks(with_none: bool) -> list[Any]:
    """The legend of the points."""
    from matplotlib.lines import Line2D

    shown = [("recipe", 0, False), ("recipe with the target's own task", 1, False)]
    shown += [("none", 0, True)] if with_none else []
    return [
        Line2D([], [], linestyle="none", label=label, **_mark(number, hollow))
        for label, number, hollow in shown
    ]


def _mark(number: int, hollow: bool = False) -> dict[str, Any]:
    colour, marker = look(number)
    face = "white" if hollow else colour
    return {"marker": marker, "color": colour, "markerfacecolor": face, "markersize": 5}


def _draw_case(
    axis: Axes,
    study: Study,
    predictions: Predictions,
    case: Case,
    predictor: Predictor,
    width: float,
) -> None:
    """A target's recipes by name; `none`, where something is predicted of it, is hollow."""
    points: list[tuple[float, float, str]] = []
    for recipe, value in zip(case.recipes, case.predicted[predictor.name], strict=True):
        gain = gain_of(study, case.model, recipe, case.target, case.kind)
        if value is not None and gain is not None:
            axis.plot(value, gain, **_mark(int(holds(study, recipe, case.target))))
            points.append((value, gain, recipe))
    before = predictions.value(predictor, case.model, BASELINE, case.target)
    if before is not None:
        axis.plot(before, 0.0, **_mark(0, hollow=True))
        points.append((before, 0.0, BASELINE))
    axis.margins(0.2, 0.25)
    zero_line(axis, horizontal=True)
    x, y, names = zip(*points, strict=True)
    # A panel about 1.6 inches high, and less wide than its cell by its labels.
    place_labels(axis, np.array(x), np.array(y), names, (width - 0.6, 1.6))
    found = case.correlation(predictor)
    known = "" if found.spearman is None else f", ρ = {plain(found.spearman, 2)}"
    axis.set_title(f"{case.target.title}{known}", fontsize=9)
