"""How drops go with distances: correlations, slopes, what intermediate training changes in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.questions.distance.values import Measure, Subject, changes, grids, whole
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate
from xstilts.analysis.stats.multiple import corrected, holm
from xstilts.analysis.stats.regression import Correlation, correlation, slope
from xstilts.analysis.study import BASELINE, Grid, Study

#: Languages below which a line through them says nothing.
FEWEST = 3

Bend = Literal["flattens", "steepens", "cannot be told apart", "cannot be said"]


@dataclass(frozen=True)
class Points:
    """Values of a subject beside a measure, for the languages that have both.

    Attributes:
        farness: [languages], larger where they are farther away.
        values: Drops or scores [seeds, languages].
    """

    languages: tuple[str, ...]
    farness: Floats
    values: Floats

    @property
    def spread(self) -> float:
        """Standard deviation of the measure over these languages; 0 where it does not vary."""
        steady = self.farness.size < 2 or np.ptp(self.farness) == 0
        return 0.0 if steady else float(np.std(self.farness, ddof=1))

    @property
    def standard(self) -> Floats:
        """The measure in standard deviations from its mean [languages]."""
        return np.asarray((self.farness - self.farness.mean()) / self.spread)

    @property
    def why_not(self) -> str:
        """Why nothing can be said of them; empty where something can."""
        if len(self.languages) < FEWEST:
            return f"{len(self.languages)} languages; at least {FEWEST} are needed"
        return "" if self.spread else "the measure does not vary"


@dataclass(frozen=True)
class Relation:
    """A subject's drops beside a measure, under one recipe.

    Attributes:
        points: The languages.
        correlation: Over languages, of the means over seeds; None where nothing can be said.
        adjusted: Its p-value after Holm's correction over the measures and subjects of a model and
            recipe.
        slope: Points per standard deviation farther away; None likewise.
        why: Why there is none.
    """

    model: str
    recipe: str
    subject: Subject
    measure: Measure
    points: Points
    correlation: Correlation | None
    slope: Estimate | None
    adjusted: float | None = None
    why: str = ""

    @property
    def strength(self) -> float:
        """Size of the correlation; 0 where there is none."""
        found = self.correlation.pearson if self.correlation else None
        return abs(found) if found is not None else 0.0

    @property
    def holds(self) -> bool:
        """It is there after the correction."""
        return self.adjusted is not None and self.adjusted <= 1 - CONFIDENCE


@dataclass(frozen=True)
class Flattening:
    """What a recipe changes in the slope of `none`: both in points per standard deviation.

    Attributes:
        before: Slope under `none`, over the same seeds and languages.
        change: Slope under the recipe minus that; its p-value corrected by Holm over the recipes
            and measures of a subject.
    """

    model: str
    recipe: str
    subject: Subject
    measure: Measure
    before: float | None
    change: Estimate | None
    why: str = ""

    @property
    def bend(self) -> Bend:
        """Whether the line gets flatter or steeper: by its slope without sign."""
        if self.change is None or self.before is None:
            return "cannot be said"
        if self.change.verdict in ("cannot be said", "cannot be told apart"):
            return self.change.verdict
        return "flattens" if abs(self.before + self.change.value) < abs(self.before) else "steepens"


def beside(grid: Grid, measure: Measure) -> Points:
    """The values of a grid beside a measure, for the languages that have both."""
    places = measure.known(grid.languages)
    languages = tuple(grid.languages[place] for place in places)
    return Points(languages, measure.farness(languages), grid.values[:, places])


def relations(
    study: Study, model: str, recipe: str, about: Sequence[Subject], known: Sequence[Measure]
) -> list[Relation]:
    """Every subject beside every measure; one family of tests.

    Args:
        study: The study.
        model: The model.
        recipe: The recipe.
        about: Targets and groups.
        known: Measures.

    Returns:
        By subject, then measure; without subjects that have no scores.
    """
    found = []
    for subject in about:
        grid = whole(study, subject, grids(study, model, recipe, subject))
        if grid is not None:
            for measure in known:
                points = beside(grid, measure)
                found.append(_relation(model, recipe, subject, measure, points))
    adjusted = holm([one.correlation.p if one.correlation else None for one in found])
    return [replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _relation(
    model: str, recipe: str, subject: Subject, measure: Measure, points: Points
) -> Relation:
    if points.why_not:
        why = points.why_not
        return Relation(model, recipe, subject, measure, points, None, None, why=why)
    pearson = correlation(points.farness, points.values.mean(axis=0))
    return Relation(
        model,
        recipe,
        subject,
        measure,
        points,
        pearson,
        slope(points.standard, points.values),
        why=pearson.why,
    )


def flattenings(
    study: Study, model: str, subject: Subject, known: Sequence[Measure]
) -> list[Flattening]:
    """What each recipe changes in the slopes of a subject; one family of tests."""
    found = []
    for recipe in (recipe for recipe in study.recipes if recipe != BASELINE):
        change = whole(study, subject, changes(study, model, recipe, subject))
        if change is None:
            continue
        own = whole(study, subject, grids(study, model, recipe, subject))
        assert own is not None
        for measure in known:
            one = _flattening(beside(change, measure), beside(own, measure), change.seeds, own)
            found.append(Flattening(model, recipe, subject, measure, *one))
    estimates = corrected([one.change for one in found if one.change is not None])
    return list(_with(found, estimates))


def _flattening(
    change: Points, own: Points, seeds: Sequence[int], grid: Grid
) -> tuple[float | None, Estimate | None, str]:
    """Slope of `none` over the seeds of the change, the change of it, why there is none."""
    if change.why_not:
        return None, None, change.why_not
    estimate = slope(change.standard, change.values)
    same = own.values[[grid.seeds.index(seed) for seed in seeds]]
    before = line(change.standard, (same - change.values).mean(axis=0))[1]
    return before, estimate, estimate.why


def line(x: Floats, y: Floats) -> tuple[float, float]:
    """Height at 0 and slope of the least-squares line [languages]; x varies."""
    centred = x - x.mean()
    rise = float(centred @ (y - y.mean()) / (centred @ centred))
    return float(y.mean() - rise * x.mean()), rise


def _with(found: Iterable[Flattening], estimates: Sequence[Estimate]) -> Iterable[Flattening]:
    rest = iter(estimates)
    for one in found:
        yield one if one.change is None else replace(one, change=next(rest))
