"""The mean over targets: by hand, as the two-way analysis of variance, and its coverage."""

import numpy as np
import pytest

from xstilts.analysis.stats.crossed import over_languages_and_seeds, over_seeds
from xstilts.analysis.stats.targets import over_targets, these_languages
from xstilts.analysis.study import Grid

#: Languages of XTREME's targets without English: XNLI, PAWS-X, POS, NER, XQuAD, MLQA, TyDiQA, BUCC,
#: Tatoeba.
XTREME = (14, 6, 32, 39, 10, 6, 8, 4, 36)


def grid(values, codes=None, seeds=None, fixed=False):
    values = np.atleast_2d(np.asarray(values, dtype=float))
    codes = codes or [f"l{place}" for place in range(values.shape[1])]
    return Grid(tuple(seeds or range(len(values))), tuple(codes), values, fixed)


def planted(generator, sizes, spreads, related, seeds=3):
    """Gains on targets that share languages drawn from as many as the largest has.

    Returns:
        The grids, the true mean over targets, and that of these languages.
    """
    number, languages = len(sizes), max(sizes)

    def drawn(*shape):
        shared, own = (
            generator.standard_normal((*shape, 1)),
            generator.standard_normal((*shape, number)),
        )
        return np.sqrt(related) * shared + np.sqrt(1 - related) * own

    of_seed, of_language, rest = spreads
    effect = np.arange(number) - 1.0
    by_seed, by_language = of_seed * drawn(seeds), of_language * drawn(languages)
    left = rest * drawn(seeds, languages)
    grids, here = [], []
    for target, size in enumerate(sizes):
        places = np.sort(generator.permutation(languages)[:size])
        values = effect[target] + by_seed[:, [target]] + by_language[places, target]
        grids.append(grid(values + left[:, places, target], [f"l{place}" for place in places]))
        here.append(effect[target] + by_language[places, target].mean())
    return grids, effect.mean(), np.mean(here)


def test_one_target_is_the_two_way_analysis_of_variance():
    values = np.random.default_rng(1).normal(size=(4, 7)) + np.arange(7)
    found, expected = over_targets([grid(values)]), over_languages_and_seeds(values)
    for name in ("value", "low", "high", "p", "df"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    assert (found.seeds, found.languages) == (4, 7)


def test_targets_that_are_alike_say_no_more_than_one():
    values = np.random.default_rng(1).normal(size=(4, 7)) + np.arange(7)
    one, three = over_targets([grid(values)]), over_targets([grid(values)] * 3)
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_independent_targets_by_hand():
    """Without seeds' effects: variance (s1^2 / 2 + s2^2 / 3) / 4, Welch's degrees of freedom."""
    first, second = np.array([1.0, 3.0]), np.array([4.0, 4.0, 10.0])
    grids = [grid([first, first], ["a", "b"]), grid([second, second], ["c", "d", "e"])]
    found = over_targets(grids)
    parts = np.array([2 / 2, 12 / 3]) / 4
    assert found.value == pytest.approx((2 + 6) / 2)
    assert found.df == pytest.approx(parts.sum() ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2))
    from scipy.stats import t

    half = t.ppf(0.975, found.df) * np.sqrt(parts.sum())
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))


def test_these_languages_are_students_t_on_the_average_of_each_seed():
    generator = np.random.default_rng(2)
    grids = [grid(generator.normal(size=(3, size))) for size in (2, 5)]
    averages = np.mean([found.values.mean(axis=1) for found in grids], axis=0)
    found, expected = these_languages(grids), over_seeds(averages[:, None])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.seeds, found.languages) == (3, 5)


def test_a_constant_adds_to_the_mean_and_not_to_the_spread():
    values = np.random.default_rng(3).normal(size=(3, 6))
    alone = over_targets([grid(values)])
    halved = over_targets([grid(values), grid(np.zeros((1, 1)), fixed=True)])
    for name in ("value", "low", "high"):
        assert getattr(halved, name) == pytest.approx(getattr(alone, name) / 2)


def test_only_shared_seeds_are_used():
    values = np.random.default_rng(3).normal(size=(3, 6))
    short = grid(values[1:], seeds=(1, 2))
    assert over_targets([grid(values), short]) == over_targets([short, short])
    with pytest.raises(ValueError, match="share no seed"):
        over_targets([grid(values), grid(values, seeds=(7, 8, 9))])


def test_what_gives_no_right_to_an_interval():
    generator = np.random.default_rng(4)
    two = grid(generator.normal(size=(2, 3)))
    cases = [
        ([grid(generator.normal(size=(1, 3)))] * 2, "One seed"),
        ([two, grid(generator.normal(size=(2, 1)))], "one language"),
        ([grid(np.full((2, 3), 4.0))] * 2, "All differences are equal"),
        ([grid(np.zeros((2, 3)), fixed=True)], "Nothing was changed"),
    ]
    for grids, why in cases:
        found = over_targets(grids)
        assert (found.low, found.high, found.p) == (None, None, None)
        assert why in found.why
    assert these_languages([two, grid(generator.normal(size=(2, 1)))]).low is not None
    assert these_languages([grid(np.zeros((2, 3)), fixed=True)]).low is None


def coverage(times, sizes, spreads, related, seeds=3):
    generator = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(times):
        grids, truth, here = planted(generator, sizes, spreads, related, seeds)
        for place, (found, true) in enumerate(
            [(over_targets(grids), truth), (these_languages(grids), here)]
        ):
            hits[place] += found.low <= true <= found.high
    return hits / times


#: Standard deviations of seeds, languages and the rest; correlation of targets; seeds.
SETTINGS = [
    ((1, 3, 1), 0.0, 5),
    ((1, 3, 1), 0.5, 3),
    ((0.3, 1, 1), 0.5, 3),
    ((1, 1, 1), 0.5, 3),
    ((2, 0.5, 1), 0.5, 3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spreads", "related", "seeds"), SETTINGS)
def test_intervals_cover_the_truth_as_often_as_they_say(spreads, related, seeds):
    both = coverage(1000, XTREME, spreads, related, seeds)
    assert ((both >= 0.93) & (both <= 0.97)).all(), both


@pytest.mark.slow
@pytest.mark.parametrize("spreads", [(0, 0, 1), (1, 3, 1)])
def test_with_unrelated_targets_and_three_seeds_the_interval_is_rather_too_wide(spreads):
    """Targets that move together are allowed for: where they do not, this costs width."""
    assert 0.95 <= coverage(1000, XTREME, spreads, 0.0)[0] <= 0.985


def test_intervals_cover_the_truth_in_a_few_simulations():
    assert (coverage(60, (4, 6, 14), (1, 2, 1), 0.5) > 0.85).all()
