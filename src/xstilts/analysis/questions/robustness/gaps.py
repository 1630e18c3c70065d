"""Gaps to the source language: what other languages lose against it, and what share they keep.

A share makes an F1 and an accuracy comparable, but an accuracy does not fall below chance by
knowing less, while an F1 falls to 0. So there are two shares: of the score, and of the score above
chance.
"""

from __future__ import annotations

from dataclasses import dataclass

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.study import Grid

#: A share is said only of a source score at least so many points above what it is counted from: a
#: share of next to nothing is noise. Our choice.
LEAST = 5.0


@dataclass(frozen=True)
class Gaps:
    """Scores against those of the source language with the same seed; without that language.

    Attributes:
        points: Score minus the source's.
        shares: The same, in percent of the source's score; None where that is too low.
        beyond: The same, in percent of the source's score above chance; None where that is too low,
            or chance is not known.
        why: Why a share is missing; empty where none is.
    """

    points: Grid
    shares: Grid | None
    beyond: Grid | None
    why: str = ""


def gaps_of(grid: Grid, source: str, chance: float | None = None) -> Gaps | None:
    """The gaps of a target's scores.

    Args:
        grid: Its scores.
        source: The source language.
        chance: Its score of a blind guess, where known.

    Returns:
        None if the source language has no score, or no other has.
    """
    others = [code for code in grid.languages if code != source]
    if source not in grid.languages or not others:
        return None
    zero_shot, own = grid.of(others), grid.of([source]).values
    points = _with(zero_shot, zero_shot.values - own)
    found = [_share(points, own, floor) for floor in (0.0, chance)]
    lowest = f"The lowest score in the source language is {own.min():.1f}"
    why = ""
    if found[0] is None:
        why = f"{lowest}: less than {LEAST:g}, so nothing is said as a share of it."
    elif found[1] is None and chance is not None:
        why = f"{lowest}: less than {LEAST:g} above chance ({chance:.1f}), so no share of that."
    return Gaps(points, found[0], found[1], why)


def _share(points: Grid, own: Floats, floor: float | None) -> Grid | None:
    if floor is None or own.min() - floor < LEAST:
        return None
    return _with(points, 100.0 * points.values / (own - floor))


def _with(grid: Grid, values: Floats) -> Grid:
    return Grid(grid.seeds, grid.languages, values, grid.fixed)
