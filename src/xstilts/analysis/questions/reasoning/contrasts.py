"""What recipes gain over `none` on a target, and how far a gain holds."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.crossed import over_languages_and_seeds, over_seeds
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.multiple import corrected
from xstilts.analysis.stats.paired import compare
from xstilts.analysis.stats.regression import Correlation, correlation
from xstilts.analysis.study import BASELINE, Cell, Grid, Study, Target


@dataclass(frozen=True)
class Gain:
    """A recipe's scores minus those of `none`, without the source language.

    Attributes:
        grid: The differences.
        wide: Their mean, for other languages and other seeds.
        here: Their mean in these languages, for other seeds.
        items: Their mean in these languages with these trainings, for other test examples; None
            where it was not asked for.
    """

    model: str
    recipe: str
    target: Target
    grid: Grid
    wide: Estimate
    here: Estimate
    items: Estimate | None = None


def gains_of(study: Study, items: Iterable[str] = ()) -> list[Gain]:
    """All gains; each test is corrected over the recipes of a model and target.

    Args:
        study: The study.
        items: Names of the targets whose examples are compared, too.
    """
    found, wanted = [], set(items)
    for model in study.models:
        for target in study.targets:
            recipes = [recipe for recipe in study.recipes if recipe != BASELINE]
            own = [_gain(study, model, recipe, target, wanted) for recipe in recipes]
            found += _corrected([gain for gain in own if gain is not None])
    return found


def _gain(study: Study, model: str, recipe: str, target: Target, items: set[str]) -> Gain | None:
    grid = study.gain(model, recipe, target.name, zero_shot=True)
    if grid is None:
        return None
    wide, here = over_languages_and_seeds(grid.values), over_seeds(grid.values)
    compared = same_examples(study, model, recipe, target) if target.name in items else None
    return Gain(model, recipe, target, grid, wide, here, compared)


def _corrected(family: Sequence[Gain]) -> list[Gain]:
    wide = corrected([gain.wide for gain in family])
    here = corrected([gain.here for gain in family])
    tested = [gain.items for gain in family if gain.items is not None]
    items = iter(corrected(tested))
    return [
        replace(gain, wide=wide[i], here=here[i], items=None if gain.items is None else next(items))
        for i, gain in enumerate(family)
    ]


def same_examples(study: Study, model: str, recipe: str, target: Target) -> Estimate:
    """A recipe against `none` on the same test examples, over all languages but the source.

    An example is drawn with all its translations: XNLI and XCOPA are the same examples in each
    language, so that languages are no new evidence. Where they are not translations, this pairs
    what is independent, which changes nothing on average.
    """
    first = study.cells(model, recipe, target.name)
    second = study.cells(model, BASELINE, target.name)
    own = study.gain(model, recipe, target.name, zero_shot=True)
    assert own is not None
    first = [cell for cell in first if cell.seed in own.seeds]
    second = [cell for cell in second if cell.seed in own.seeds] or second
    both = [_pooled(cells, own.languages) for cells in (first, second)]
    value = float(own.values.mean())
    if both[0] is None or both[1] is None or both[0].shape != both[1].shape:
        why = "The test sets of the languages differ in length: examples cannot be matched."
        return Estimate(value, seeds=len(first), languages=len(own.languages), why=why)

    def finish(sums: Floats) -> Floats:
        return target.metric.finish(sums)[target.metric.overall]

    seed = (study.seed, zlib.crc32(target.name.encode()), zlib.crc32(model.encode()))
    found = compare(both[0], both[1], finish, study.samples, seed)
    return replace(found, seeds=len(first), languages=len(own.languages))


def _pooled(cells: Sequence[Cell], languages: Sequence[str]) -> Floats | None:
    """Statistics [examples, columns], summed over languages; the mean over seeds."""
    tables = [cell.statistics(code) for cell in cells for code in languages]
    if len({table.shape for table in tables}) != 1:
        return None
    total: Floats = np.sum(tables, axis=0) / len(cells)
    return total


@dataclass(frozen=True)
class Contrast:
    """A recipe's gain on one target minus its gain on another, same languages and seeds.

    Attributes:
        first: The gain on the first.
        second: On the second.
        difference: The mean difference, for other languages and seeds.
        together: Correlation of the two gains over languages.
    """

    first: Gain
    second: Gain
    languages: tuple[str, ...]
    difference: Estimate
    together: Correlation


def contrasts_of(gains: Sequence[Gain], kinds: tuple[str, str]) -> list[Contrast]:
    """All pairs of targets of two kinds; corrected over the recipes of a model and pair."""
    families: dict[tuple[str, str, str], list[Contrast]] = {}
    for first in (gain for gain in gains if gain.target.kind == kinds[0]):
        for second in (gain for gain in gains if gain.target.kind == kinds[1]):
            if (first.model, first.recipe) == (second.model, second.recipe):
                found = _contrast(first, second)
                key = first.model, first.target.name, second.target.name
                families.setdefault(key, []).extend([found] if found else [])
    return [contrast for family in families.values() for contrast in _adjusted(family)]


def _adjusted(family: Sequence[Contrast]) -> list[Contrast]:
    estimates = corrected([contrast.difference for contrast in family])
    return [replace(c, difference=e) for c, e in zip(family, estimates, strict=True)]


def _contrast(first: Gain, second: Gain) -> Contrast | None:
    grid = first.grid.minus(second.grid)
    if not grid.values.size:
        return None
    means = [by_language(gain.grid) for gain in (first, second)]
    together = correlation(*([found[code] for code in grid.languages] for found in means))
    difference = over_languages_and_seeds(grid.values)
    return Contrast(first, second, grid.languages, difference, together)


def by_language(grid: Grid) -> dict[str, float]:
    """Means over seeds."""
    means = grid.values.mean(axis=0)
    return {code: float(mean) for code, mean in zip(grid.languages, means, strict=True)}


def mean_of(grids: Sequence[Grid]) -> Grid | None:
    """Mean of several models' gains, over the seeds and languages that all have."""
    seeds = tuple(s for s in grids[0].seeds if all(s in grid.seeds for grid in grids))
    codes = tuple(c for c in grids[0].languages if all(c in grid.languages for grid in grids))
    if not seeds or not codes:
        return None
    parts = [
        grid.values[
            np.ix_([grid.seeds.index(s) for s in seeds], [grid.languages.index(c) for c in codes])
        ]
        for grid in grids
    ]
    return Grid(seeds, codes, np.mean(parts, axis=0))
