"""The recipe of each target, chosen on dev data, and what the choice gives on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from xstilts.analysis.questions.tasks.comparison import Comparison
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.targets import over_targets
from xstilts.analysis.study import BASELINE, Study

#: Dev scores nearer than this are equal.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Choice:
    """The recipe that dev data choose for a target.

    Attributes:
        target: The target.
        recipe: The one with the highest mean dev score over seeds, the study's first of several;
            `none` where there are no dev data. None where even that has no scores.
        dev: Its mean dev score in percent; None without dev data.
        ties: Other recipes with the same mean dev score.
        without: Recipes with scores but without a dev score for each of their seeds.
    """

    target: str
    recipe: str | None
    dev: float | None
    ties: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Total:
    """What a way to choose recipes gives over all targets.

    Attributes:
        way: How the recipes were chosen.
        recipes: By target.
        score: Mean over targets.
        gain: Over `none`; without interval where test scores chose.
        regret: Points below the best recipe of each target on test.
    """

    way: str
    recipes: Mapping[str, str]
    score: float
    gain: Estimate
    regret: float


BY_TARGET = "best on dev for each target"
ONE_FOR_ALL = "one recipe, best on dev"
ON_TEST = "best on test for each target"


def dev_means(study: Study, model: str, target: str) -> dict[str, float | None]:
    """Mean dev score over its seeds of each recipe that has scores; None if a seed has none.

    Raises:
        InputError: If an artifact behind a dev score is missing or was changed.
    """
    found: dict[str, float | None] = {}
    for recipe in study.recipes:
        cells = study.cells(model, recipe, target)
        values = [study.dev(model, recipe, cell.seed, target) for cell in cells]
        known = [value for value in values if value is not None]
        if cells:
            found[recipe] = fmean(known) if len(known) == len(cells) else None
    return found


def choose(target: str, means: Mapping[str, float | None]) -> Choice:
    """The recipe with the highest mean dev score; `none` where no recipe has one."""
    known = {recipe: value for recipe, value in means.items() if value is not None}
    without = tuple(recipe for recipe in means if recipe not in known)
    if not known:
        return Choice(target, BASELINE if BASELINE in means else None, None, (), without)
    best = max(known.values())
    equal = [recipe for recipe, value in known.items() if best - value <= _EQUAL]
    return Choice(target, equal[0], best, tuple(equal[1:]), without)


def totals(
    compared: Comparison, choices: Sequence[Choice], dev: Mapping[str, Mapping[str, float | None]]
) -> list[Total]:
    """What each way of choosing gives over the targets that have a chosen recipe and `none`.

    Args:
        compared: The scores.
        choices: Of each target.
        dev: Mean dev score by target and recipe.
    """
    chosen = {
        choice.target: choice.recipe
        for choice in choices
        if choice.recipe is not None and compared.grid(BASELINE, choice.target) is not None
    }
    if not chosen:
        return []
    oracle = {target: best_on_test(compared, target) for target in chosen}
    ways = {BY_TARGET: chosen}
    if one := _one_for_all(chosen, dev, compared):
        ways[ONE_FOR_ALL] = dict.fromkeys(chosen, one)
    found = []
    highest = compared.score(oracle)
    for way, recipes in {**ways, ON_TEST: oracle}.items():
        score, changes = compared.score(recipes), compared.together(recipes)
        if score is not None and changes is not None and highest is not None:
            gain = over_targets(changes)
            if way == ON_TEST:
                why = "Chosen on the test scores themselves."
                gain = Estimate(gain.value, seeds=gain.seeds, languages=gain.languages, why=why)
            found.append(Total(way, recipes, score, gain, max(0.0, highest - score)))
    return found


def best_on_test(compared: Comparison, target: str) -> str:
    """The recipe with the highest mean test score, the study's first of several."""
    scores = {g.recipe: g.score for g in compared.on(target) if g.score is not None}
    return max(scores, key=lambda recipe: round(scores[recipe], 6))


def _one_for_all(
    targets: Mapping[str, str], dev: Mapping[str, Mapping[str, float | None]], compared: Comparison
) -> str | None:
    """The recipe with scores on all targets and the highest dev score averaged over them."""
    with_dev = [name for name in targets if any(v is not None for v in dev[name].values())]
    found: dict[str, float] = {}
    for recipe in compared.study.recipes:
        values = [dev[name].get(recipe) for name in with_dev]
        known = [value for value in values if value is not None]
        whole = compared.score(dict.fromkeys(targets, recipe)) is not None
        if known and len(known) == len(with_dev) and whole:
            found[recipe] = fmean(known)
    return max(found, key=lambda recipe: round(found[recipe], 6)) if found else None
