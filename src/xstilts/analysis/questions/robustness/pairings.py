"""What two targets keep of their source scores: with one recipe, and how a recipe changes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xstilts.analysis.questions.robustness.gaps import Gaps, gaps_of
from xstilts.analysis.stats.crossed import over_languages_and_seeds, over_seeds
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.multiple import corrected
from xstilts.analysis.stats.regression import Correlation, correlation
from xstilts.analysis.study import BASELINE, Grid, Study, Target


@dataclass(frozen=True)
class Part:
    """A model's scores on a target with a recipe.

    Attributes:
        zero_shot: Its scores without the source language; None if there are none.
        source: Its scores in the source language [seeds, 1]; None if there are none.
        gaps: None if one of the two is missing.
    """

    model: str
    recipe: str
    target: Target
    zero_shot: Grid | None
    source: Grid | None
    gaps: Gaps | None

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, recipe and name of the target."""
        return self.model, self.recipe, self.target.name


Parts = dict[tuple[str, str, str], Part]


def parts_of(study: Study) -> Parts:
    """Every model, recipe and target that has scores."""
    found: Parts = {}
    for model, recipe in study.pairs():
        for target in study.targets:
            grid = study.grid(model, recipe, target.name)
            if grid is not None:
                part = _part(model, recipe, target, grid, study.source)
                found[part.key] = part
    return found


def _part(model: str, recipe: str, target: Target, grid: Grid, source: str) -> Part:
    others = grid.of(code for code in grid.languages if code != source)
    own = grid.of([source])
    return Part(
        *(model, recipe, target),
        zero_shot=others if others.languages else None,
        source=own if own.languages else None,
        gaps=gaps_of(grid, source, target.chance),
    )


def estimated(grid: Grid | None) -> Estimate | None:
    """The mean over languages and seeds; None without any."""
    if grid is None or not grid.values.size:
        return None
    return over_languages_and_seeds(grid.values)


def minus(first: Grid | None, second: Grid | None) -> Grid | None:
    """Paired differences; None if one is missing, or they share no seed or language."""
    if first is None or second is None:
        return None
    found = first.minus(second)
    return found if found.values.size else None


def holm(found: list[Estimate | None]) -> list[Estimate | None]:
    """One family of tests, corrected; what is missing stays so."""
    known = iter(corrected([one for one in found if one is not None]))
    return [None if one is None else next(known) for one in found]


@dataclass(frozen=True)
class Change:
    """What a recipe changes on a target, against `none`: positive where more is reached or kept.

    Attributes:
        scores: Change of the zero-shot scores, in points.
        source: Change of the score in the source language, in points; of these languages.
        gap: Change of the gap, in points: positive where it narrows.
        share: Change of what is kept, in percentage points.
    """

    part: Part
    scores: Estimate | None
    source: Estimate | None
    gap: Estimate | None
    share: Estimate | None


def changes_of(study: Study, parts: Parts) -> list[Change]:
    """All of them; tests are corrected over the recipes of a model and target."""
    found = []
    for model in study.models:
        for target in study.targets:
            own = [_change(part, parts) for part in _with_baseline(study, parts, model, target)]
            found += _changes_corrected(own)
    return found


def _changes_corrected(family: Sequence[Change]) -> list[Change]:
    scores = holm([change.scores for change in family])
    gap = holm([change.gap for change in family])
    share = holm([change.share for change in family])
    return [
        replace(change, scores=scores[place], gap=gap[place], share=share[place])
        for place, change in enumerate(family)
    ]


def _with_baseline(study: Study, parts: Parts, model: str, target: Target) -> Iterator[Part]:
    """The parts of a model and target that can be held against `none`."""
    if (model, BASELINE, target.name) in parts:
        for recipe in study.recipes:
            if recipe != BASELINE and (model, recipe, target.name) in parts:
                yield parts[model, recipe, target.name]


