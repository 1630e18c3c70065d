"""Several tests at once: Holm's correction, and what pairwise tests say of ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate, tidy


@dataclass(frozen=True)
class Rank:
    """A rank, 1 the highest value, with the 95 % confidence set of all ranks together.

    Attributes:
        rank: Of the value; equal values share the first of their ranks.
        low: The best rank that the tests leave possible; None where nothing could be tested.
        high: The worst.
        why: What could not be tested; empty where all could.
    """

    rank: int
    low: int | None
    high: int | None
    why: str = ""


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values of one family, corrected so that it holds a false one in 5 % of cases at most.

    Holm (1979), "A simple sequentially rejective multiple test procedure": valid however the tests
    depend on each other. None stays None and does not count. Not by statsmodels' `multipletests`,
    which collects garbage each time: a quarter of a second where much is loaded.
    """
    known = np.array([value for value in p if value is not None], dtype=np.float64)
    order = np.argsort(known)
    adjusted = np.empty_like(known)
    raised = known[order] * np.arange(len(known), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    rest = iter(adjusted.tolist())
    return [None if value is None else next(rest) for value in p]


def corrected(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The estimates of one family, with Holm's corrected p-values."""
    adjusted = holm([estimate.p for estimate in estimates])
    pairs = zip(estimates, adjusted, strict=True)
    return [estimate.with_adjusted(value) for estimate, value in pairs]


def ranks(
    names: Sequence[str],
    values: Mapping[str, float],
    difference: Callable[[str, str], Estimate | None],
) -> dict[str, Rank]:
    """The rank of each name, and the ranks that its pairwise tests leave possible.

    Mogstad, Romano, Shaikh and Wilhelm (2024), "Inference for ranks": with all pairs tested as one
    family, a name's rank is at least 1 + those certainly above it, and at most the number of names
    minus those certainly below it. All sets together hold all true ranks in 95 % of cases or more.

    Args:
        names: What is ranked.
        values: By name; high is good.
        difference: Of the first name minus the second; None where the two cannot be compared.
            Called once per pair, in the order of the names.
    """
    pairs = list(combinations(names, 2))
    estimates = [difference(*pair) for pair in pairs]
    adjusted = holm([None if found is None else found.p for found in estimates])
    above: dict[str, int] = dict.fromkeys(names, 0)
    below: dict[str, int] = dict.fromkeys(names, 0)
    untested: dict[str, list[str]] = {name: [] for name in names}
    for (first, second), found, p in zip(pairs, estimates, adjusted, strict=True):
        if found is None or p is None:
            untested[first].append(second)
            untested[second].append(first)
        elif p <= 1 - CONFIDENCE:
            better, worse = (first, second) if found.value > 0 else (second, first)
            below[better] += 1
            above[worse] += 1
    return {
        name: _rank(name, names, values, (above[name], below[name]), untested[name])
        for name in names
    }


def _rank(
    name: str,
    names: Sequence[str],
    values: Mapping[str, float],
    certain: tuple[int, int],
    untested: Sequence[str],
) -> Rank:
    own = tidy(values[name])
    rank = 1 + sum(round(values[other], 6) > (own or 0.0) for other in names)
    if len(untested) == len(names) - 1:
        why = "Nothing to compare with." if len(names) == 1 else "No difference could be tested."
        return Rank(rank, None, None, why)
    why = f"Could not be tested against {', '.join(untested)}." if untested else ""
    return Rank(rank, 1 + certain[0], len(names) - certain[1], why)
