"""Scores against chance, and gains against the kind and size of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.questions.reasoning.contrasts import Gain, mean_of
from xstilts.analysis.stats.crossed import over_languages_and_seeds
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.multiple import corrected
from xstilts.analysis.stats.regression import Correlation, correlation
from xstilts.analysis.study import Grid, Study, Target

#: Models that a correlation with their size needs.
SIZES = 4


def kind_of(study: Study, model: str) -> str:
    """Encoder or decoder; empty where the study does not say."""
    return str(study.model_rows[model].get("kind") or "")


def parameters_of(study: Study, model: str) -> int | None:
    """Parameters of the encoder or decoder, where known."""
    found = study.model_rows[model].get("parameters")
    return None if found is None else int(found)


# ---- accuracy against chance


@dataclass(frozen=True)
class Level:
    """A model's score on a target with a recipe, without the source language.

    Attributes:
        score: Mean over languages and seeds.
        above: The score minus chance; None where chance is not known.
        fixed: Nothing random happens before the score: there are no other seeds to speak of.
    """

    model: str
    recipe: str
    target: Target
    score: float
    above: Estimate | None
    fixed: bool = False


def levels_of(study: Study, target: Target) -> list[Level]:
    """Of all models and recipes; tests against chance are corrected over the recipes of a model."""
    found = []
    for model in study.models:
        own = [_level(study, model, recipe, target) for recipe in study.recipes]
        known = [level for level in own if level is not None]
        tested = iter(corrected([level.above for level in known if level.above is not None]))
        for level in known:
            above = None if level.above is None else next(tested)
            found.append(replace(level, above=above))
    return found


def _level(study: Study, model: str, recipe: str, target: Target) -> Level | None:
    grid = study.grid(model, recipe, target.name)
    if grid is None:
        return None
    grid = grid.of(code for code in grid.languages if code != study.source)
    if not grid.languages:
        return None
    chance = target.chance
    above = None if chance is None else _over_languages(grid, grid.values - chance)
    return Level(model, recipe, target, float(grid.values.mean()), above, grid.fixed)


def _over_languages(grid: Grid, values: Floats) -> Estimate:
    """The mean for other languages, and for other seeds where they decide anything.

    Where they do not, every seed would give the same values: with them repeated nothing comes of
    seeds, and the interval is Student's t over languages.
    """
    if not grid.fixed:
        return over_languages_and_seeds(values)
    return replace(over_languages_and_seeds(np.repeat(values[:1], 2, axis=0)), seeds=1)


# ---- kinds and sizes of models


@dataclass(frozen=True)
class Kinds:
    """The mean gain of the decoders minus that of the encoders, with one recipe on one target."""

    recipe: str
    target: Target
    encoders: tuple[str, ...]
    decoders: tuple[str, ...]
    means: tuple[Estimate, Estimate]
    difference: Estimate


def kinds_of(study: Study, gains: Sequence[Gain]) -> list[Kinds]:
    """One for each recipe and target that both kinds have; corrected over the recipes."""
    found: list[Kinds] = []
    for target in dict.fromkeys(gain.target for gain in gains):
        family = []
        for recipe in study.recipes:
            own = [gain for gain in gains if (gain.recipe, gain.target) == (recipe, target)]
            family += _of_recipe(study, recipe, target, own)
        tested = corrected([kinds.difference for kinds in family])
        found += [
            Kinds(k.recipe, target, k.encoders, k.decoders, k.means, estimate)
            for k, estimate in zip(family, tested, strict=True)
        ]
    return found


def _of_recipe(study: Study, recipe: str, target: Target, gains: Sequence[Gain]) -> list[Kinds]:
    by_kind = {
        kind: [gain for gain in gains if kind_of(study, gain.model) == kind]
        for kind in ("encoder", "decoder")
    }
    if not all(by_kind.values()):
        return []
    grids = [mean_of([gain.grid for gain in own]) for own in by_kind.values()]
    if grids[0] is None or grids[1] is None:
        return []
    difference = grids[1].minus(grids[0])
    if not difference.values.size:
        return []
    names = [tuple(gain.model for gain in own) for own in by_kind.values()]
    means = over_languages_and_seeds(grids[0].values), over_languages_and_seeds(grids[1].values)
    tested = over_languages_and_seeds(difference.values)
    return [Kinds(recipe, target, names[0], names[1], means, tested)]


@dataclass(frozen=True)
class Size:
    """Correlation over models of a recipe's mean gain with the logarithm of their parameters."""

    recipe: str
    target: Target
    found: Correlation


def sizes_of(study: Study, gains: Sequence[Gain]) -> list[Size]:
    """One for each recipe and target with enough models of known size."""
    found = []
    for target in dict.fromkeys(gain.target for gain in gains):
        for recipe in study.recipes:
            own = [
                (math.log10(parameters), gain.wide.value)
                for gain in gains
                if (gain.recipe, gain.target) == (recipe, target)
                and (parameters := parameters_of(study, gain.model))
            ]
            if len(own) >= SIZES:
                found.append(Size(recipe, target, correlation(*zip(*own, strict=True))))
    return found
