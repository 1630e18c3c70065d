"""Labels of points that cover each other as little as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xstilts.analysis.bootstrap import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 6.5
#: Width and height of a character, and half a marker, in units of the font's size.
_WIDE, _HIGH, _MARKER = 0.6, 0.85, 0.35
#: Where a label may stand, in steps right and up: beside its point first, then around it, farther.
_AROUND = [
    (right * step, up * step)
    for step in (1.0, 1.8, 2.8)
    for right, up in ((1, 0), (1, 1), (0, 1), (-1, 0), (0, -1), (-1, -1), (-1, 1), (1, -1))
]


def place_labels(
    axis: Axes,
    x: Floats,
    y: Floats,
    names: Sequence[str],
    room: tuple[float, float],
    lines: Sequence[tuple[Floats, Floats]] = (),
) -> None:
    """Write each point's name beside it, where it covers least of what is already there.

    Points are taken from left to right, places around a point from near to far; the first free
    one is taken. A thin line leads to a label that stands apart.

    Args:
        axis: With limits that stay.
        x: [points].
        y: [points].
        names: Labels of the points.
        room: Width and height of what the axes cover, in inches, roughly.
        lines: Lines that labels had better not cover, as many points of each.
    """
    places = _points(axis, x, y, room)
    edge = np.array([0.0, 0.0, room[0] * 72, room[1] * 72])
    taken = [_around(places, _MARKER * _POINTS)]
    taken += [_around(_points(axis, *drawn, room), 1) for drawn in lines]
    for number in np.lexsort((places[:, 1], places[:, 0])):
        name = names[number]
        right, up = best_offset(name, places[number], np.concatenate(taken), edge)
        taken.append(label_box(name, places[number] + (right, up))[None])
        apart = max(abs(right) / len(name), abs(up)) > 1.2 * _POINTS
        label = axis.annotate(
            name,
            (x[number], y[number]),
            xytext=(right, up),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_POINTS,
            color="0.2",
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.4} if apart else None,
        )
        label.set_in_layout(False)  # the axes' size is not by their labels, and found sooner


def _points(axis: Axes, x: Floats, y: Floats, room: tuple[float, float]) -> Floats:
    """Places in points of 1/72 inch from the lower left corner [points, 2]."""
    shares = [
        (values - low) / (high - low)
        for values, (low, high) in ((x, axis.get_xlim()), (y, axis.get_ylim()))
    ]
    return np.asarray(np.stack(shares, axis=1) * np.array(room) * 72)


def _around(places: Floats, size: float) -> Floats:
    """Squares around places [points, 4]: left, lower, right and upper edge."""
    return np.concatenate([places - size, places + size], axis=1)


def best_offset(name: str, place: Floats, taken: Floats, edge: Floats) -> tuple[float, float]:
    """The offset of a label that covers least, the nearest of several.

    Args:
        name: The label.
        place: Of its point [2].
        taken: Boxes of what is there [boxes, 4].
        edge: Box that labels had better not leave [4].
    """
    half = label_box(name, np.zeros(2))[2:] + _MARKER * _POINTS + (1, 0.5)
    options = np.array(_AROUND) * half
    boxes = np.stack([label_box(name, place + option) for option in options])
    whole = np.prod(boxes[0, 2:] - boxes[0, :2])
    covered = shared_areas(boxes, taken).sum(axis=1)
    outside = whole - shared_areas(boxes, edge[None])[:, 0]
    right, up = options[int(np.argmin(np.round(covered + 2 * outside, 6)))].tolist()
    return right, up


def label_box(name: str, place: Floats) -> Floats:
    """The box of a label in the middle of a place [4]."""
    half = np.array([_WIDE * _POINTS * len(name) / 2, _HIGH * _POINTS / 2])
    return np.concatenate([place - half, place + half])


def shared_areas(boxes: Floats, others: Floats) -> Floats:
    """Areas that boxes [n, 4] and others [m, 4] share [n, m]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0.0), axis=2))
