"""Scores against what languages are: correlations, and regressions with random effects."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.crossed import constant, student
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate

if TYPE_CHECKING:
    import pandas as pd

#: Residuals below this share of the values are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Correlation:
    """How two measures of languages go together.

    Attributes:
        pearson: Correlation of the values; None where there is none.
        spearman: Correlation of the ranks.
        low: Lower bound of the 95 % interval of `pearson`.
        high: Upper bound.
        p: Two-sided p-value of `pearson` being 0.
        n: Languages.
        why: Why something is missing; empty where nothing is.
    """

    pearson: float | None
    spearman: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    why: str = ""


def correlation(x: Floats | Sequence[float], y: Floats | Sequence[float]) -> Correlation:
    """Pearson's and Spearman's correlation over languages; interval and p-value are of the first.

    The interval is Fisher's (1921), the p-value Student's: of values that scatter normally around
    a line.

    Args:
        x: [languages], complete.
        y: [languages], complete.

    Returns:
        Without interval for fewer than four languages, or when all lie on one line; without
        correlation for fewer than three, or when one of the two is the same for all.

    Raises:
        ValueError: If the two have different lengths, or a number is missing.
    """
    from scipy.stats import pearsonr, spearmanr

    one, other = _vector(x), _vector(y)
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} values against {len(other)}")
    n = len(one)
    few = f"{n} languages: too few." if n != 1 else "One language: too few."
    if n < 3:
        return Correlation(None, None, None, None, None, n, few)
    if constant(one) or constant(other):
        why = "One of the two is the same in all languages."
        return Correlation(None, None, None, None, None, n, why)
    found = pearsonr(one, other)
    pearson, spearman = float(found.statistic), float(spearmanr(one, other).statistic)
    if n < 4:
        return Correlation(pearson, spearman, None, None, None, n, few)
    if 1 - abs(pearson) < _ROUNDING:
        why = "All languages lie on one line: there is no spread to test by."
        return Correlation(pearson, spearman, None, None, None, n, why)
    low, high = found.confidence_interval(CONFIDENCE)
    return Correlation(pearson, spearman, float(low), float(high), float(found.pvalue), n)


def slope(x: Floats | Sequence[float], y: Floats) -> Estimate:
    """Points per unit of a measure of languages, with random intercepts of languages and seeds.

    y[s, l] = a + value x[l] + language_l + seed_s + e_sl. All seeds have all languages, so a seed
    moves all points alike, and generalised least squares are least squares on the languages' means
    over seeds: the t interval with (languages - 2) degrees of freedom is exact, for one seed too.
    That seeds could differ in their slopes is not in the model.

    Args:
        x: [languages], complete.
        y: [seeds, languages] in points, complete.

    Returns:
        Without interval for two languages, or when all lie on one line; without value (NaN) for
        one language, or a measure that is the same for all.

    Raises:
        ValueError: If the languages differ in number, or a number is missing.
    """
    measure, table = _vector(x), np.asarray(y, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(measure) or not len(table):
        raise ValueError(f"scores {table.shape} do not fit a measure of {len(measure)} languages")
    if not np.isfinite(table).all():
        raise ValueError("scores are complete and finite: leave out languages that miss some")
    seeds, languages = table.shape

    def bare(value: float, why: str) -> Estimate:
        return Estimate(value, seeds=seeds, languages=languages, why=why)

    if languages < 2:
        return bare(math.nan, "One language: no slope.")
    if constant(measure):
        return bare(math.nan, "The measure is the same in all languages.")
    value, left, squares = _line(measure, table.mean(axis=0))
    if languages < 3:
        return bare(value, "2 languages: too few for an interval.")
    if float(np.abs(left).max()) <= _ROUNDING * max(1.0, float(np.abs(table).max())):
        return bare(value, "All languages lie on one line: there is no spread to test by.")
    error = math.sqrt(float(left @ left) / (languages - 2) / squares)
    return student(value, error, languages - 2, None, seeds, languages)


def _line(x: Floats, y: Floats) -> tuple[float, Floats, float]:
    """Least squares: the slope, the residuals, and the squared spread of x."""
    centred = x - x.mean()
    squares = float(centred @ centred)
    value = float(centred @ y) / squares
    return value, y - y.mean() - value * centred, squares


def mixed(
    y: Floats | Sequence[float],
    predictors: Mapping[str, Floats | Sequence[float]],
    language: Sequence[Hashable],
    seed: Sequence[Hashable],
    target: Sequence[Hashable] | None = None,
) -> dict[str, Estimate]:
    """Points per unit of each predictor, with crossed random intercepts of languages and seeds.

    For several predictors at once, several targets, or tables with missing cells. Estimated by
    restricted maximum likelihood (statsmodels' MixedLM). That gives no degrees of freedom; here
    they are counted as nlme does, by the innermost grouping that a predictor does not vary in
    (Pinheiro and Bates 2000, "Mixed-effects models in S and S-PLUS", 2.4.2).

    Args:
        y: Scores or differences in points [observations].
        predictors: By name, [observations].
        language: Of each observation.
        seed: Of each observation.
        target: Of each observation, where there are several. Each has a level of its own, and its
            languages and seeds have random intercepts of their own in it.

    Returns:
        By predictor; without value (NaN) where the regression cannot be made.

    Raises:
        ValueError: If lengths differ, or a number is missing.
    """
    frame = _frame(y, list(predictors.values()), language, seed, target)
    columns = [f"x{i}" for i in range(len(predictors))]
    seeds, languages = int(frame["seed"].nunique()), int(frame["language"].nunique())
    why = _why_not(frame, columns)
    fitted = None if why else _fit(frame, columns)
    if fitted is None:
        why = why or "The regression did not converge."
        bare = Estimate(math.nan, seeds=seeds, languages=languages, why=why)
        return dict.fromkeys(predictors, bare)
    return {
        name: student(
            float(fitted.params[column]),
            float(fitted.bse[column]),
            _df(frame, column, columns),
            None,
            seeds,
            languages,
        )
        for name, column in zip(predictors, columns, strict=True)
    }


def _frame(
    y: Floats | Sequence[float],
    predictors: Sequence[Floats | Sequence[float]],
    language: Sequence[Hashable],
    seed: Sequence[Hashable],
    target: Sequence[Hashable] | None,
) -> pd.DataFrame:
    """Columns y, x0, x1 ..., and language, seed, target as numbers."""
    import pandas as pd

    columns = {f"x{i}": _vector(values) for i, values in enumerate(predictors)}
    names = {
        "language": language,
        "seed": seed,
        "target": [0] * len(language) if target is None else target,
    }
    places = {name: _numbered(values) for name, values in names.items()}
    return pd.DataFrame({"y": _vector(y), **columns, **places})


def _numbered(values: Sequence[Hashable]) -> list[int]:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return [numbers[value] for value in values]


def _why_not(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    """Why the regression cannot be made; empty where it can."""
    if any(constant(frame[column].to_numpy()) for column in ("y", *columns)):
        return "The scores, or a measure, are the same everywhere."
    within = frame[list(columns)] - frame.groupby("target")[list(columns)].transform("mean")
    if np.linalg.matrix_rank((within / within.std().replace(0, 1)).to_numpy()) < len(columns):
        return "The measures cannot be told from each other."
    if any(_df(frame, column, columns) < 1 for column in columns):
        return "Too few languages for so many measures."
    return ""


def _level(frame: pd.DataFrame, column: str) -> str:
    """The innermost grouping that a predictor does not vary in."""
    for level in (["language"], ["seed"], ["language", "target"]):
        if (frame.groupby(level)[column].nunique() == 1).all():
            return " ".join(level)
    return ""


def _df(frame: pd.DataFrame, column: str, columns: Sequence[str]) -> int:
    """Degrees of freedom: groups of its level, less those of the levels above and predictors."""
    level = _level(frame, column)
    same = sum(_level(frame, other) == level for other in columns)
    languages, seeds, targets = (frame[name].nunique() for name in ("language", "seed", "target"))
    cells = len(frame.groupby(["language", "target"]))
    groups = {
        "language": languages - 1,
        "seed": seeds - 1,
        "language target": cells - languages - targets + 1,
        "": len(frame) - cells - targets * (seeds - 1),
    }
    return int(groups[level]) - same


def _fit(frame: pd.DataFrame, columns: Sequence[str]) -> Any | None:
    """The fitted model; None if it did not converge."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM

    several = frame["target"].nunique() > 1
    formula = "y ~ " + " + ".join([*columns, *(["C(target)"] if several else [])])
    parts = _parts(several, frame["seed"].nunique() > 1)
    if not parts:
        return OLS.from_formula(formula, frame).fit()
    groups = np.ones(len(frame))
    model = MixedLM.from_formula(formula, frame, re_formula="0", vc_formula=parts, groups=groups)
    for method in ("lbfgs", "powell"):
        # It warns of components at 0, which are no failure.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                fitted = model.fit(reml=True, method=method)
            except (np.linalg.LinAlgError, ValueError):
                continue
            errors = fitted.bse[list(columns)]
        if fitted.converged and np.isfinite(errors).all() and (errors > 0).all():
            return fitted
    return None


def _parts(several: bool, seeds: bool) -> dict[str, str]:
    """Random intercepts beside what is left, which is one value per observation.

    With one seed there is one observation per language and target: what is left stands for those.
    """
    parts = {"language": "0 + C(language)"}
    if several and seeds:
        parts |= {"language in target": "0 + C(language):C(target)"}
        parts |= {"seed": "0 + C(seed)", "seed in target": "0 + C(seed):C(target)"}
    elif seeds:
        parts |= {"seed": "0 + C(seed)"}
    return parts if several or seeds else {}


def _vector(values: Floats | Sequence[float]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError("one finite number per language or observation is wanted")
    return found
