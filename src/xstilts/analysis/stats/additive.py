"""What each task adds to a set, beside the number of tasks: least squares over all sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.crossed import constant, student
from xstilts.analysis.stats.estimate import Estimate

_ROUNDING = 1e-8


def effects(sets: Sequence[frozenset[str]], scores: Floats) -> dict[str, Estimate]:
    """Points by which a set scores higher for a task than for the average one.

    A set's score is what its number of tasks gives, plus what each of its tasks adds, plus a rest
    that is independent between sets. Sets of one number hold equally many tasks, so a task can only
    be told against others: the estimates sum to 0.

    Args:
        sets: Tasks of each set, one or more.
        scores: Mean score of each.

    Returns:
        By task; without those that no comparison of sets tells from the others. Without interval
        where the sets are no more than the unknowns, or leave no rest.
    """
    names = sorted(frozenset[str]().union(*sets))
    sizes = sorted({len(tasks) for tasks in sets})
    design = np.array(
        [
            [*(len(tasks) == size for size in sizes), *(name in tasks for name in names)]
            for tasks in sets
        ],
        dtype=float,
    )
    solver: Floats = np.linalg.pinv(design)
    rest = scores - design @ (solver @ scores)
    df = len(sets) - int(np.linalg.matrix_rank(design))
    spread = math.sqrt(float(rest @ rest) / df) if df else 0.0
    found = dict[str, Estimate]()
    for place, name in enumerate(names, start=len(sizes)):
        contrast = np.zeros(design.shape[1])
        contrast[len(sizes) :] = -1 / len(names)
        contrast[place] += 1
        if np.abs(contrast @ solver @ design - contrast).max() < _ROUNDING and len(names) > 1:
            found[name] = _estimate(contrast @ solver, scores, spread, df, rest)
    return found


def _estimate(weights: Floats, scores: Floats, spread: float, df: int, rest: Floats) -> Estimate:
    value = float(weights @ scores)
    if not df:
        return Estimate(value, why="There are no more sets than unknowns.")
    if constant(rest) and spread <= _ROUNDING * max(1.0, float(np.abs(scores).max())):
        return Estimate(value, why="The sets leave no rest to test by.")
    return student(value, spread * math.sqrt(float(weights @ weights)), df)
