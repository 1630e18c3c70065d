"""What an analysis says of one quantity: its value, its interval, and why there may be none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

#: Of all intervals and tests.
CONFIDENCE = 0.95

Verdict = Literal["higher", "lower", "cannot be told apart", "cannot be said"]


@dataclass(frozen=True)
class Estimate:
    """An estimated quantity, in points unless its owner says otherwise.

    Attributes:
        value: The estimate.
        low: Lower bound of the 95 % interval; None where the data give no right to one.
        high: Upper bound.
        p: Two-sided p-value of the quantity being 0; None likewise.
        adjusted: The p-value after Holm's correction over its family; None before it, or without p.
        effect: Standardised effect size (Hedges' g of paired differences); None where the
            differences do not vary.
        df: Degrees of freedom of the interval, None where it has none.
        seeds: Seeds behind it.
        languages: Languages behind it.
        why: Why there is no interval; empty where there is one.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    effect: float | None = None
    df: float | None = None
    seeds: int = 0
    languages: int = 0
    why: str = ""

    @property
    def verdict(self) -> Verdict:
        """Where it stands to 0, by the adjusted p-value where there is one."""
        p = self.p if self.adjusted is None else self.adjusted
        if p is None:
            return "cannot be said"
        if p > 1 - CONFIDENCE:
            return "cannot be told apart"
        return "higher" if self.value > 0 else "lower"

    def with_adjusted(self, adjusted: float | None) -> Estimate:
        """The same with a corrected p-value."""
        return replace(self, adjusted=adjusted)

    def row(self, prefix: str = "") -> dict[str, Any]:
        """Columns of a table: value, low, high, p, adjusted, effect, verdict, why."""
        names = ("value", "low", "high", "p", "adjusted", "effect")
        cells: dict[str, Any] = {name: tidy(getattr(self, name)) for name in names}
        cells |= {"verdict": self.verdict, "why": self.why}
        return {f"{prefix}{name}": cell for name, cell in cells.items()}


def tidy(value: float | None) -> float | None:
    """A number for a table, to six decimals; blank where it is none or not finite.

    Rounding keeps the order of summation in a matrix product out of the written bytes.
    """
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), 6) + 0.0
