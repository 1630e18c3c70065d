"""What recipes promised against what was measured: cases, and what following a prediction loses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from xstilts.analysis.questions.prediction.predictors import PREDICTORS, Predictions, Predictor
from xstilts.analysis.stats.crossed import hedges, student
from xstilts.analysis.stats.estimate import Estimate, tidy
from xstilts.analysis.stats.multiple import corrected
from xstilts.analysis.stats.regret import RankCorrelation, rank_correlation, regret
from xstilts.analysis.study import BASELINE, Study, Target
from xstilts.analysis.tables import ALL, ZERO_SHOT

Row = dict[str, Any]

#: Numbers of recipes that are tried.
KS = (1, 3, 5)


@dataclass(frozen=True)
class Case:
    """The recipes of a model on a target: what was predicted, and what was measured.

    Attributes:
        kind: Languages of the scores, `zero-shot` or `all`.
        recipes: Those with scores, but for `none`.
        scores: Mean over languages, then seeds, of each.
        predicted: By the predictor's name, of each; None where it is silent.
    """

    model: str
    target: Target
    kind: str
    recipes: tuple[str, ...]
    scores: tuple[float, ...]
    predicted: dict[str, tuple[float | None, ...]]

    def silent(self, predictor: Predictor) -> bool:
        """Whether a predictor says nothing of any recipe."""
        return all(value is None for value in self.predicted[predictor.name])

    def regret(self, predictor: Predictor | None, k: int) -> float | None:
        """Percent lost by a predictor's first k recipes, or by k random ones."""
        if k >= len(self.recipes):
            return None  # every choice holds the best one, or there are not so many
        equal: tuple[float | None, ...] = (0.0,) * len(self.recipes)
        return regret(self.predicted[predictor.name] if predictor else equal, self.scores, k)

    def correlation(self, predictor: Predictor) -> RankCorrelation:
        """Rank correlation of the predictions with the scores."""
        return rank_correlation(self.predicted[predictor.name], self.scores)

    def first(self, predictor: Predictor) -> str:
        """What a predictor puts first; several where they are equal."""
        values = self.predicted[predictor.name]
        best = max(value for value in values if value is not None)
        return _or(r for r, value in zip(self.recipes, values, strict=True) if value == best)

    @property
    def best(self) -> str:
        """The best recipe as measured."""
        return _or(
            r for r, s in zip(self.recipes, self.scores, strict=True) if s == max(self.scores)
        )


# ---- cases


def cases_of(study: Study, predictions: Predictions) -> Iterator[Case]:
    """Every model, kind of languages and target with scores of at least two recipes."""
    for model in study.models:
        for kind in (ZERO_SHOT, ALL):
            for target in study.targets:
                scores = {
                    recipe: score
                    for recipe in study.recipes
                    if recipe != BASELINE
                    and (score := score_of(study, model, recipe, target, kind)) is not None
                }
                if len(scores) > 1:
                    predicted = {
                        one.name: tuple(
                            predictions.value(one, model, recipe, target) for recipe in scores
                        )
                        for one in PREDICTORS
                    }
                    values = tuple(scores.values())
                    yield Case(model, target, kind, tuple(scores), values, predicted)


def score_of(study: Study, model: str, recipe: str, target: Target, kind: str) -> float | None:
    """Mean over languages, then seeds; None without scores, or without such languages."""
    grid = study.grid(model, recipe, target.name)
    if grid is None:
        return None
    if kind == ZERO_SHOT:
        grid = grid.of(code for code in grid.languages if code != study.source)
    return float(grid.values.mean()) if grid.values.size else None


def gain_of(study: Study, model: str, recipe: str, target: Target, kind: str) -> float | None:
    """Mean change against `none` over the seeds and languages that both have."""
    grid = study.gain(model, recipe, target.name, zero_shot=kind == ZERO_SHOT)
    return None if grid is None else float(grid.values.mean())


# ---- regret over targets


@dataclass(frozen=True)
class Loss:
    """What following a predictor loses on average over targets.

    Attributes:
        mean: Its regret, in percent of the best score.
        random: Of a random choice on the same targets.
        less: By how much it is below the random choice's.
    """

    model: str
    kind: str
    predictor: Predictor
    k: int
    by_target: dict[str, float]
    mean: Estimate
    random: float
    less: Estimate


def losses_of(model: str, cases: Sequence[Case]) -> list[Loss]:
    """Of all predictors and k; the tests of each kind of languages are one family."""
    found: list[Loss] = []
    for kind in (ZERO_SHOT, ALL):
        own = [case for case in cases if case.model == model and case.kind == kind]
        raw = [loss for one in PREDICTORS for k in KS if (loss := _loss(own, one, k)) is not None]
        tested = corrected([loss.less for loss in raw])
        found += [replace(loss, less=less) for loss, less in zip(raw, tested, strict=True)]
    return found


def _loss(cases: Sequence[Case], predictor: Predictor, k: int) -> Loss | None:
    pairs = {
        case.target.name: (own, chance)
        for case in cases
        if not case.silent(predictor)
        and (own := case.regret(predictor, k)) is not None
        and (chance := case.regret(None, k)) is not None
    }
    if not pairs:
        return None
    by_target = {name: own for name, (own, _) in pairs.items()}
    mean = over_targets([own for own, _ in pairs.values()])
    less = over_targets([chance - own for own, chance in pairs.values()])
    random = fmean(chance for _, chance in pairs.values())
    first = cases[0]
    return Loss(first.model, first.kind, predictor, k, by_target, mean, random, less)


def over_targets(values: Sequence[float]) -> Estimate:
    """The mean for other targets than these, with Student's interval."""
    found, n = np.asarray(values), len(values)
    if n < 2:
        return Estimate(
            float(found.mean()), why="One target: the spread over targets is not known."
        )
    spread = float(found.std(ddof=1))
    if spread <= 1e-9:
        return Estimate(float(found.mean()), why="All targets are equal: there is no spread.")
    mean = float(found.mean())
    effect = hedges(mean, spread, n - 1)
    return student(mean, spread / math.sqrt(n), n - 1, effect)


def bounds_of(estimate: Estimate) -> Row:
    """The interval of a regret, which is not below 0."""
    low = None if estimate.low is None else max(0.0, estimate.low)
    return {"low": tidy(low), "high": tidy(estimate.high)}


def main_kind(model: str, cases: Sequence[Case]) -> str:
    """Languages that text and figures are about: zero-shot where the study has such."""
    kinds = {case.kind for case in cases if case.model == model}
    return ZERO_SHOT if ZERO_SHOT in kinds else ALL


def holds(study: Study, recipe: str, target: Target) -> bool:
    """Whether a recipe has the task on which a target is fine-tuned."""
    return bool(set(target.train[-1:]) & set(study.recipe_rows[recipe].get("tasks", ())))


def _or(names: Iterator[str]) -> str:
    return " or ".join(names)
