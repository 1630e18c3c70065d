"""The tables of what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xstilts.analysis.answer import Column, Table
from xstilts.analysis.questions.distance.findings import Findings
from xstilts.analysis.questions.distance.joint import Joint
from xstilts.analysis.questions.distance.ranking import Ranking
from xstilts.analysis.questions.distance.relations import Flattening, Relation
from xstilts.analysis.stats.estimate import tidy
from xstilts.analysis.study import Row

if TYPE_CHECKING:
    from xstilts.analysis.stats.estimate import Estimate

RELATIONS, FLATTENING, JOINT = "relations", "flattening", "joint"
POINTS, PLANTED, AGREEMENT = "points", "planted", "planted_agreement"

_KEYS = (
    Column("model", "Model", "model"),
    Column("recipe", "Recipe", "recipe"),
    Column("target", "Target", "target"),
)
_MEASURE = Column("measure", "Measure")
_WHY = Column("why", "Why not")
_SLOPE = (
    Column("slope", "Points per SD farther", "gain"),
    Column("slope_low", "low", "gain"),
    Column("slope_high", "high", "gain"),
)
_P = (Column("p", "p", "p"), Column("adjusted", "p (Holm)", "p"))


def tables(found: Sequence[Findings]) -> tuple[Table, ...]:
    """The tables that have rows."""
    made = (
        _relations(found),
        _flattening(found),
        _joint(found),
        _planted(found),
        _agreement(found),
        _points(found),
    )
    return tuple(table for table in made if table.rows)


def _relations(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEYS,
        _MEASURE,
        Column("value", "Values are"),
        Column("n", "Languages", "n"),
        Column("pearson", "r", "number"),
        Column("low", "low", "number"),
        Column("high", "high", "number"),
        Column("spearman", "Spearman", "number"),
        *_P,
        *_SLOPE,
        Column("per_unit", "Points per unit", "number", 3),
        Column("spread", "SD of the measure", "number", 3),
        Column("verdict", "Verdict"),
        _WHY,
    )
    rows = [
        _relation(one) for own in found for of_recipe in own.relations.values() for one in of_recipe
    ]
    title = "How the drop of each language goes with its distance (larger: farther)"
    return Table(RELATIONS, title, columns, rows)


def _relation(one: Relation) -> Row:
    pearson, slope = one.correlation, one.slope
    spread = one.points.spread
    row: Row = {
        **_keys(one),
        "value": one.subject.what,
        "n": len(one.points.languages),
        "spread": tidy(spread),
        "adjusted": tidy(one.adjusted),
        "verdict": verdict(one),
        "why": one.why,
    }
    if pearson is not None:
        row |= {
            name: tidy(getattr(pearson, name)) for name in ("pearson", "low", "high", "spearman")
        }
        row["p"] = tidy(pearson.p)
    if slope is not None:
        row |= _bounds(slope)
        row["per_unit"] = tidy(one.measure.sign * slope.value / spread)
    return row


def verdict(one: Relation) -> str:
    """What a relation says after the correction."""
    if one.adjusted is None or one.correlation is None or one.correlation.pearson is None:
        return "cannot be said"
    if not one.holds:
        return "cannot be told apart"
    return "falls with distance" if one.correlation.pearson < 0 else "rises with distance"


def _keys(one: Relation | Flattening) -> Row:
    return {
        "model": one.model,
        "recipe": one.recipe,
        "target": one.subject.name,
        "measure": one.measure.name,
    }


def _bounds(slope: Estimate) -> Row:
    return {
        "slope": tidy(slope.value),
        "slope_low": tidy(slope.low),
        "slope_high": tidy(slope.high),
    }


def _flattening(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEYS,
        _MEASURE,
        Column("n", "Languages", "n"),
        Column("seeds", "Seeds", "n"),
        Column("before", "Slope under none", "gain"),
        Column("after", "Slope under the recipe", "gain"),
        Column("change", "Change", "gain"),
        Column("low", "low", "gain"),
        Column("high", "high", "gain"),
        *_P,
        Column("verdict", "Verdict"),
        _WHY,
    )
    rows = [
        _bend(one) for own in found for of_subject in own.flattenings.values() for one in of_subject
    ]
    title = "What a recipe changes in the slope (points per standard deviation farther away)"
    return Table(FLATTENING, title, columns, rows)


def _bend(one: Flattening) -> Row:
    row: Row = {**_keys(one), "verdict": one.bend, "why": one.why}
    if one.change is None or one.before is None:
        return row
    change = one.change
    return row | {
        "n": change.languages,
        "seeds": change.seeds,
        "before": tidy(one.before),
        "after": tidy(one.before + change.value),
        "change": tidy(change.value),
        **{name: tidy(getattr(change, name)) for name in ("low", "high", "p", "adjusted")},
    }


def _joint(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEYS,
        _MEASURE,
        Column("n", "Languages", "n"),
        *_SLOPE,
        Column("beta", "Standardised", "number"),
        *_P,
        Column("inflation", "Variance inflation", "number", 1),
    )
    rows = [row for own in found for one in own.joints for row in _parts(one)]
    title = "Several measures at once: what each adds with the others held"
    return Table(JOINT, title, columns, rows)


def _parts(one: Joint) -> Iterator[Row]:
    for part in one.parts:
        yield {
            "model": one.model,
            "recipe": one.recipe,
            "target": one.subject.name,
            "measure": part.measure.name,
            "n": len(one.languages),
            **_bounds(part.slope),
            "beta": tidy(part.beta),
            "p": tidy(part.slope.p),
            "adjusted": tidy(part.slope.adjusted),
            "inflation": tidy(part.inflation),
        }


def _planted(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEYS,
        Column("language", "Language", "language"),
        Column("distance", "Planted distance", "number"),
        Column("planted", "Planted rank", "number", 1),
        Column("score", "Zero-shot score", "points"),
        Column("recovered", "Recovered rank", "number", 1),
    )
    rows = [row for own in found for one in own.rankings for row in _ranks(one)]
    title = "Languages by planted distance and by zero-shot score (rank 1: nearest, highest)"
    return Table(PLANTED, title, columns, rows)


def _ranks(one: Ranking) -> Iterator[Row]:
    keys = {"model": one.model, "recipe": one.recipe, "target": one.subject.name}
    columns = (one.languages, one.distances, one.planted, one.scores, one.recovered)
    for code, distance, planted, score, recovered in zip(*columns, strict=True):
        yield {
            **keys,
            "language": code,
            "distance": tidy(distance),
            "planted": planted,
            "score": tidy(score),
            "recovered": recovered,
        }


def _agreement(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEYS,
        Column("n", "Languages", "n"),
        Column("spearman", "Spearman", "number"),
        Column("kendall", "Kendall's tau", "number"),
        Column("p", "p (exact)", "p"),
    )
    rows = [
        {
            "model": one.model,
            "recipe": one.recipe,
            "target": one.subject.name,
            "n": len(one.languages),
            **{name: tidy(getattr(one, name)) for name in ("spearman", "kendall", "p")},
        }
        for own in found
        for one in own.rankings
    ]
    return Table(AGREEMENT, "Recovered against planted order of languages", columns, rows)


def _points(found: Sequence[Findings]) -> Table:
    names = dict.fromkeys(measure.name for own in found for measure in own.measures)
    columns = (
        *_KEYS,
        Column("language", "Language", "language"),
        Column("value", "Values are"),
        Column("points", "Points", "gain"),
        *(Column(name, name.replace("_", " ").capitalize(), "number", 3) for name in names),
    )
    rows = [row for own in found if own.measures for row in _languages(own)]
    return Table(POINTS, "Drop of each language, beside its measures", columns, rows)


def _languages(own: Findings) -> Iterator[Row]:
    for subject in own.subjects:
        if (grid := own.grids.get(subject.name)) is None:
            continue
        means = grid.values.mean(axis=0)
        for code, value in zip(grid.languages, means, strict=True):
            yield {
                "model": own.model,
                "recipe": own.recipe,
                "target": subject.name,
                "language": code,
                "value": subject.what,
                "points": tidy(value),
                **{one.name: tidy(one.values.get(code)) for one in own.measures},
            }
