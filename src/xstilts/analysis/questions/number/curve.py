"""Scores by number of intermediate tasks: the curve, its steps, and what each task adds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.additive import effects
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.factors import (
    Spread,
    over_all,
    over_sets_and_seeds,
    spread,
)
from xstilts.analysis.stats.multiple import corrected
from xstilts.analysis.study import BASELINE, Grid, Study

#: A set of fewer tasks and one of more, by their recipes.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Step:
    """From one number of tasks to the next.

    Attributes:
        start: Tasks before.
        end: Tasks after.
        gain: Points gained by one more task, on average.
        pairs: Pairs of sets behind it, one of each order; 1 without orders.
        lower: Pairs whose mean score falls.
    """

    start: int
    end: int
    gain: Estimate
    pairs: int
    lower: int


@dataclass(frozen=True)
class Added:
    """What a task brings when it is added to a set.

    Attributes:
        task: The task.
        gain: Points gained.
        beside: Points by which sets of one number score higher for it than for the average task;
            None where no comparison of sets tells.
        places: Numbers of tasks with it, one per pair of sets.
    """

    task: str
    gain: Estimate
    beside: Estimate | None
    places: tuple[int, ...]


@dataclass(frozen=True)
class Curve:
    """Scores of a model on a target by number of intermediate tasks.

    Attributes:
        model: The model.
        target: The target.
        values: Scores [seeds, languages] by recipe.
        sets: Recipes of each number of tasks, from the fewest on; `none` has 0.
        chains: In each order the recipe of each number of tasks; none without orders.
        tasks: Tasks of each recipe.
        seeds: The seeds.
        fixed: Nothing random happens before the scores of no tasks.
        missing: Recipes without scores of all these seeds; they are left out.
    """

    model: str
    target: str
    values: dict[str, Floats]
    sets: dict[int, list[str]]
    chains: list[dict[int, str]]
    tasks: dict[str, frozenset[str]]
    seeds: tuple[int, ...]
    fixed: bool
    missing: list[str]

    @property
    def sizes(self) -> list[int]:
        """Numbers of tasks."""
        return list(self.sets)

    # ---- the curve

    def means(self, size: int) -> Floats:
        """Mean scores over the languages [sets, seeds]."""
        return _mean([self.values[name] for name in self.sets[size]], 2)

    def mean(self, size: int) -> Estimate:
        """The mean score in these languages, for other sets and seeds."""
        means = self.means(size)
        if self.fixed and size == 0:
            why = "Nothing random happens before this score."
            return Estimate(float(means.mean()), languages=self._languages, why=why)
        return over_sets_and_seeds(means, self._languages)

    def difference(self, start: int, end: int) -> Estimate:
        """Points between two numbers of tasks, for other orders, seeds and languages."""
        return over_all(self._differences(start, end))

    def steps(self) -> list[Step]:
        """From each number of tasks to the next; p-values corrected over all of them."""
        found = list[Step]()
        for start, end in pairwise(self.sizes):
            values = self._differences(start, end) / (end - start)
            falls = int((values.mean(axis=(1, 2)) < 0).sum())
            found.append(Step(start, end, over_all(values), len(values), falls))
        gains = corrected([step.gain for step in found])
        return [replace(step, gain=gain) for step, gain in zip(found, gains, strict=True)]

    def gains(self) -> dict[int, Estimate]:
        """Points above no tasks, by number; p-values corrected over all of them."""
        if 0 not in self.sets:
            return {}
        sizes = [size for size in self.sizes if size]
        found = corrected([self.difference(0, size) for size in sizes])
        return dict(zip(sizes, found, strict=True))

    @property
    def best(self) -> int:
        """The number of tasks with the highest mean score; the fewest of equal ones."""
        return max(self.sizes, key=lambda size: (round(self.mean(size).value, 6), -size))

    def fewest(self) -> int | None:
        """The fewest tasks that cannot be told apart from the best number.

        The best number is tested against 0, 1, 2 ... tasks, paired, each at 5 %, until it is not
        higher: tests in an order fixed beforehand, of which each waits for the one before, need no
        correction (Maurer, Hothorn and Lehmacher 1995, "Multiple comparisons in drug clinical
        trials"). None where a test is not possible.
        """
        best = self.best
        for size in self.sizes[: self.sizes.index(best)]:
            test = self.difference(size, best)
            if test.p is None:
                return None
            if test.verdict != "higher":
                return size
        return best

    # ---- orders and tasks

    def spreads(self) -> dict[int, Spread | None]:
        """Whether the sets of a number of tasks differ, for each number with several."""
        return {size: spread([self.means(size)]) for size, names in self.sets.items() if names[1:]}

    def spread(self) -> Spread | None:
        """The same of all numbers of tasks together."""
        tables = [self.means(size) for size, names in self.sets.items() if names[1:]]
        return spread(tables) if tables else None

    def added(self) -> list[Added]:
        """What each task brings when it is added; p-values corrected over the tasks."""
        pairs = dict[str, list[Pair]]()
        for before, after in self._single_steps():
            (task,) = self.tasks[after] - self.tasks[before]
            pairs.setdefault(task, []).append((before, after))
        names = sorted(pairs)
        gains = corrected([over_all(self._paired(pairs[task])) for task in names])
        beside = self._beside()
        places = [tuple(len(self.tasks[after]) for _, after in pairs[task]) for task in names]
        zipped = zip(names, gains, places, strict=True)
        return [Added(task, gain, beside.get(task), place) for task, gain, place in zipped]

    def _beside(self) -> dict[str, Estimate]:
        names = [name for name, tasks in self.tasks.items() if tasks]
        means: Floats = np.array([self.values[name].mean() for name in names])
        found = effects([self.tasks[name] for name in names], means)
        return dict(zip(found, corrected(list(found.values())), strict=True))

    def _single_steps(self) -> list[Pair]:
        """Pairs of sets of which the larger has one task more: of the orders, or all there are."""
        near: Iterable[Pair]
        if self.chains:
            near = (pair for chain in self.chains for pair in _neighbours(chain))
        else:
            near = ((a, b) for a in self.tasks for b in self.tasks)
        return list(dict.fromkeys(pair for pair in near if self._is_single(pair)))

    def _is_single(self, pair: Pair) -> bool:
        before, after = (self.tasks[name] for name in pair)
        return before < after and len(after - before) == 1

    # ---- arrays

    @property
    def _languages(self) -> int:
        return int(next(iter(self.values.values())).shape[1])

    def _differences(self, start: int, end: int) -> Floats:
        """[pairs, seeds, languages]: of the orders that have both numbers, else of the means."""
        pairs = [(c[start], c[end]) for c in self.chains if start in c and end in c]
        if pairs:
            return self._paired(list(dict.fromkeys(pairs)))
        return (self._average(end) - self._average(start))[None]

    def _paired(self, pairs: Sequence[Pair]) -> Floats:
        return np.stack([self.values[after] - self.values[before] for before, after in pairs])

    def _average(self, size: int) -> Floats:
        """Mean scores [seeds, languages] of the sets of a number of tasks."""
        return _mean([self.values[name] for name in self.sets[size]], 0)

    def curves(self) -> Floats:
        """Mean scores [orders, seeds, numbers of tasks] of the orders that have all numbers.

        Without such orders one row stands for all: the means over the sets of a number.
        """
        whole = [chain for chain in self.chains if list(chain) == self.sizes]
        rows = [[self.values[chain[size]] for size in self.sizes] for chain in whole]
        rows = rows or [[self._average(size) for size in self.sizes]]
        return _mean(rows, 3).transpose(0, 2, 1)


def _mean(values: Sequence[Floats] | Sequence[Sequence[Floats]], axis: int) -> Floats:
    found: Floats = np.asarray(values).mean(axis=axis)
    return found


def _neighbours(chain: dict[int, str]) -> Iterator[Pair]:
    names = list(chain.values())
    return pairwise(names)


def curve_of(study: Study, model: str, target: str) -> Curve | None:
    """The curve of a model and a target.

    It is made of the study's nested sets, else of all its recipes of English tasks alone.

    Returns:
        None where there are scores of fewer than two numbers of tasks above 0.
    """
    tasks = {name: frozenset(row.get("tasks", ())) for name, row in study.recipe_rows.items()}
    wanted = _wanted(study)
    found = {name: study.grid(model, name, target) for name in wanted}
    values, seeds = _complete({name: grid for name, grid in found.items() if grid is not None})
    sets = dict[int, list[str]]()
    for name in sorted(values, key=lambda name: len(tasks[name])):
        sets.setdefault(len(tasks[name]), []).append(name)
    if len([size for size in sets if size]) < 2:
        return None
    chains = [[name for name in [BASELINE, *order] if name in values] for order in study.orders]
    base = found.get(BASELINE)
    return Curve(
        model=model,
        target=target,
        values=values,
        sets=sets,
        chains=[{len(tasks[name]): name for name in chain} for chain in chains],
        tasks={name: tasks[name] for name in values},
        seeds=seeds,
        fixed=base is not None and base.fixed,
        missing=[name for name in wanted if name not in values],
    )


def _wanted(study: Study) -> list[str]:
    """The recipes of the curve: `none` and the nested sets, else those of English tasks alone."""
    nested = [name for order in study.orders for name in order]
    plain = [
        name
        for name, row in study.recipe_rows.items()
        if row.get("tasks") and not row.get("mlm") and not row.get("translate")
    ]
    base = [BASELINE] if BASELINE in study.recipe_rows else []
    return list(dict.fromkeys([*base, *(nested or plain)]))


def _complete(grids: Mapping[str, Grid]) -> tuple[dict[str, Floats], tuple[int, ...]]:
    """Values [seeds, languages] of the recipes that have the same seeds, and these seeds.

    They are the seeds that keep most of recipes times seeds. What is fixed stands for all seeds.
    """
    random = [grid for grid in grids.values() if not grid.fixed]
    kept = {
        grid.seeds: len(grid.seeds) * sum({*grid.seeds} <= {*other.seeds} for other in random)
        for grid in random
    }
    if not kept:
        return {}, ()
    seeds = max(kept, key=lambda found: kept[found])
    values = dict[str, Floats]()
    for name, grid in grids.items():
        if grid.fixed:
            values[name] = np.repeat(grid.values[:1], len(seeds), axis=0)
        elif {*seeds} <= {*grid.seeds}:
            values[name] = grid.values[[grid.seeds.index(seed) for seed in seeds]]
    return values, seeds
