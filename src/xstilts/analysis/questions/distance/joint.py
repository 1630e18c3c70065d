"""Several measures at once: which of them say something that the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.questions.distance.relations import beside
from xstilts.analysis.questions.distance.values import Measure, Subject, grids, whole
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.multiple import corrected
from xstilts.analysis.stats.regression import mixed
from xstilts.analysis.study import Grid, Study

#: Languages per measure. Two are enough for coefficients and intervals of a linear regression
#: (Austin and Steyerberg 2015, J Clin Epidemiol 68:627-636); measures that go together need more.
LANGUAGES_PER_MEASURE = 5
#: Variance inflation from which a measure is taken to say what others say (Kutner, Nachtsheim,
#: Neter and Li 2005, "Applied linear statistical models", chapter 10.5).
MOST_INFLATION = 10.0
#: Which measures are asked first where not all can be: an order that stands before any score is
#: seen. Syntax and the size of the pretraining data foretold drops best in Lauscher et al. 2020
#: (arXiv 2005.00633).
ORDER = (
    "planted",
    "syntactic",
    "pretraining",
    "shared_subwords",
    "phonological",
    "genetic",
    "geographic",
    "fertility",
    "inventory",
    "script",
    "split",
    "unknown",
)


@dataclass(frozen=True)
class Part:
    """A measure in a regression on several.

    Attributes:
        slope: Points per standard deviation farther away, the others held; Holm over the measures
            of the regression.
        beta: The same in standard deviations of the values over languages; None where they do not
            vary.
        inflation: Its variance inflation factor.
    """

    measure: Measure
    slope: Estimate
    beta: float | None
    inflation: float


@dataclass(frozen=True)
class Joint:
    """A regression on several measures at once.

    Attributes:
        languages: Languages that have all its measures.
        parts: A measure each; empty where there is no regression.
        why: Why there is none.
    """

    model: str
    recipe: str
    subject: Subject
    languages: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    why: str = ""


def joint(
    study: Study, model: str, recipe: str, subject: Subject, known: Sequence[Measure]
) -> Joint | None:
    """Mixed-effects regression of drops on as many measures as the languages allow.

    Languages and seeds are random, the levels of targets fixed. Measures come in a fixed order;
    one is left out where it does not vary or repeats those before it.

    Returns:
        None where the subject has no scores.
    """
    found = grids(study, model, recipe, subject)
    every = whole(study, subject, found)
    if found is None or every is None:
        return None
    chosen, languages = choose(known, every.languages)
    if len(chosen) < 2:
        why = _too_few(known, every.languages)
        return Joint(model, recipe, subject, every.languages, why=why)
    design = standard(chosen, languages)
    slopes = _fit(found, languages, dict(zip(_names(chosen), design.T, strict=True)))
    if why := next((slope.why for slope in slopes if slope.why), ""):
        return Joint(model, recipe, subject, languages, why=why)
    spread = float(np.std(every.of(languages).values.mean(axis=0), ddof=1))
    parts = tuple(
        Part(measure, slope, slope.value / spread if spread else None, float(factor))
        for measure, slope, factor in zip(chosen, slopes, inflation(design), strict=True)
    )
    return Joint(model, recipe, subject, languages, parts)


def choose(
    known: Sequence[Measure], languages: Sequence[str]
) -> tuple[list[Measure], tuple[str, ...]]:
    """Measures for one regression, and the languages that have all of them."""
    chosen: list[Measure] = []
    left = tuple(languages)
    for measure in sorted(known, key=_place):
        trial = [*chosen, measure]
        codes = tuple(code for code in left if code in measure.values)
        if len(codes) < LANGUAGES_PER_MEASURE * max(2, len(trial)) or not _vary(trial, codes):
            continue
        if len(trial) == 1 or inflation(standard(trial, codes)).max() < MOST_INFLATION:
            chosen, left = trial, codes
    return chosen, left


def _place(measure: Measure) -> int:
    return ORDER.index(measure.name) if measure.name in ORDER else len(ORDER)


def _names(chosen: Sequence[Measure]) -> Iterator[str]:
    return (measure.name for measure in chosen)


def _vary(chosen: Sequence[Measure], languages: Sequence[str]) -> bool:
    every = np.ones((1, len(languages)))
    grid = Grid((0,), tuple(languages), every)
    return all(beside(grid, measure).spread for measure in chosen)


def _too_few(known: Sequence[Measure], languages: Sequence[str]) -> str:
    wanted = 2 * LANGUAGES_PER_MEASURE
    varied = [one for one in known if _vary([one], [c for c in languages if c in one.values])]
    if len(varied) < 2:
        return f"two measures that vary are needed, there {'is' if varied else 'are'} {len(varied)}"
    if len(languages) < wanted:
        return f"{len(languages)} languages; two measures at once need {wanted}"
    return "no two measures are known for enough of its languages and differ enough"


def standard(chosen: Sequence[Measure], languages: Sequence[str]) -> Floats:
    """Measures in standard deviations from their means [languages, measures]."""
    columns = np.stack([measure.farness(languages) for measure in chosen], axis=1)
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0, ddof=1))


def inflation(design: Floats) -> Floats:
    """Variance inflation factors [measures] of standardised columns [languages, measures].

    The diagonal of the inverse of their correlations; infinite where one repeats the others.
    """
    correlations = np.atleast_2d(np.corrcoef(design, rowvar=False))
    if np.linalg.matrix_rank(correlations) < len(correlations):
        return np.full(len(correlations), np.inf)
    return np.asarray(np.diag(np.linalg.inv(correlations)))


def _fit(
    found: Sequence[Grid], languages: Sequence[str], columns: dict[str, Floats]
) -> list[Estimate]:
    """Slopes of the columns [languages], corrected as one family."""
    rows = [
        (grid.values[i, grid.languages.index(code)], seed, languages.index(code), number)
        for number, grid in enumerate(found)
        for i, seed in enumerate(grid.seeds)
        for code in grid.languages
        if code in languages
    ]
    values, seeds, places, targets = (list(column) for column in zip(*rows, strict=True))
    predictors = {name: column[places] for name, column in columns.items()}
    fitted = mixed(values, predictors, places, seeds, targets)
    return corrected(list(fitted.values()))
