"""Several random factors, the additive fit of tasks, and knees."""

import numpy as np
import pytest

from xstilts.analysis.stats.additive import effects
from xstilts.analysis.stats.crossed import components, over_languages_and_seeds
from xstilts.analysis.stats.factors import (
    over_all,
    over_sets_and_seeds,
    spread,
    squares_of,
)
from xstilts.analysis.stats.knee import Knee, knee

# ---- analysis of variance


def test_squares_of_a_table_by_hand() -> None:
    # Rows 1 3 and 5 11: rows' means 2 and 8, columns' 3 and 7, all 5, residuals +1 -1 -1 +1.
    found = squares_of(np.array([[1.0, 3.0], [5.0, 11.0]]))
    assert found.mean == {(0,): 36.0, (1,): 16.0, (0, 1): 4.0}
    assert found.df == {(0,): 1, (1,): 1, (0, 1): 1}
    assert found.parts() == {(0,): 32.0, (1,): 12.0, (0, 1): 4.0}
    assert (found.variance((0,)), found.variance((1,)), found.variance((0, 1))) == (16, 6, 4)


def test_parts_of_three_factors_add_up() -> None:
    values = np.random.default_rng(1).normal(size=(3, 4, 5))
    found = squares_of(values)
    squares = sum(found.mean[axes] * found.df[axes] for axes in found.mean)
    assert squares == pytest.approx(((values - values.mean()) ** 2).sum())
    assert sum(found.df.values()) == values.size - 1


def test_two_factors_are_those_of_crossed() -> None:
    draw = np.random.default_rng(2)
    table = draw.normal(size=(4, 1)) + 2 * draw.normal(size=6) + draw.normal(size=(4, 6))
    parts = squares_of(table)
    wanted = components(table)
    assert parts.variance((0,)) ** 0.5 == pytest.approx(wanted.seed)
    assert parts.variance((1,)) ** 0.5 == pytest.approx(wanted.language)


def test_one_set_is_the_test_without_sets() -> None:
    table = np.random.default_rng(3).normal(2, 1, (3, 8))
    assert over_all(table[None]) == over_languages_and_seeds(table)


def test_sets_that_differ_widen_the_interval() -> None:
    table = np.random.default_rng(4).normal(0, 0.3, (4, 3, 8)) + 5
    same = over_all(table)
    apart = over_all(table + np.array([-3.0, 0.0, 1.0, 2.0])[:, None, None])
    assert same.low is not None
    assert apart.low is not None
    assert apart.value == pytest.approx(same.value)
    assert apart.value - apart.low > 5 * (same.value - same.low)
    assert same.verdict == "higher"


def test_no_interval_without_seeds_or_spread() -> None:
    assert over_all(np.ones((3, 1, 8))).why.startswith("One seed")
    assert over_all(np.ones((3, 2, 1))).why.startswith("One language")
    assert over_all(np.ones((3, 2, 8))).p is None
    assert over_sets_and_seeds(np.ones((2, 1)), 8).why.startswith("One seed")


