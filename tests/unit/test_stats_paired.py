"""Two systems on the same examples: against scipy's permutation test, bootstrap and hand work."""

import time

import numpy as np
import pytest
from scipy import stats

from xstilts.analysis.stats import paired
from xstilts.evaluation.metrics.accuracy import finish as accuracies
from xstilts.evaluation.metrics.seqeval import finish as spans


def accuracy(sums):
    return accuracies(sums)["accuracy"]


def f1(sums):
    return spans(sums)["f1"]


def right(values):
    values = np.asarray(values, dtype=np.float64)
    return np.stack([values, np.ones_like(values)], axis=1)


def two_systems(examples, seed=0, gain=0.1):
    generator = np.random.default_rng(seed)
    ease = generator.random(examples)
    return [right(generator.random(examples) < ease + by) for by in (gain, 0)]


def test_permutation_test_is_the_sign_test_of_what_differs():
    # 12 examples differ, 10 for the first: for accuracies the swaps are a binomial test.
    first = right([1] * 10 + [0] * 2 + [1] * 30)
    second = right([0] * 10 + [1] * 2 + [1] * 30)
    found = paired.compare(first, second, accuracy, 20_000, (1,))
    exact = stats.binomtest(10, 12).pvalue
    assert found.value == pytest.approx(100 * 8 / 42)
    # Four standard errors of the draws.
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_permutation_test_of_f1_is_scipys():
    generator = np.random.default_rng(4)
    gold = 1 + generator.poisson(1, 60)
    first, second = (_tagged(generator, gold, share) for share in (0.85, 0.7))

    def difference(one, other, axis):
        # scipy permutes example numbers within pairs: below 60 the first system's rows.
        rows = np.concatenate([first, second])
        one, other = one.astype(int), other.astype(int)
        return f1(rows[one].sum(axis=axis)) - f1(rows[other].sum(axis=axis))

    wanted = stats.permutation_test(
        (np.arange(60), np.arange(60, 120)),
        lambda one, other: difference(one, other, 0),
        permutation_type="samples",
        vectorized=False,
        n_resamples=2000,
        rng=np.random.default_rng(1),
    )
    found = paired.compare(first, second, f1, 4000, (1,))
    assert found.value == pytest.approx(wanted.statistic)
    assert found.p == pytest.approx(wanted.pvalue, abs=0.04)


def _tagged(generator, gold, share):
    correct = generator.binomial(gold, share)
    predicted = correct + generator.poisson(0.3, len(gold))
    return np.stack([correct, predicted, gold, correct, gold], axis=1).astype(np.float64)


def test_interval_is_the_percentile_interval_of_many_examples():
    first, second = two_systems(2000)
    found = paired.compare(first, second, accuracy, 4000, (1,))
    differences = 100 * (first - second)[:, 0]
    wanted = stats.bootstrap(
        (differences,), np.mean, method="percentile", rng=np.random.default_rng(0), n_resamples=4000
    ).confidence_interval
    assert (found.low, found.high) == (
        pytest.approx(wanted.low, abs=0.2),
        pytest.approx(wanted.high, abs=0.2),
    )
    # The effect is Hedges' g of the differences of examples.
    g = differences.mean() / differences.std(ddof=1)
    assert found.effect == pytest.approx(g, rel=1e-3)


def test_few_examples_widen_the_interval_as_hesterberg_says():
    # 2.015 sqrt(46 / 45) = 2.0364 normal deviates, 2.085 % on each side.
    drawn = np.linspace(0, 1, 100_001)
    low, high = paired.expanded_percentiles(drawn, 46)
    assert (low, high) == (pytest.approx(0.0209, abs=1e-4), pytest.approx(0.9791, abs=1e-4))


def test_no_right_to_an_interval():
    first, second = two_systems(46)
    same = paired.compare(first, first, accuracy, 100, (1,))
    assert (same.value, same.p, same.low) == (0, 1, None)
    assert same.why == "Both systems are the same on every example."
    few = second.copy()
    few[:9, 0] = 1 - few[:9, 0]
    found = paired.compare(few, second, accuracy, 100, (1,))
    assert found.low is None
    assert found.p is not None
    assert found.why == "The systems differ on 9 of 46 examples: too few for an interval."
    # They differ, but in nothing that the score sees; nothing is to be found, so both are 0.
    empty = np.zeros((20, 5))
    other = empty.copy()
    other[:, 3] = 1
    found = paired.compare(empty, other, f1, 100, (1,))
    assert (found.value, found.low, found.p) == (0, None, 1)


def test_same_seed_same_numbers_and_either_way_round():
    first, second = two_systems(300, seed=3)
    one = paired.compare(first, second, accuracy, 500, (1, 2))
    assert one == paired.compare(first, second, accuracy, 500, (1, 2))
    other = paired.compare(second, first, accuracy, 500, (1, 2))
    assert (other.value, other.p) == (pytest.approx(-one.value), one.p)
    assert (other.low, other.high) == (pytest.approx(-one.high), pytest.approx(-one.low))


def test_other_examples_are_refused():
    first, second = two_systems(20)
    with pytest.raises(ValueError, match="same examples"):
        paired.compare(first, second[:19], accuracy, 100, (1,))
    with pytest.raises(ValueError, match="finite"):
        paired.compare(first, second * np.nan, accuracy, 100, (1,))


def test_two_thousand_examples_take_well_under_a_second():
    first, second = two_systems(2000)
    paired.compare(first[:50], second[:50], accuracy, 10, (1,))  # imports
    start = time.process_time()
    paired.compare(first, second, accuracy, 2000, (1,))
    assert time.process_time() - start < 1
