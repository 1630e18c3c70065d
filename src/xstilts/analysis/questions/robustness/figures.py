"""Figures of what other languages keep of the score in the source language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xstilts.analysis.answer import Figure
from xstilts.analysis.figures import GREY, intervals, look, zero_line
from xstilts.analysis.numbers import counted, listed
from xstilts.analysis.questions.phrases import bounds, language_name, model_title, ranged
from xstilts.analysis.questions.robustness.pairings import Change, Pairing, Part, estimated
from xstilts.analysis.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Inches of a row of a chart, and of what stands around a panel.
_ROW, _AROUND = 0.24, 1.1
_WIDTH = 7.0


def slopes(study: Study, pairings: Sequence[Pairing]) -> Figure:
    """By language, what both targets of each pairing keep: two points and the line between."""
    rows = max(len(pairing.languages) for pairing in pairings)
    across = min(len(pairings), 2)
    down = -(-len(pairings) // across)

    def draw(canvas: Canvas) -> None:
        axes: list[Axes] = list(canvas.subplots(down, across, squeeze=False, sharex=True).flat)
        for axis, pairing in zip(axes, pairings, strict=False):
            _draw_slopes(axis, study, pairing)
        for axis in axes[len(pairings) :]:
            axis.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside upper right", ncols=2)
        canvas.supxlabel(f"% of the score in {language_name(study, study.source)}", fontsize=9)

    recipe = pairings[0].first.recipe
    return Figure(
        name="paired",
        title=f"What NER and NLI keep of the source score, by language ({recipe})",
        alt=" ".join(_alt_slopes(study, pairing) for pairing in pairings),
        table="paired",
        draw=draw,
        size=(_WIDTH, max(2.4, down * (_ROW * rows + _AROUND))),
    )


def _kept(part: Part, code: str) -> float:
    """Percent of the source score that a language keeps, over seeds."""
    assert part.gaps is not None
    assert part.gaps.shares is not None
    shares = part.gaps.shares
    return 100 + float(shares.values[:, shares.languages.index(code)].mean())


def _by_difference(pairing: Pairing) -> list[str]:
    """Languages, the ones where the first target is furthest behind first."""

    def difference(code: str) -> tuple[float, str]:
        return round(_kept(pairing.first, code) - _kept(pairing.second, code), 6), code

    return sorted(pairing.languages, key=difference)


def _draw_slopes(axis: Axes, study: Study, pairing: Pairing) -> None:
    codes = _by_difference(pairing)
    for place, code in enumerate(codes):
        ends = _kept(pairing.first, code), _kept(pairing.second, code)
        axis.plot(ends, (place, place), color=GREY, linewidth=1.2, zorder=1)
    for number, part in enumerate((pairing.first, pairing.second)):
        colour, marker = look(number)
        values = [_kept(part, code) for code in codes]
        places = range(len(codes))
        axis.plot(
            values, places, marker, color=colour, label=part.target.title, markersize=5, zorder=2
        )
    axis.axvline(100, color=GREY, linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(codes)), labels=[language_name(study, code) for code in codes])
    axis.set_ylim(len(codes) - 0.5, -0.5)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.tick_params(axis="y", length=0)
    axis.set_title(model_title(study, pairing.first.model), fontsize=10, fontweight="bold")


def _alt_slopes(study: Study, pairing: Pairing) -> str:
    codes = _by_difference(pairing)
    first, second = pairing.first.target.title, pairing.second.target.title
    ends = []
    for code in dict.fromkeys((codes[0], codes[-1])):
        kept = [f"{_kept(part, code):.1f} %" for part in (pairing.first, pairing.second)]
        ends.append(f"{language_name(study, code)} ({kept[0]} and {kept[1]})")
    return (
        f"{model_title(study, pairing.first.model)}: one row per language, a point for the share "
        f"of the source score that {first} keeps and one for {second}, sorted by their difference, "
        f"from {' to '.join(ends)}."
    )


def narrowing(study: Study, pairings: Sequence[Pairing], changes: Sequence[Change]) -> Figure:
    """What each recipe changes in the share kept: of both targets, and of their difference."""
    known = [pairing for pairing in pairings if pairing.narrowing is not None]
    panels: dict[tuple[str, str, str], list[Pairing]] = {}
    for pairing in known:
        names = pairing.first.target.name, pairing.second.target.name
        panels.setdefault((pairing.first.model, *names), []).append(pairing)
    found = {change.part.key: change for change in changes}

    def draw(canvas: Canvas) -> None:
        axes: list[Axes] = list(canvas.subplots(len(panels), 1, squeeze=False, sharex=True).flat)
        for axis, own in zip(axes, panels.values(), strict=True):
            _draw_narrowing(axis, own, found)
            axis.set_title(model_title(study, own[0].first.model), fontsize=10, fontweight="bold")
        handles, labels = axes[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside upper right", ncols=3)
        axes[-1].set_xlabel("change of the share kept, against none (percentage points)")

    rows = sum(len(own) for own in panels.values())
    apart = [p for p in known if p.narrowing and p.narrowing.verdict in ("higher", "lower")]
    said = [
        f"{p.first.model}, {p.first.recipe} {ranged(p.narrowing)}" for p in apart if p.narrowing
    ]
    return Figure(
        name="narrowing",
        title="Does a recipe narrow the gap more for NER than for NLI?",
        alt="Points with 95 % intervals by recipe: change of the share of the source score that is "
        "kept, for each of the two targets and for their difference. Differences that can be told "
        f"from 0, of {len(known)}: {listed(said) or 'none'}.",
        table="comparison",
        draw=draw,
        size=(_WIDTH, max(2.4, 0.5 * rows + 0.5 * len(panels) + 0.9)),
    )


def _draw_narrowing(
    axis: Axes, pairings: Sequence[Pairing], changes: dict[tuple[str, str, str], Change]
) -> None:
    first, second = pairings[0].first.target.title, pairings[0].second.target.title
    by_series = {
        first: [changes[p.first.key].share for p in pairings],
        second: [changes[p.second.key].share for p in pairings],
        f"{first} \N{MINUS SIGN} {second}": [p.narrowing for p in pairings],
    }
    zero_line(axis)
    for number, (label, estimates) in enumerate(by_series.items()):
        known = [(place, e) for place, e in enumerate(estimates) if e is not None]
        intervals(
            axis,
            [place + 0.22 * (number - 1) for place, _ in known],
            [estimate.value for _, estimate in known],
            [bounds(estimate) for _, estimate in known],
            number,
            label,
        )
    axis.set_yticks(range(len(pairings)), labels=[p.first.recipe for p in pairings])
    axis.set_ylim(len(pairings) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)


def distribution(study: Study, parts: Sequence[Part]) -> Figure:
    """By target and recipe, what each language keeps: all, the middle half, the median."""
    models = list(dict.fromkeys(part.model for part in parts))
    targets = list(dict.fromkeys(part.target.name for part in parts))
    recipes = [name for name in study.recipes if any(part.recipe == name for part in parts)]

    def draw(canvas: Canvas) -> None:
        shape = len(models), len(targets)
        axes = canvas.subplots(*shape, squeeze=False, sharex=True, sharey=True)
        for part in parts:
            place = models.index(part.model), targets.index(part.target.name)
            _draw_strip(axes[place], part, recipes.index(part.recipe), place[1])
        for (row, column), axis in np.ndenumerate(axes):
            title = study.target(targets[column]).title
            name = model_title(study, models[row])
            axis.set_title(f"{name}: {title}", fontsize=10, fontweight="bold")
            axis.axvline(100, color=GREY, linewidth=0.8, zorder=0)
            axis.tick_params(axis="y", length=0)
        axes[0, 0].set_yticks(range(len(recipes)), labels=recipes)
        axes[0, 0].set_ylim(len(recipes) - 0.5, -0.5)
        canvas.supxlabel(
            f"% of the score in {language_name(study, study.source)}, one point per language",
            fontsize=9,
        )

    return Figure(
        name="gaps",
        title="What languages keep of the source score, by target and recipe",
        alt="One point per language, a bar over the middle half and a line at the median. "
        + " ".join(_alt_strip(study, part) for part in parts if part.recipe == recipes[0]),
        table="spread",
        draw=draw,
        size=(_WIDTH, max(2.4, len(models) * (0.32 * len(recipes) + 0.7) + 0.4)),
    )


def _all_kept(part: Part) -> list[float]:
    assert part.gaps is not None
    assert part.gaps.shares is not None
    return [_kept(part, code) for code in part.gaps.shares.languages]


def _draw_strip(axis: Axes, part: Part, place: int, number: int) -> None:
    colour, marker = look(number)
    values = _all_kept(part)
    low, middle, high = np.percentile(values, (25, 50, 75))
    axis.plot((low, high), (place, place), color=colour, linewidth=7, alpha=0.25, zorder=1)
    axis.plot((middle, middle), (place - 0.3, place + 0.3), color=colour, linewidth=1.6, zorder=3)
    axis.plot(values, [place] * len(values), marker, color=colour, markersize=3.5, zorder=2)


def _alt_strip(study: Study, part: Part) -> str:
    values = _all_kept(part)
    return (
        f"{model_title(study, part.model)}, {part.recipe}, {part.target.title}: "
        f"{min(values):.1f} % to {max(values):.1f} %, median {float(np.median(values)):.1f} %, "
        f"{counted(len(values), 'language')}."
    )


def context(study: Study, parts: Sequence[Part]) -> Figure:
    """The mean gap of every target, beside one another."""
    models = list(dict.fromkeys(part.model for part in parts))
    targets = list(dict.fromkeys(part.target.name for part in parts))
    found = {
        part.key: estimated(part.gaps.shares)
        for part in parts
        if part.gaps is not None and part.gaps.shares is not None
    }

    def draw(canvas: Canvas) -> None:
        axis = canvas.subplots()
        zero_line(axis)
        step = 0.6 / len(models)
        for number, model in enumerate(models):
            own = [(key, estimate) for key, estimate in found.items() if key[0] == model]
            known = [(key, estimate) for key, estimate in own if estimate is not None]
            shift = step * (number - (len(models) - 1) / 2)
            intervals(
                axis,
                [targets.index(key[2]) + shift for key, _ in known],
                [estimate.value for _, estimate in known],
                [bounds(estimate) for _, estimate in known],
                number,
                model_title(study, model),
            )
        axis.set_yticks(range(len(targets)), labels=[study.target(t).title for t in targets])
        axis.set_ylim(len(targets) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("gap to the source language, % of its score: mean over languages")
        if len(models) > 1:
            canvas.legend(loc="outside upper right", ncols=3)

    said = [
        f"{model_title(study, key[0])}, {study.target(key[2]).title} {ranged(estimate)} %"
        for key, estimate in found.items()
        if estimate is not None
    ]
    return Figure(
        name="context",
        title=f"The mean gap of every target ({parts[0].recipe})",
        alt=f"Points with 95 % intervals, one row per target: {listed(said)}.",
        table="spread",
        draw=draw,
        size=(_WIDTH, max(2.0, 0.35 * len(targets) * max(1, len(models) / 2) + 0.9)),
    )
