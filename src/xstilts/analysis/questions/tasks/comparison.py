"""The recipes of a model against `none` and against each other, by target and over targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import numpy as np

from xstilts.analysis.stats.crossed import over_languages_and_seeds, over_seeds
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.multiple import Rank, holm, ranks
from xstilts.analysis.stats.targets import over_targets, these_languages
from xstilts.analysis.study import BASELINE, Grid, Study

Differences = Mapping[tuple[str, str], Estimate | None]


@dataclass(frozen=True)
class Gain:
    """What a recipe gives on a target, or over all of them.

    Attributes:
        recipe: The recipe.
        target: The target; None for the mean over targets.
        score: Mean over languages and seeds (and targets); None where it has no scores.
        general: Change against `none` for other languages and seeds; None where there is none.
        these: The same for these languages and other seeds.
        gaining: Share of the languages with a higher mean than with `none`.
        rank: Among the recipes, by their scores.
        why: Why there is no score or no change; empty where there are both.
    """

    recipe: str
    target: str | None
    score: float | None
    general: Estimate | None = None
    these: Estimate | None = None
    gaining: float | None = None
    rank: Rank | None = None
    why: str = ""

    @property
    def value(self) -> float | None:
        """The change in points; 0 of `none`."""
        if self.recipe == BASELINE and self.score is not None:
            return 0.0
        return None if self.general is None else self.general.value


class Comparison:
    """All recipes of a model, in all languages or without the source language.

    Attributes:
        targets: Targets that have any such language.
        counted: Targets in the mean over targets: those on which `none` has scores, or where it has
            none at all, those on which another recipe has.
        gains: On each target, of each recipe, in the order of the study.
        overall: Over the counted targets, of each recipe.
    """

    def __init__(self, study: Study, model: str, zero_shot: bool) -> None:
        self.study, self.model, self.zero_shot = study, model, zero_shot
        self._grids = dict(self._read())
        self.targets = [
            target.name
            for target in study.targets
            if any(not zero_shot or code != study.source for code in target.languages)
        ]
        with_baseline = [name for name in self.targets if self.grid(BASELINE, name)]
        scored = {target for _, target in self._grids}
        self.counted = with_baseline or [name for name in self.targets if name in scored]
        found = [self._gain(recipe, name) for name in self.targets for recipe in study.recipes]
        self.gains = _one_family(found)
        self.overall = _one_family([self._overall(recipe) for recipe in study.recipes])
        self._rank()

    def _read(self) -> Iterable[tuple[tuple[str, str], Grid]]:
        for recipe in self.study.recipes:
            for target in self.study.targets:
                grid = self.study.grid(self.model, recipe, target.name)
                if grid is not None and self.zero_shot:
                    grid = grid.of(code for code in grid.languages if code != self.study.source)
                if grid is not None and grid.values.size:
                    yield (recipe, target.name), grid

    def grid(self, recipe: str, target: str) -> Grid | None:
        """Scores [seeds, languages]; None if there are none."""
        return self._grids.get((recipe, target))

    def on(self, target: str) -> list[Gain]:
        """The recipes on a target."""
        return [gain for gain in self.gains if gain.target == target]

    def of(self, recipe: str, target: str) -> Gain:
        """A recipe on a target."""
        return next(gain for gain in self.on(target) if gain.recipe == recipe)

    def difference(self, first: str, second: str, target: str) -> Grid | None:
        """Scores of a recipe minus another's, paired by seed and language."""
        own, other = self.grid(first, target), self.grid(second, target)
        if own is None or other is None:
            return None
        if first == second:  # nothing was changed: nothing is random
            return replace(own, values=np.zeros_like(own.values), fixed=True)
        if own.fixed and not other.fixed:
            found = other.minus(own)
            found = replace(found, values=-found.values)
        else:
            found = own.minus(other)
        return found if found.values.size else None

    def together(self, first: Mapping[str, str], second: str = BASELINE) -> list[Grid] | None:
        """Differences on each target of a recipe by target minus another; None if one is missing.

        None as well where the targets share no seed, so that no average of a seed can be taken.
        """
        found = [self.difference(recipe, second, name) for name, recipe in first.items()]
        whole = [grid for grid in found if grid is not None]
        drawn = [set(grid.seeds) for grid in whole if not grid.fixed]
        if len(whole) < len(found) or not whole or (drawn and not set.intersection(*drawn)):
            return None
        return whole

    def score(self, recipes: Mapping[str, str]) -> float | None:
        """The mean over targets of a recipe by target; None if one has no scores."""
        found = [self.grid(recipe, name) for name, recipe in recipes.items()]
        whole = [float(grid.values.mean()) for grid in found if grid is not None]
        return fmean(whole) if whole and len(whole) == len(found) else None

    def _gain(self, recipe: str, target: str) -> Gain:
        own = self.grid(recipe, target)
        if own is None:
            return Gain(recipe, target, None, why="No scores.")
        gain = Gain(recipe, target, float(own.values.mean()))
        if recipe == BASELINE:
            return gain
        change = self.difference(recipe, BASELINE, target)
        if change is None:
            return replace(gain, why=self._no_baseline(target))
        return replace(
            gain,
            general=over_languages_and_seeds(change.values),
            these=over_seeds(change.values),
            gaining=_share([change]),
        )

    def _no_baseline(self, target: str) -> str:
        missing = self.grid(BASELINE, target) is None
        return f"No scores of {BASELINE}." if missing else f"No seed shared with {BASELINE}."

    def _overall(self, recipe: str) -> Gain:
        recipes = dict.fromkeys(self.counted, recipe)
        score = self.score(recipes)
        if score is None:
            missing = [name for name in self.counted if self.grid(recipe, name) is None]
            return Gain(recipe, None, None, why=f"No scores on {', '.join(missing) or 'a target'}.")
        gain = Gain(recipe, None, score)
        if recipe == BASELINE:
            return gain
        changes = self.together(recipes)
        if changes is None:
            return replace(gain, why=f"No seed shared by all targets and {BASELINE}.")
        return replace(
            gain,
            general=over_targets(changes),
            these=these_languages(changes),
            gaining=_share(changes),
        )

    # ---- ranks

    def _rank(self) -> None:
        """Give every recipe its rank on each target and over them."""
        found: list[Gain] = []
        for target in self.targets:
            ranked, _ = _ranked(self.on(target), partial(self._on_target, target))
            found += ranked
        self.gains = found
        self.overall, self._pairs = _ranked(self.overall, self._over_all)

    def _on_target(self, target: str, first: str, second: str) -> Estimate | None:
        grid = self.difference(first, second, target)
        return None if grid is None else over_languages_and_seeds(grid.values)

    def _over_all(self, first: str, second: str) -> Estimate | None:
        grids = self.together(dict.fromkeys(self.counted, first), second)
        return None if grids is None else over_targets(grids)

    def first(self) -> Gain | None:
        """The recipe with the highest mean over targets; the study's first of several."""
        whole = [gain for gain in self.overall if gain.rank is not None]
        return min(whole, key=lambda gain: gain.rank.rank if gain.rank else 0, default=None)

    def verdicts(self, recipe: str) -> dict[str, str]:
        """Where every other recipe stands to one, over all targets, by the tests of the ranks."""
        found: dict[str, str] = {}
        for (one, other), estimate in self._pairs.items():
            if recipe in (one, other):
                name, sign = (one, 1) if other == recipe else (other, -1)
                verdict = "cannot be said" if estimate is None else estimate.verdict
                turned = {"higher": "lower", "lower": "higher"}
                found[name] = turned.get(verdict, verdict) if sign < 0 else verdict
        return found