def _change(part: Part, parts: Parts) -> Change:
    before = parts[part.model, BASELINE, part.target.name]
    own = minus(part.source, before.source)
    return Change(
        part,
        scores=estimated(minus(part.zero_shot, before.zero_shot)),
        source=None if own is None else over_seeds(own.values),
        gap=estimated(_points(part, before)),
        share=estimated(_shares(part, before)),
    )


def _points(part: Part, before: Part) -> Grid | None:
    if part.gaps is None or before.gaps is None:
        return None
    return minus(part.gaps.points, before.gaps.points)


def _shares(part: Part, before: Part) -> Grid | None:
    if part.gaps is None or before.gaps is None:
        return None
    return minus(part.gaps.shares, before.gaps.shares)


@dataclass(frozen=True)
class Pairing:
    """Two targets of a model with the same recipe, over the languages and seeds that both have.

    Attributes:
        first: For instance NER.
        second: For instance NLI.
        languages: Those that both have, without the source language.
        share: First minus second of what is kept of the source score, in percentage points;
            negative where the first loses more. None where one has no shares.
        points: The same of the gaps in points.
        beyond: The same of shares, the second's counted from chance.
        together: Correlation over languages of the two shares.
        narrowing: Change of the first's share against `none` minus that of the second's; positive
            where the recipe helps the first more. None for `none` itself, or without it.
    """

    first: Part
    second: Part
    languages: tuple[str, ...]
    share: Estimate | None
    points: Estimate | None
    beyond: Estimate | None
    together: Correlation | None
    narrowing: Estimate | None = None


def pairings_of(study: Study, parts: Parts, kinds: tuple[str, str]) -> list[Pairing]:
    """All pairs of targets of the two kinds; tests are corrected over a model's recipes."""
    found: list[Pairing] = []
    for model in study.models:
        for first in (target for target in study.targets if target.kind == kinds[0]):
            for second in (target for target in study.targets if target.kind == kinds[1]):
                found += _pairings(study, parts, model, (first.name, second.name))
    return found


def _pairings(study: Study, parts: Parts, model: str, names: tuple[str, str]) -> list[Pairing]:
    own = []
    for recipe in study.recipes:
        both = [parts.get((model, recipe, name)) for name in names]
        if both[0] is not None and both[1] is not None:
            pairing = _pairing(both[0], both[1], parts)
            own += [pairing] if pairing is not None else []
    share = holm([pairing.share for pairing in own])
    points = holm([pairing.points for pairing in own])
    beyond = holm([pairing.beyond for pairing in own])
    narrowing = holm([pairing.narrowing for pairing in own])
    return [
        replace(
            pairing,
            share=share[place],
            points=points[place],
            beyond=beyond[place],
            narrowing=narrowing[place],
        )
        for place, pairing in enumerate(own)
    ]


def _pairing(first: Part, second: Part, parts: Parts) -> Pairing | None:
    if first.gaps is None or second.gaps is None:
        return None
    points = minus(first.gaps.points, second.gaps.points)
    if points is None:
        return None
    beyond = first.gaps.beyond or first.gaps.shares, second.gaps.beyond
    return Pairing(
        *(first, second, points.languages),
        share=estimated(minus(first.gaps.shares, second.gaps.shares)),
        points=estimated(points),
        beyond=estimated(minus(*beyond)),
        together=_together(first.gaps.shares, second.gaps.shares, points.languages),
        narrowing=_narrowing(first, second, parts),
    )


def _together(
    first: Grid | None, second: Grid | None, languages: tuple[str, ...]
) -> Correlation | None:
    """Correlation of the means over seeds."""
    if first is None or second is None:
        return None
    means = []
    for grid in (first, second):
        by_code = dict(zip(grid.languages, grid.values.mean(axis=0), strict=True))
        means.append([float(by_code[code]) for code in languages])
    return correlation(*means)


def _narrowing(first: Part, second: Part, parts: Parts) -> Estimate | None:
    changes = []
    for part in (first, second):
        before = parts.get((part.model, BASELINE, part.target.name))
        if part.recipe == BASELINE or before is None:
            return None
        changes.append(_shares(part, before))
    return estimated(minus(*changes))
