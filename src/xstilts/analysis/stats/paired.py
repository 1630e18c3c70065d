"""Two systems on the same examples of one language: a bootstrap interval, a permutation test.

The interval is the percentile interval with Hesterberg's (2015, "What teachers should know about
the bootstrap", section 4.1) correction for few examples: its levels are those at which a normal
interval would have Student's t and an unbiased variance. Efron's (1987) bias-corrected and
accelerated interval was measured too and is worse here, as accuracies are steps: with a true
difference of 4 points, between systems that differ on 8 % of 100 examples, it covers 91 % and this
one 93 %; of 46 examples 88 % and 93 % (1,500 simulations each).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from xstilts.analysis.bootstrap import Floats, resampled_sums
from xstilts.analysis.stats.crossed import constant, hedges
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate

Finish = Callable[[Floats], Floats]

#: Where the two systems differ on fewer examples than this, there is no interval: with 5 to 9 of
#: them intervals were measured to cover as little as 70 %.
MINIMUM = 10
#: Signs held in memory at once: 32 MiB.
_BLOCK = 2**22
#: Differences closer than this, in points, are ties.
_TIE = 1e-9


def compare(
    first: Floats, second: Floats, finish: Finish, samples: int, seed: Sequence[int]
) -> Estimate:
    """The first system's score minus the second's, for other examples than these.

    A bootstrap over examples gives the interval. The p-value is that of a permutation test: if the
    systems are alike, each example's rows could as well have come from the other one; the observed
    assignment counts as one of those drawn (Phipson and Smyth 2010, "Permutation p-values should
    never be zero"). So it is at least 1 / (samples + 1): families of k tests need more than 20 k
    samples to reject anything. The effect is in standard deviations of what single examples add
    (for accuracy: of their differences; for ratios: of the jackknife's pseudo-values).

    Seeds are taken as they are; columns of several seeds can stand beside each other, with a
    `finish` that averages their scores.

    Args:
        first: Additive statistics [examples, columns].
        second: The other system's, of the same examples.
        finish: Scores in points from sums [..., columns].
        samples: Resamples, and permutations.
        seed: Decides both.

    Returns:
        Without interval where fewer than `MINIMUM` examples differ, or the difference is the same
        in every resample; p is 1 where none differs.

    Raises:
        ValueError: If the two do not have the same examples, or statistics are not finite.
    """
    first, second = _checked(first, second)
    both = np.concatenate([first, second], axis=1)

    def difference(sums: Floats) -> Floats:
        return finish(sums[..., : first.shape[1]]) - finish(sums[..., first.shape[1] :])

    total = both.sum(axis=0)
    value = float(difference(total))
    differ = int(np.any(first != second, axis=1).sum())
    if not differ:
        return Estimate(value, p=1.0, why="Both systems are the same on every example.")
    p = _permutation(first, second, finish, samples, [*seed, 1])
    if differ < MINIMUM:
        why = f"The systems differ on {differ} of {len(first)} examples: too few for an interval."
        return Estimate(value, p=p, why=why)
    drawn = difference(resampled_sums(both, samples, seed))
    if constant(drawn):
        return Estimate(value, p=p, why="The difference is the same whatever examples are drawn.")
    low, high = expanded_percentiles(drawn, len(first))
    pseudo = (len(first) - 1) * float(difference(total - both).std(ddof=1))
    return Estimate(value, low, high, p, effect=hedges(value, pseudo, len(first) - 1))


def expanded_percentiles(drawn: Floats, examples: int) -> tuple[float, float]:
    """Bounds of the 95 % interval: percentiles a little further out, the fewer examples there are.

    Args:
        drawn: The estimates of the resamples [samples].
        examples: Examples behind each.
    """
    from scipy.special import ndtr, stdtrit

    t = stdtrit(examples - 1, (1 - CONFIDENCE) / 2)
    tail = float(ndtr(math.sqrt(examples / (examples - 1)) * t))
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def _checked(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or not len(first):
        raise ValueError(f"not the same examples: {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("statistics are finite numbers")
    return first, second


def _permutation(
    first: Floats, second: Floats, finish: Finish, samples: int, seed: Sequence[int]
) -> float:
    """Two-sided p-value of swapping the two systems' rows, example by example."""
    generator = np.random.default_rng(seed)
    middle = (first + second).sum(axis=0) / 2
    halves = (first - second) / 2
    observed = abs(float(finish(middle + halves.sum(axis=0)) - finish(middle - halves.sum(axis=0))))
    halves = halves[np.any(halves != 0, axis=1)]
    block = max(1, _BLOCK // len(halves))
    extreme = 0
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        signs = 2.0 * generator.integers(0, 2, (rows, len(halves)), dtype=np.int8) - 1
        moved = signs @ halves
        differences = np.abs(finish(middle + moved) - finish(middle - moved))
        extreme += int(np.sum(differences >= observed - _TIE))
    return (extreme + 1) / (samples + 1)
