"""LogME against the evidence computed directly, by scipy, and its maximum found by a search."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from xstilts.analysis.logme import Moments, evidence, logme


def moments_of(features: np.ndarray, labels: np.ndarray) -> Moments:
    squares = (labels**2).sum(axis=0)
    return Moments(len(labels), features.T @ features, features.T @ labels, squares)


def direct(features: np.ndarray, labels: np.ndarray, alpha: float, beta: float) -> float:
    """Log density of labels whose weights are integrated out: y ~ N(0, FF'/alpha + 1/beta)."""
    covariance = features @ features.T / alpha + np.eye(len(labels)) / beta
    return float(multivariate_normal(np.zeros(len(labels)), covariance).logpdf(labels))


def searched(features: np.ndarray, labels: np.ndarray) -> float:
    """The largest direct evidence that a search over both precisions finds."""
    starts = [(a, b) for a in (-2.0, 2.0) for b in (-1.0, 3.0)]
    found = [
        minimize(
            lambda x: -direct(features, labels, *np.exp(x)),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 5000},
        )
        for start in starts
    ]
    return -min(float(one.fun) for one in found)


def data(rows: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    features = rng.normal(size=(rows, width)) * np.linspace(0.3, 3, width) + 0.5
    score = features @ rng.normal(size=(width, 3)) + noise * rng.normal(size=(rows, 3))
    return features, np.eye(3)[score.argmax(axis=1)]


@pytest.mark.parametrize(("rows", "width"), [(40, 5), (30, 12), (12, 20)])
@pytest.mark.parametrize("noise", [0.5, 5.0])
def test_evidence_is_the_density_and_the_largest(rows: int, width: int, noise: float) -> None:
    """More rows than features, and fewer."""
    features, labels = data(rows, width, noise)
    for column, found in enumerate(evidence(moments_of(features, labels))):
        y = labels[:, column]
        assert (found is None) == (not y.any())
        if found is None:
            continue
        assert found.value == pytest.approx(direct(features, y, found.alpha, found.beta), abs=1e-5)
        assert found.value == pytest.approx(searched(features, y), abs=1e-4)


def test_features_of_less_rank_than_width() -> None:
    features, labels = data(30, 4, 1.0)
    twice = np.concatenate([features, features @ np.ones((4, 2))], axis=1)
    found = evidence(moments_of(twice, labels))[0]
    assert found is not None
    expected = direct(twice, labels[:, 0], found.alpha, found.beta)
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_mean_over_columns_and_rows_without_absent_classes() -> None:
    features, labels = data(40, 5, 1.0)
    values = [entry.value for entry in evidence(moments_of(features, labels)) if entry]
    with_absent = np.concatenate([labels, np.zeros((40, 1))], axis=1)
    assert evidence(moments_of(features, with_absent))[3] is None
    found = logme(moments_of(features, with_absent))
    assert found == pytest.approx(sum(values) / 3 / 40)
    assert logme(moments_of(features, np.zeros((40, 2)))) is None


def test_better_features_have_more_evidence() -> None:
    values = []
    for noise in (0.1, 2.0, 20.0):
        features, labels = data(200, 8, noise)
        values.append(logme(moments_of(features, labels)))
    assert values == sorted(values, reverse=True)


def test_labels_that_fit_exactly_and_features_that_say_nothing() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 4))
    assert np.isfinite(logme(moments_of(features, features[:, :1])))
    constant = np.zeros((50, 4))
    constant[:, 0] = np.repeat([1.0, -1.0], 25)
    labels = np.tile([[0.0], [1.0]], (25, 1))[:, :1] - 0.5
    assert np.isfinite(logme(moments_of(constant, labels)))
