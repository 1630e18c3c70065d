"""Tables of the curves by number of intermediate tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from xstilts.analysis.answer import Column, Table
from xstilts.analysis.questions.number.curve import Added, Curve, Step
from xstilts.analysis.questions.phrases import columns_of
from xstilts.analysis.stats.estimate import Estimate, tidy
from xstilts.analysis.stats.factors import Spread
from xstilts.analysis.stats.knee import Knee, knee
from xstilts.analysis.stats.multiple import holm
from xstilts.analysis.study import Row, Target

#: Kinds of targets that are retrieval: Tatoeba, BUCC, LAReQA.
RETRIEVAL = ("bitext", "mining", "answer_retrieval")


@dataclass(frozen=True)
class Findings:
    """A curve and everything found in it, each computed once.

    Attributes:
        curve: The curve.
        target: Its target.
        samples: Drawings behind the interval of the knee.
        seed: Seed of the drawings.
    """

    curve: Curve
    target: Target
    samples: int
    seed: tuple[int, ...]

    @property
    def retrieval(self) -> bool:
        """Whether the target is retrieval."""
        return self.target.kind in RETRIEVAL

    @cached_property
    def means(self) -> dict[int, Estimate]:
        """Mean score of each number of tasks."""
        return {size: self.curve.mean(size) for size in self.curve.sizes}

    @cached_property
    def gains(self) -> dict[int, Estimate]:
        """Points above no tasks."""
        return self.curve.gains()

    @cached_property
    def steps(self) -> list[Step]:
        """From each number to the next."""
        return self.curve.steps()

    @cached_property
    def best(self) -> int:
        """The number of tasks with the highest mean."""
        return self.curve.best

    @cached_property
    def fewest(self) -> int | None:
        """The fewest tasks that cannot be told apart from the best number."""
        return self.curve.fewest()

    @cached_property
    def knee(self) -> Knee | str:
        """The knee, or why there is none to look for."""
        sizes, curves = self.curve.sizes, self.curve.curves()
        points = [self.curve.means(size).mean(axis=1) for size in sizes]
        return knee(sizes, curves, points, self.samples, self.seed)

    @cached_property
    def spreads(self) -> dict[int, Spread | None]:
        """Spread over sets and over seeds, by number of tasks."""
        return self.curve.spreads()

    @cached_property
    def adjusted(self) -> dict[int, float | None]:
        """Corrected p-values of these spreads."""
        found = holm([spread.p if spread else None for spread in self.spreads.values()])
        return dict(zip(self.spreads, found, strict=True))

    @cached_property
    def spread(self) -> Spread | None:
        """The same of all numbers together."""
        return self.curve.spread()

    @cached_property
    def added(self) -> list[Added]:
        """What each task brings when it is added."""
        return self.curve.added()

    @property
    def key(self) -> Row:
        """The first columns of every table."""
        return {"model": self.curve.model, "target": self.curve.target}


_MIXED = "The sets do not tell it from the other tasks."
_KEY = (Column("model", "Model", "model"), Column("target", "Target", "target"))


def tables(found: Sequence[Findings]) -> tuple[Table, ...]:
    """All tables, the most important first; those without rows are left out."""
    made = (
        _summary(found),
        _curve(found),
        _steps(found),
        _added(found),
        _spreads(found),
        _sets(found),
    )
    return tuple(table for table in made if table.rows)


def _summary(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEY,
        Column("none", "No tasks", "points"),
        Column("best", "Best number", "n"),
        Column("score", "Its score", "points"),
        Column("fewest", "Fewest not told apart from it", "n"),
        Column("knee", "Knee", "number", 1),
        Column("low", "Knee: low", "number", 1),
        Column("high", "Knee: high", "number", 1),
        Column("before", "Points per task before it", "gain"),
        Column("after", "Points per task after it", "gain"),
        Column("better", "Criterion: one line minus two", "number", 1),
        Column("why", "No knee because"),
    )
    rows = [_summary_row(one) for one in found]
    return Table("number_summary", "Best number of tasks and knee", columns, rows)


def _summary_row(one: Findings) -> Row:
    bend = one.knee
    none = one.means.get(0)
    row = one.key | {
        "none": tidy(none.value if none else None),
        "best": one.best,
        "score": tidy(one.means[one.best].value),
        "fewest": one.fewest,
    }
    if isinstance(bend, str):
        return row | {"why": bend}
    row |= {"better": tidy(bend.better), "why": bend.why}
    if bend.why:
        return row
    names = ("low", "high", "before", "after")
    return row | {"knee": tidy(bend.place)} | {name: tidy(getattr(bend, name)) for name in names}


def _curve(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEY,
        Column("tasks", "Tasks", "n"),
        Column("sets", "Sets", "n"),
        Column("seeds", "Seeds", "n"),
        Column("mean", "Mean score", "points"),
        Column("mean_low", "Mean score: low", "points"),
        Column("mean_high", "Mean score: high", "points"),
        *columns_of("gain_", "Above no tasks", why=True),
    )
    rows = [_curve_row(one, size) for one in found for size in one.curve.sizes]
    return Table("number_curve", "Mean score by number of tasks", columns, rows)


def _curve_row(one: Findings, size: int) -> Row:
    mean, gain = one.means[size], one.gains.get(size)
    row = one.key | {
        "tasks": size,
        "sets": len(one.curve.sets[size]),
        "seeds": 1 if one.curve.fixed and size == 0 else len(one.curve.seeds),
        "mean": tidy(mean.value),
        "mean_low": tidy(mean.low),
        "mean_high": tidy(mean.high),
    }
    return row | (gain.row("gain_") if gain else {"gain_why": mean.why})


def _steps(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEY,
        Column("start", "From", "n"),
        Column("end", "To", "n"),
        *columns_of("", "Points per further task", why=True),
        Column("pairs", "Pairs of sets", "n"),
        Column("fall", "of which the score falls", "n"),
    )
    rows = [
        one.key
        | {"start": step.start, "end": step.end, "pairs": step.pairs, "fall": step.lower}
        | step.gain.row()
        for one in found
        for step in one.steps
    ]
    return Table("number_steps", "What each further task brings", columns, rows)


def _added(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEY,
        Column("task", "Task"),
        *columns_of("", "Points when it is added", why=True),
        *columns_of("beside_", "Beside the average task", why=True),
        Column("pairs", "Pairs of sets", "n"),
        Column("places", "Numbers of tasks with it"),
    )
    rows = [
        one.key
        | {"task": added.task, "pairs": len(added.places)}
        | {"places": " ".join(map(str, sorted(added.places)))}
        | added.gain.row()
        | (added.beside.row("beside_") if added.beside else {"beside_why": _MIXED})
        for one in found
        for added in one.added
    ]
    return Table("number_added", "What each task brings when it is added", columns, rows)


def _spreads(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEY,
        Column("tasks", "Tasks"),
        Column("sets", "Sets", "n"),
        Column("sd_sets", "SD over sets", "points"),
        Column("sd_seeds", "SD over seeds", "points"),
        Column("f", "F", "number"),
        Column("df", "Degrees of freedom"),
        Column("p", "p", "p"),
        Column("adjusted", "Corrected p", "p"),
        Column("lowest", "Lowest set", "recipe"),
        Column("highest", "Highest set", "recipe"),
    )
    rows = [row for one in found for row in _spread_rows(one)]
    return Table("number_orders", "Sets of one number of tasks: spread", columns, rows)


def _spread_rows(one: Findings) -> Iterator[Row]:
    for size, spread in one.spreads.items():
        means = one.curve.means(size).mean(axis=1)
        names = one.curve.sets[size]
        row = one.key | {
            "tasks": str(size),
            "sets": len(names),
            "adjusted": tidy(one.adjusted[size]),
        }
        row |= {"lowest": names[int(means.argmin())], "highest": names[int(means.argmax())]}
        yield row | _spread_cells(spread)
    if len(one.spreads) > 1:
        yield one.key | {"tasks": "all"} | _spread_cells(one.spread)


def _spread_cells(spread: Spread | None) -> Row:
    if spread is None:
        return {}
    return {
        "sd_sets": tidy(spread.sets),
        "sd_seeds": tidy(spread.seeds),
        "f": tidy(spread.f),
        "df": "{} and {}".format(*spread.df),
        "p": tidy(spread.p),
    }


def _sets(found: Sequence[Findings]) -> Table:
    columns = (
        *_KEY,
        Column("order", "Order"),
        Column("tasks", "Tasks", "n"),
        Column("added", "Added"),
        Column("recipe", "Recipe", "recipe"),
        Column("mean", "Mean score", "points"),
        Column("sd", "SD over seeds", "points"),
    )
    rows = [row for one in found for row in _set_rows(one)]
    return Table("number_sets", "Every set", columns, rows)


def _set_rows(one: Findings) -> Iterator[Row]:
    curve = one.curve
    alone = [(None, {size: name}) for size, names in curve.sets.items() for name in names]
    for order, chain in list(enumerate(curve.chains, start=1)) or alone:
        before: frozenset[str] = frozenset()
        for size, name in chain.items():
            scores = curve.values[name].mean(axis=1)
            several = len(scores) > 1 and not (curve.fixed and size == 0)
            yield one.key | {
                "order": order,
                "tasks": size,
                "added": ", ".join(sorted(curve.tasks[name] - before)) if order else None,
                "recipe": name,
                "mean": tidy(scores.mean()),
                "sd": tidy(scores.std(ddof=1)) if several else None,
            }
            before = curve.tasks[name]
