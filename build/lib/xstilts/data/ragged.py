"""Rows of different lengths in one flat array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def offsets_of(lengths: npt.ArrayLike) -> Ints:
    """Offsets [n + 1] of rows with some lengths [n], laid one after the other."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True)
class Ragged:
    """Rows laid one after the other.

    Attributes:
        values: All items: [total].
        offsets: Row i is ``values[offsets[i]:offsets[i + 1]]``: int64 [rows + 1].
    """

    values: npt.NDArray[Any]
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Items of each row: [rows]."""
        return np.diff(self.offsets)

    @classmethod
    def constant(cls, row: Sequence[int], rows: int, dtype: npt.DTypeLike = np.int32) -> Ragged:
        """The same row many times."""
        return cls(np.tile(np.array(row, dtype), rows), np.arange(rows + 1) * len(row))

    @classmethod
    def stacked(cls, parts: Sequence[Ragged]) -> Ragged:
        """All rows of one, then all rows of the next."""
        values = np.concatenate([part.values for part in parts])
        return cls(values, offsets_of(np.concatenate([part.lengths for part in parts])))

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """Row i is row i of the first part, then of the second, and so on."""
        lengths = np.stack([part.lengths for part in parts], axis=1)
        places = offsets_of(lengths.ravel())
        values = np.empty(places[-1], parts[0].values.dtype)
        for number, part in enumerate(parts):
            starts = places[number : -1 : len(parts)]
            values[_spread(starts, part.lengths)] = part.values
        return cls(values, places[:: len(parts)])

    def slices(self, rows: npt.ArrayLike, starts: npt.ArrayLike, lengths: npt.ArrayLike) -> Ragged:
        """For each k: ``lengths[k]`` items of row ``rows[k]``, from its item ``starts[k]`` on."""
        first = self.offsets[np.asarray(rows, np.int64)] + np.asarray(starts, np.int64)
        wanted = np.asarray(lengths, np.int64)
        return Ragged(self.values[_spread(first, wanted)], offsets_of(wanted))

    def take(self, rows: npt.ArrayLike) -> Ragged:
        """Some rows, in the order asked for."""
        index = np.asarray(rows, np.int64)
        return self.slices(index, np.zeros(len(index), np.int64), self.lengths[index])

    def first(self, lengths: npt.ArrayLike) -> Ragged:
        """Each row cut to its first items."""
        rows = np.arange(len(self))
        return self.slices(rows, np.zeros_like(rows), np.minimum(self.lengths, lengths))

    def last(self, lengths: npt.ArrayLike) -> Ragged:
        """Each row cut to its last items."""
        kept = np.minimum(self.lengths, lengths)
        return self.slices(np.arange(len(self)), self.lengths - kept, kept)


def _spread(starts: Ints, lengths: Ints) -> Ints:
    """Indices ``starts[i], starts[i] + 1, …`` (lengths[i] of them) for every i."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
