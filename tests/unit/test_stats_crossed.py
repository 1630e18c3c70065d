"""Means over seeds and languages: against textbooks' formulas, statsmodels and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from xstilts.analysis.stats import crossed

#: Sums of squares by hand: rows 6, 8, 4 in the mean, columns 4, 6, 8; all of 9 cells mean 6.
TABLE = np.array([[3.0, 6.0, 9.0], [7.0, 8.0, 9.0], [2.0, 4.0, 6.0]])


def test_components_worked_by_hand():
    # Seeds: 3 (0 + 4 + 4) / 2 = 12. Languages: 3 (4 + 0 + 4) / 2 = 12. Left: -1 0 1, 1 0 -1, 0 0 0
    # squared, 4 / 4 = 1.
    found = crossed.components(TABLE)
    assert found.seed == pytest.approx(math.sqrt((12 - 1) / 3))
    assert found.language == pytest.approx(math.sqrt((12 - 1) / 3))
    assert found.residual == pytest.approx(1)


def test_interval_and_p_worked_by_hand():
    # Variance (12 + 12 - 1) / 9; both have 2 degrees of freedom, so t is 4.302653.
    found = crossed.over_languages_and_seeds(TABLE)
    half = 4.302652729749464 * math.sqrt(23 / 9)
    assert (found.value, found.df) == (pytest.approx(6), pytest.approx(2))
    assert (found.low, found.high) == (pytest.approx(6 - half), pytest.approx(6 + half))
    # Banerjee: t^2 (12 + 12) / 9 = 36 at t = 3.674235, two-sided with 2 degrees of freedom.
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(36 * 9 / 24), 2), rel=1e-9)
    # A difference varies by 11/3 + 11/3 + 1; Satterthwaite: (25/3)^2 / (4^2/2 + 4^2/2 + (1/3)^2/4).
    df = (25 / 3) ** 2 / (16 + 1 / 36)
    factor = math.gamma(df / 2) / math.sqrt(df / 2) / math.gamma((df - 1) / 2)
    assert found.effect == pytest.approx(6 / math.sqrt(25 / 3) * factor)
    assert (found.seeds, found.languages, found.why) == (3, 3, "")


def test_components_are_those_of_an_anova():
    table = np.random.default_rng(1).normal(1, 2, (4, 7))
    seed, language = np.indices(table.shape)
    frame = pd.DataFrame({"d": table.ravel(), "s": seed.ravel(), "l": language.ravel()})
    squares = anova_lm(ols("d ~ C(s) + C(l)", frame).fit())["mean_sq"]
    found = crossed._mean_squares(table)
    assert found.seed == pytest.approx(squares["C(s)"])
    assert found.language == pytest.approx(max(squares["C(l)"], squares["Residual"]))
    assert found.residual == pytest.approx(squares["Residual"])


def test_over_seeds_is_a_paired_t_test():
    table = np.random.default_rng(2).normal(1, 2, (5, 8))
    found = crossed.over_seeds(table)
    wanted = stats.ttest_1samp(table.mean(axis=1), 0)
    low, high = wanted.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.p, found.df) == (pytest.approx(wanted.pvalue), 4)
    # Hedges (1981): the factor for 4 degrees of freedom is sqrt(2 / pi) = 0.7979.
    spread = table.mean(axis=1).std(ddof=1)
    assert found.effect == pytest.approx(table.mean() / spread * math.sqrt(2 / math.pi))


def test_many_seeds_and_no_seed_effect_give_the_t_of_languages():
    languages = np.array([1.0, 2.0, 4.0, 3.0, 7.0])
    found = crossed.over_languages_and_seeds(np.tile(languages, (3, 1)))
    wanted = stats.ttest_1samp(languages, 0)
    low, high = wanted.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize("shape", [(2, 3), (2, 40), (3, 6), (5, 12)])
def test_what_is_told_apart_has_an_interval_without_zero(shape):
    generator = np.random.default_rng(3)
    for _ in range(50):
        table = generator.normal(1, 1, shape) + generator.normal(0, 1, (shape[0], 1))
        found = crossed.over_languages_and_seeds(table)
        assert found.low < found.value < found.high
        assert 1 <= found.df <= max(shape) - 1
        assert found.p > 0.05 or found.low > 0 or found.high < 0


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ([[1.0, 2.0]], "One seed"),
        ([[1.0], [2.0]], "One language"),
        ([[1.5, 1.5], [1.5, 1.5]], "All differences are equal"),
        ([[0.1 + 0.2, 0.3], [0.3, 0.3]], "All differences are equal"),
    ],
)
def test_no_right_to_an_interval(table, why):
    found = crossed.over_languages_and_seeds(np.array(table))
    assert found.why.startswith(why)
    assert (found.low, found.high, found.p, found.effect, found.df) == (None,) * 5
    assert found.value == pytest.approx(np.mean(table))
    assert found.verdict == "cannot be said"


def test_seeds_alone_say_what_they_cannot():
    assert crossed.over_seeds(np.array([[1.0, 2.0]])).why.startswith("One seed")
    assert crossed.over_seeds(np.array([[1.0, 3.0], [3.0, 1.0]])).why.startswith("All seeds")
    assert crossed.over_seeds(np.array([[1.0], [2.0]])).p is not None


def test_scores_whose_means_happen_not_to_vary_are_no_proof():
    found = crossed.over_languages_and_seeds(np.array([[3.0, 1.0], [1.0, 3.0]]))
    assert found.low < 0 < found.high
    assert found.p > 0.05


def test_components_of_one_seed_or_language():
    one = np.array([[1.0, 2.0, 3.0]])
    assert crossed.components(one) == crossed.Components(None, 1.0, None)
    assert crossed.components(one.T) == crossed.Components(1.0, None, None)
    assert crossed.components(one[:, :1]) == crossed.Components(None, None, None)


@pytest.mark.parametrize("table", [[[1.0, math.nan]], [1.0, 2.0], [[]]])
def test_incomplete_tables_are_refused(table):
    for function in (crossed.over_languages_and_seeds, crossed.over_seeds, crossed.components):
        with pytest.raises(ValueError, match="differences"):
            function(np.array(table))
