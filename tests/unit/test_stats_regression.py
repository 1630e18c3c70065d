"""Correlations and regressions: against scipy, and where there is nothing to say."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from xstilts.analysis.stats.regression import correlation, mixed, slope


def planted(seeds, languages, seed=0, steepness=-2.0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=languages)
    y = 70 + steepness * x + generator.normal(0, 2, languages)
    y = y + generator.normal(0, 1, (seeds, 1)) + generator.normal(0, 1, (seeds, languages))
    return x, y


def long(x, y):
    seed, language = np.indices(y.shape)
    return {
        "y": y.ravel(),
        "predictors": {"x": x[language.ravel()]},
        "language": [f"l{i}" for i in language.ravel()],
        "seed": seed.ravel().tolist(),
    }


def test_correlation_by_fishers_z():
    x, y = planted(1, 12)
    found = correlation(x, y[0])
    assert found.pearson == pytest.approx(np.corrcoef(x, y[0])[0, 1])
    assert found.spearman == pytest.approx(stats.spearmanr(x, y[0]).statistic)
    z, half = math.atanh(found.pearson), 1.959963984540054 / math.sqrt(12 - 3)
    assert found.low == pytest.approx(math.tanh(z - half))
    assert found.high == pytest.approx(math.tanh(z + half))
    assert (found.n, found.why) == (12, "")


@pytest.mark.parametrize(
    ("x", "y", "why", "known"),
    [
        ([], [], "0 languages", False),
        ([1], [1], "One language", False),
        ([1, 2], [1, 2], "2 languages", False),
        ([1, 2, 4], [1, 2, 3], "3 languages", True),
        ([1, 1, 1, 1], [1, 2, 3, 4], "One of the two", False),
        ([1, 2, 3, 4], [5, 5, 5, 5], "One of the two", False),
        ([1, 2, 3, 4], [2, 4, 6, 8], "All languages lie on one line", True),
    ],
)
def test_correlation_says_what_it_cannot(x, y, why, known):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = correlation(x, y)
    assert found.why.startswith(why)
    assert (found.pearson is not None) == known
    assert (found.low, found.high, found.p) == (None, None, None)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_slope_is_least_squares_on_means_of_languages(seeds):
    x, y = planted(seeds, 9)
    found, wanted = slope(x, y), stats.linregress(x, y.mean(axis=0))
    half = stats.t.ppf(0.975, 7) * wanted.stderr
    assert (found.value, found.p) == (pytest.approx(wanted.slope), pytest.approx(wanted.pvalue))
    assert (found.low, found.high) == (
        pytest.approx(wanted.slope - half),
        pytest.approx(wanted.slope + half),
    )
    assert (found.df, found.seeds, found.languages) == (7, seeds, 9)


def test_slope_says_what_it_cannot():
    x, y = planted(3, 5)
    assert slope(np.ones(5), y).why == "The measure is the same in all languages."
    assert math.isnan(slope(np.ones(5), y).value)
    assert slope(x[:1], y[:, :1]).why.startswith("One language")
    two = slope(x[:2], y[:, :2])
    assert (two.low, two.why) == (None, "2 languages: too few for an interval.")
    line = slope(x, np.tile(3 * x + 1, (3, 1)))
    assert (line.value, line.low) == (pytest.approx(3), None)
    assert line.why.startswith("All languages lie on one line")
    with pytest.raises(ValueError, match="complete"):
        slope(x, y * np.nan)
    with pytest.raises(ValueError, match="do not fit"):
        slope(x[:4], y)


@pytest.mark.parametrize("seeds", [1, 3])
def test_mixed_is_the_exact_slope_where_all_is_balanced(seeds):
    x, y = planted(seeds, 10)
    found, wanted = mixed(**long(x, y))["x"], slope(x, y)
    assert (found.value, found.df) == (pytest.approx(wanted.value), 8)
    assert (found.low, found.high) == (
        pytest.approx(wanted.low, abs=1e-3),
        pytest.approx(wanted.high, abs=1e-3),
    )


def test_mixed_separates_two_predictors_over_targets_with_missing_cells():
    generator = np.random.default_rng(5)
    x, z = generator.normal(size=(2, 25))
    seed, language, target = (index.ravel() for index in np.indices((3, 25, 2)))
    y = 3 * x[language] - 1 * z[language] + 20 * target + generator.normal(0, 0.5, len(seed))
    kept = generator.random(len(seed)) > 0.1
    found = mixed(
        y[kept],
        {"x": x[language][kept], "z": z[language][kept]},
        language[kept],
        seed[kept],
        target[kept],
    )
    assert found["x"].low < 3 < found["x"].high
    assert found["z"].low < -1 < found["z"].high
    assert found["x"].high - found["x"].low < 1
    assert (found["x"].df, found["z"].df) == (22, 22)


def test_mixed_counts_the_degrees_of_freedom_of_what_varies_within_languages():
    x, y = planted(3, 6)
    cells = long(x, y)
    within = np.random.default_rng(6).normal(size=y.size)
    found = mixed(**{**cells, "predictors": {**cells["predictors"], "w": within}})
    # 6 languages, an intercept and a slope; 18 cells less 6 languages, 2 seeds and 1 slope.
    assert (found["x"].df, found["w"].df) == (4, 9)


def test_mixed_says_what_it_cannot():
    x, y = planted(3, 6)
    cells = long(x, y)
    (own,) = cells["predictors"].values()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twice = mixed(**{**cells, "predictors": {"x": own, "again": 2 * own + 1}})
        still = mixed(**{**cells, "predictors": {"x": np.ones(18)}})
        flat = mixed(**{**cells, "y": np.ones(18)})
        many = {f"x{i}": own**i for i in range(1, 6)}
        few = mixed(**{**cells, "predictors": many})
    assert twice["again"].why == "The measures cannot be told from each other."
    assert still["x"].why == flat["x"].why == "The scores, or a measure, are the same everywhere."
    assert few["x1"].why == "Too few languages for so many measures."
    assert math.isnan(few["x1"].value)
    assert few["x1"].p is None