def _ranked(
    gains: Sequence[Gain], difference: Callable[[str, str], Estimate | None]
) -> tuple[list[Gain], Differences]:
    """The gains with their ranks, and the tests behind them, corrected as one family."""
    values = {gain.recipe: gain.score for gain in gains if gain.score is not None}
    tests: dict[tuple[str, str], Estimate | None] = {}

    def tested(first: str, second: str) -> Estimate | None:
        tests[first, second] = difference(first, second)
        return tests[first, second]

    found = ranks(list(values), values, tested)
    family = dict(zip(tests, _corrected(list(tests.values())), strict=True))
    return [replace(gain, rank=found.get(gain.recipe)) for gain in gains], family


def _one_family(gains: Sequence[Gain]) -> list[Gain]:
    """The gains with p-values corrected over all of them, each kind of test by itself."""
    general = _corrected([gain.general for gain in gains])
    these = _corrected([gain.these for gain in gains])
    return [
        replace(gain, general=one, these=other)
        for gain, one, other in zip(gains, general, these, strict=True)
    ]


def _corrected(estimates: Sequence[Estimate | None]) -> list[Estimate | None]:
    adjusted = holm([None if found is None else found.p for found in estimates])
    return [
        None if found is None else found.with_adjusted(p)
        for found, p in zip(estimates, adjusted, strict=True)
    ]


def _share(changes: Sequence[Grid]) -> float:
    """Percent of languages with a mean change above 0, averaged over the targets that have them."""
    found: dict[str, list[float]] = {}
    for grid in changes:
        for code, value in zip(grid.languages, grid.values.mean(axis=0), strict=True):
            found.setdefault(code, []).append(float(value))
    return 100 * float(np.mean([fmean(values) > 0 for values in found.values()]))
