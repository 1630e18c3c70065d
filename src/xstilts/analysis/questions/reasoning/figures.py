"""Figures of gains on reasoning: by model and recipe, and against gains on NLI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xstilts.analysis.answer import Figure
from xstilts.analysis.figures import GREY, intervals, look, zero_line
from xstilts.analysis.numbers import listed, signed
from xstilts.analysis.questions.phrases import bounds, model_title, ranged
from xstilts.analysis.questions.reasoning.contrasts import Contrast, Gain, by_language
from xstilts.analysis.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Points of a panel, at most, that are named by their language.
_NAMED = 16


def gains_by_model(study: Study, gains: Sequence[Gain]) -> Figure:
    """The mean gain of every recipe with its interval, a series per model, a panel per target."""
    targets = list(dict.fromkeys(gain.target.name for gain in gains))
    models = list(dict.fromkeys(gain.model for gain in gains))
    recipes = [name for name in study.recipes if any(gain.recipe == name for gain in gains)]

    def draw(canvas: Canvas) -> None:
        axes: list[Axes] = list(canvas.subplots(len(targets), 1, squeeze=False, sharex=True).flat)
        for axis, target in zip(axes, targets, strict=True):
            _draw_gains(axis, study, models, recipes, [g for g in gains if g.target.name == target])
            axis.set_title(study.target(target).title, fontsize=10, fontweight="bold")
        axes[-1].set_xlabel("points gained over none, mean over languages and seeds")
        handles, labels = axes[0].get_legend_handles_labels()
        if len(models) > 1:
            canvas.legend(handles, labels, loc="outside upper right", ncols=3)

    said = [
        f"{model_title(study, gain.model)}, {gain.recipe} {ranged(gain.wide)}"
        for gain in gains
        if gain.wide.verdict in ("higher", "lower")
    ]
    rows = len(recipes) * max(1.0, 0.55 * len(models)) * len(targets)
    return Figure(
        name="gains",
        title="Gain on reasoning by model and recipe",
        alt="Points with 95 % intervals, one row per recipe and one series per model. Gains that "
        f"can be told from 0, of {len(gains)}: {listed(said) or 'none'}.",
        table="gains",
        draw=draw,
        size=(7.0, max(2.2, 0.34 * rows + 0.5 * len(targets) + 0.7)),
    )


def _draw_gains(
    axis: Axes, study: Study, models: Sequence[str], recipes: Sequence[str], gains: Sequence[Gain]
) -> None:
    step = min(0.3, 0.7 / len(models))
    zero_line(axis)
    for number, model in enumerate(models):
        own = [gain for gain in gains if gain.model == model]
        shift = step * (number - (len(models) - 1) / 2)
        kind = study.model_rows[model].get("kind")
        name = model_title(study, model) + (f" ({kind})" if kind else "")
        intervals(
            axis,
            [recipes.index(gain.recipe) + shift for gain in own],
            [gain.wide.value for gain in own],
            [bounds(gain.wide) for gain in own],
            number,
            name,
        )
    axis.set_yticks(range(len(recipes)), labels=recipes)
    axis.set_ylim(len(recipes) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)


def against_nli(study: Study, contrasts: Sequence[Contrast]) -> Figure:
    """By language, the gain on reasoning over the gain on NLI; a panel per model."""
    models = list(dict.fromkeys(contrast.first.model for contrast in contrasts))
    across = min(len(models), 3)
    down = -(-len(models) // across)
    recipes = [r for r in study.recipes if any(c.first.recipe == r for c in contrasts)]

    def draw(canvas: Canvas) -> None:
        shape = down, across
        axes: list[Axes] = list(
            canvas.subplots(*shape, squeeze=False, sharex=True, sharey=True).flat
        )
        for axis, model in zip(axes, models, strict=False):
            own = [contrast for contrast in contrasts if contrast.first.model == model]
            _draw_scatter(axis, recipes, own)
            axis.set_title(model_title(study, model), fontsize=10, fontweight="bold")
        for axis in axes[len(models) :]:
            axis.set_visible(False)
        handles = {}
        for axis in axes:
            found = zip(*axis.get_legend_handles_labels(), strict=True)
            handles.update({label: handle for handle, label in found})
        names = [name for name in recipes if name in handles]
        canvas.legend(
            [handles[n] for n in names], names, loc="outside right center", handletextpad=0.1
        )
        canvas.supxlabel("points gained on NLI", fontsize=9)
        canvas.supylabel("points gained on reasoning", fontsize=9)

    said = [
        f"{model_title(study, c.first.model)}, {c.first.recipe} {signed(c.difference.value)}"
        for c in contrasts
        if c.difference.verdict in ("higher", "lower")
    ]
    return Figure(
        name="against_nli",
        title="Gain on reasoning against gain on NLI, by language",
        alt="One point per language and recipe: the gain on NLI to the right, the gain on "
        "reasoning upwards, and the line where both are equal. Recipes whose mean gains differ, of "
        f"{len(contrasts)}: {listed(said) or 'none'}.",
        table="by_language",
        draw=draw,
        size=((5.0, 7.0, 7.5)[across - 1], (3.4, 2.7, 2.1)[across - 1] * down + 0.5),
    )


def _draw_scatter(axis: Axes, recipes: Sequence[str], contrasts: Sequence[Contrast]) -> None:
    zero_line(axis)
    zero_line(axis, horizontal=True)
    total = sum(len(contrast.languages) for contrast in contrasts)
    for contrast in contrasts:
        number = recipes.index(contrast.first.recipe)
        colour, marker = look(number)
        first, second = by_language(contrast.first.grid), by_language(contrast.second.grid)
        points = [(second[code], first[code]) for code in contrast.languages]
        across, up = zip(*points, strict=True)
        axis.plot(
            across, up, marker, color=colour, markersize=4.5, label=contrast.first.recipe, zorder=3
        )
        for code, place in zip(contrast.languages, points, strict=True):
            if total <= _NAMED:
                axis.annotate(
                    code, place, (3, 3), textcoords="offset points", fontsize=6, color="0.3"
                )
    axis.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axis.set_box_aspect(1)
    axis.locator_params(nbins=5)