def _planted(draw: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    orders, seeds, languages = shape
    return (
        draw.normal(0, 1.0, (orders, 1, 1))
        + draw.normal(0, 0.5, (1, seeds, 1))
        + draw.normal(0, 1.0, (1, 1, languages))
        + draw.normal(0, 0.5, (orders, 1, languages))
        + draw.normal(0, 0.7, shape)
    )


def test_intervals_cover_other_orders_seeds_and_languages() -> None:
    draw = np.random.default_rng(5)
    found = [over_all(_planted(draw, (5, 3, 12))) for _ in range(400)]
    inside = [one.low is not None and one.low <= 0 <= (one.high or 0) for one in found]
    assert 0.93 <= np.mean(inside) <= 0.97
    assert np.mean([one.p is not None and one.p <= 0.05 for one in found]) <= 0.05


# ---- spread over sets


def test_planted_spreads_are_found() -> None:
    draw = np.random.default_rng(6)
    tables = [draw.normal(0, 2, (40, 1)) + draw.normal(0, 0.5, (40, 3)) + 50 for _ in range(3)]
    found = spread(tables)
    assert found is not None
    assert found.sets == pytest.approx(2, rel=0.2)
    assert found.seeds == pytest.approx(0.5, rel=0.2)
    assert found.df == (117, 234)
    assert found.p < 1e-6


def test_sets_that_do_not_differ_are_seldom_told_apart() -> None:
    draw = np.random.default_rng(7)
    found = [spread([draw.normal(0, 1, (5, 3)) for _ in range(4)]) for _ in range(400)]
    assert 0.02 <= np.mean([one is not None and one.p <= 0.05 for one in found]) <= 0.08


def test_no_spread_of_one_set_or_one_seed() -> None:
    assert spread([np.ones((1, 3))]) is None
    assert spread([np.array([[1.0], [2.0]])]) is None
    assert spread([np.ones((3, 3))]) is None


# ---- tasks


def test_planted_effects_of_tasks() -> None:
    draw = np.random.default_rng(8)
    names = list("abcdefgh")
    sets = [frozenset(draw.permutation(names)[:size]) for size in range(1, 9) for _ in range(12)]
    sets = list(dict.fromkeys(sets))
    added = {"a": 3.0, "b": -3.0}
    scores = np.array(
        [10 * len(s) ** 0.5 + sum(added.get(t, 0) for t in s) + draw.normal(0, 0.3) for s in sets]
    )
    found = effects(sets, scores)
    assert found["a"].value == pytest.approx(3, abs=0.3)
    assert found["b"].value == pytest.approx(-3, abs=0.3)
    assert [name for name in names if (found[name].p or 1) < 0.001] == ["a", "b"]
    assert sum(one.value for one in found.values()) == pytest.approx(0)


def test_tasks_that_always_come_together_are_not_told() -> None:
    sets = [frozenset("a"), frozenset("abc"), frozenset("d"), frozenset("bcd")]
    found = effects(sets, np.array([1.0, 5.0, 2.0, 5.5]))
    assert "b" not in found
    assert found.keys() <= {"a", "d"}


def test_no_interval_without_more_sets_than_unknowns() -> None:
    found = effects([frozenset("a"), frozenset("b")], np.array([1.0, 3.0]))
    assert found["a"].value == pytest.approx(-1)
    assert found["a"].low is None
    assert found["a"].why == "There are no more sets than unknowns."


# ---- knees

X = list(range(10))


def _look(curves: np.ndarray, sizes: list[int] = X) -> Knee | str:
    points = [curves[:, :, place].mean(axis=1) for place in range(len(sizes))]
    return knee(sizes, curves, points, 200, (1,))


def _noise(seed: int, orders: int = 5, seeds: int = 3, sd: float = 0.5) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(0, sd, (orders, 1, len(X))) + draw.normal(0, sd, (orders, seeds, len(X)))


@pytest.mark.parametrize("place", [2.0, 3.0, 4.5, 6.0])
def test_a_planted_knee_is_found(place: float) -> None:
    x = np.array(X, float)
    curve = 30 + 4 * np.minimum(x, place) + 0.2 * np.maximum(0, x - place)
    found = _look(curve + _noise(1))
    assert isinstance(found, Knee)
    assert found.why == ""
    assert found.low is not None
    assert found.high is not None
    assert found.place == pytest.approx(place, abs=0.5)
    assert found.low - 0.3 <= place <= found.high + 0.3
    assert found.before == pytest.approx(4, abs=0.6)
    assert found.after == pytest.approx(0.2, abs=0.4)


@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_a_straight_line_has_seldom_a_knee(slope: float) -> None:
    line = slope * np.array(X, float)
    found = [_look(line + _noise(seed)) for seed in range(60)]
    assert np.mean([isinstance(one, Knee) and not one.why for one in found]) <= 0.07


def test_what_has_no_knee_says_why() -> None:
    curve = np.minimum(np.array(X, float), 3)
    assert _look(np.full((2, 2, 10), 5.0)) == "All scores are equal."
    assert "needs 5 numbers" in str(_look(curve[None, None, :4] + 0.0, X[:4]))
    alone = _look(curve + _noise(1, 1, 1, 0.1))
    assert isinstance(alone, Knee)
    assert alone.why.startswith("One seed")
    assert alone.low is None


def test_one_order_with_seeds_may_have_a_knee() -> None:
    curve = 5 * np.minimum(np.array(X, float), 3)
    found = _look(curve + _noise(2, 1, 4, 0.2))
    assert isinstance(found, Knee)
    assert found.why == ""
    assert found.place == pytest.approx(3, abs=0.3)
