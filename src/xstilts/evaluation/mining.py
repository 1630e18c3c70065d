"""Nearest sentences and bitext mining, exact and in bounded memory.

The rules are XTREME's (after Artetxe and Schwenk 2019, arXiv:1811.01136): cosine, the ratio margin
over the means of k = 4 neighbours on both sides, greedy one-to-one pairing by falling score, scores
above 0. A threshold is found on the dev pairs and carried to the test pairs (R32, R33, R38-R41).

All cosines are computed, block by block, each once for both directions. Beside the vectors
themselves only a few blocks are held, on the device that multiplies them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.errors import InputError

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

NEIGHBOURS = 4
#: Most rows and columns of one block of cosines: 4 MiB of float32, which fit into a cache.
_BLOCK = 1024
#: Blocks of unit vectors of the first side that are held while the other side goes by once.
_PANEL = 8
#: Rows and columns of a block are a multiple of this: see `_cosines`.
_TILE = 64


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of another side, best first; of equal cosines the first row.

    Attributes:
        similarity: Cosines [rows, k].
        row: Rows of the other side [rows, k].
    """

    similarity: Floats
    row: Rows


class _Best:
    """The k best neighbours of each row of a side, while blocks of cosines go by."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        self.cosine = torch.full((rows, k), -torch.inf, device=device)
        self.row = torch.full((rows, k), -1, device=device)

    def offer(self, cosines: torch.Tensor, dim: int, start: int, offset: int) -> None:
        """Keep the best k of what is known and of a block.

        Blocks come in the order of the other side's rows: what is known wins among equals.

        Args:
            cosines: A block of both sides.
            dim: The block's dimension along which the other side's rows lie.
            start: This side's row at the block's begin.
            offset: The other side's row at the block's begin.
        """
        span = slice(start, start + cosines.shape[1 - dim])
        cosine, row = self.cosine[span], self.row[span]
        k = row.shape[1]
        # One fast pass finds the rows to which a block has something to give: soon they are few.
        better = (cosines.amax(dim) > cosine[:, -1]).nonzero()[:, 0]
        left = cosines.index_select(1 - dim, better).movedim(dim, 1).contiguous()
        while len(better):
            value, column = left.max(dim=1, keepdim=True)  # of equal values the first
            left.scatter_(1, column, -torch.inf)
            values = torch.cat([cosine[better], value], dim=1)
            rows = torch.cat([row[better], column + offset], dim=1)
            values, order = values.sort(dim=1, descending=True, stable=True)
            cosine[better] = values[:, :k]
            row[better] = rows.gather(1, order[:, :k])
            more = left.amax(dim=1) > values[:, k - 1]
            better, left = better[more], left[more]

    def found(self) -> Neighbours:
        """What is known now."""
        return Neighbours(self.cosine.cpu().numpy(), self.row.cpu().numpy())


@dataclass(frozen=True)
class Pairs:
    """Mined pairs, best first: rows of both sides [pairs], and scores [pairs]."""

    source: Rows
    target: Rows
    score: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_] | Rows) -> Pairs:
        """The pairs that a mask [pairs] keeps, or those at the given places."""
        return Pairs(self.source[keep], self.target[keep], self.score[keep])


@dataclass(frozen=True)
class Pool:
    """One side of a bitext: ids, sentences and vectors [sentences, width]."""

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: Floats


@dataclass(frozen=True)
class Mined:
    """Pairs of ids, best first.

    Attributes:
        pairs: ``(source id, target id)``.
        score: Margins [pairs].
        ambiguous: Mined pairs left out because one of their sentences stands in its pool twice,
            so that no id is meant.
    """

    pairs: list[tuple[str, str]]
    score: NDArray[np.float64]
    ambiguous: int

    def at_least(self, threshold: float) -> Mined:
        """The pairs that reach a threshold."""
        count = int(np.count_nonzero(self.score >= threshold))
        return Mined(self.pairs[:count], self.score[:count], self.ambiguous)


@dataclass(frozen=True)
class _Side:
    """Some rows [rows] of a matrix of vectors [any, width], read as unit vectors block by block."""

    vectors: NDArray[np.floating]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def block(self, start: int, size: int, device: torch.device) -> torch.Tensor:
        """Unit vectors [size, width] from a row on; zero vectors stay zero, and fill up the end."""
        rows = self.rows[start : start + size]
        part = torch.from_numpy(np.take(self.vectors, rows, axis=0)).to(device)
        # In float64 no length overflows or vanishes.
        length = torch.linalg.vector_norm(part, dim=1, keepdim=True, dtype=torch.float64)
        units = torch.zeros(size, part.shape[1], device=device)
        units[: len(rows)] = part / length.clamp_min(torch.finfo(torch.float64).tiny)
        return units


def _side(vectors: NDArray[np.floating], rows: Rows | None = None) -> _Side:
    """Those rows (all rows) of a matrix [any, width], whose values must be finite.

    Raises:
        InputError: If a value is not finite.
    """
    for start in range(0, len(vectors), _BLOCK):
        finite = np.isfinite(vectors[start : start + _BLOCK]).all(axis=1)
        if not finite.all():
            raise InputError(
                f"sentence vector {start + int(np.argmin(finite))}",
                "is not finite",
                expected="numbers",
                hint="The checkpoint diverged; train it again with a lower learning rate",
            )
    return _Side(vectors, np.arange(len(vectors)) if rows is None else rows)


def _cosines(
    x: _Side, y: _Side, device: torch.device, block: int
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """All cosines of two sides: first row, first column and a block, valid until the next one.

    Every product has the same shape, of whole tiles: kernels for ends round otherwise, and copies
    of one vector would not have equal cosines.
    """
    height, width = (-(-min(block, len(side) or 1) // _TILE) * _TILE for side in (x, y))
    product = torch.empty(height, width, device=device)
    for panel in range(0, len(x), _PANEL * height):
        starts = range(panel, min(panel + _PANEL * height, len(x)), height)
        left = [x.block(i, height, device) for i in starts]
        for j in range(0, len(y), width):
            right = y.block(j, width, device)
            for i, part in zip(starts, left, strict=True):
                torch.mm(part, right.T, out=product)
                yield i, j, product[: len(x) - i, : len(y) - j]


def _device(device: torch.device | str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def nearest_rows(
    queries: NDArray[np.floating],
    index: NDArray[np.floating],
    k: int = 1,
    device: torch.device | str | None = None,
    block: int = _BLOCK,
) -> Neighbours:
    """The k rows of the index with the highest cosine to each query, exactly (R32, R33).

    Args:
        queries: [queries, width], of any length; Tatoeba: the English sentences.
        index: [rows, width]; Tatoeba: the foreign sentences.
        k: Neighbours per query; no more than the index has rows.
        device: Where to compute; by default a GPU if there is one.
        block: Most rows and columns of one block of cosines, in whole tiles of 64.

    Raises:
        InputError: If a value is not finite, or the index is empty.
    """
    x, y, where = _side(queries), _side(index), _device(device)
    if not len(y):
        raise InputError("the sentences to search", "are none", expected="at least one sentence")
    best = _Best(len(x), min(k, len(y)), where)
    for i, j, cosines in _cosines(x, y, where, block):
        best.offer(cosines, 1, i, j)
    return best.found()


def _mutual_neighbours(
    x: _Side, y: _Side, k: int, device: torch.device | str | None, block: int
) -> tuple[Neighbours, Neighbours]:
    """The k nearest rows of y for each of x, and of x for each of y; each product made once."""
    where = _device(device)
    forward = _Best(len(x), min(k, len(y)), where)
    backward = _Best(len(y), min(k, len(x)), where)
    for i, j, cosines in _cosines(x, y, where, block):
        forward.offer(cosines, 1, i, j)
        backward.offer(cosines, 0, j, i)
    return forward.found(), backward.found()


def _best_by_margin(own: Neighbours, other: Neighbours) -> tuple[Rows, Floats]:
    """Each row's neighbour with the highest ratio margin [rows], and that margin [rows]."""
    own_mean = own.similarity.mean(axis=1)
    other_mean = other.similarity.mean(axis=1)
    around = (own_mean[:, None] + other_mean[own.row]) / 2
    # Without any similarity around there is no ratio: such a pair scores 0 and is not mined.
    margin = np.divide(own.similarity, around, out=np.zeros_like(around), where=around != 0)
    best = margin.argmax(axis=1)[:, None]
    row = np.take_along_axis(own.row, best, axis=1)
    return row[:, 0], np.take_along_axis(margin, best, axis=1)[:, 0]


def mine_rows(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    k: int = NEIGHBOURS,
    device: torch.device | str | None = None,
    block: int = _BLOCK,
) -> Pairs:
    """Pair the rows of two sides one to one, by falling margin, where it is above 0 (R38).

    Args:
        source: [sources, width], of any length.
        target: [targets, width].
        k: Neighbours behind a margin; of a side with fewer rows, all.
        device: Where to compute; by default a GPU if there is one.
        block: Most rows and columns of one block of cosines, in whole tiles of 64.

    Raises:
        InputError: If a value is not finite.
    """
    return _mine(_side(source), _side(target), k, device, block)


def _mine(
    source: _Side, target: _Side, k: int, device: torch.device | str | None, block: int
) -> Pairs:
    if not len(source) or not len(target):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    forward, backward = _mutual_neighbours(source, target, k, device, block)
    to_target, forward_score = _best_by_margin(forward, backward)
    to_source, backward_score = _best_by_margin(backward, forward)
    pairs = Pairs(
        np.concatenate([np.arange(len(source)), to_source]),
        np.concatenate([to_target, np.arange(len(target))]),
        np.concatenate([forward_score, backward_score]).astype(np.float64),
    )
    return _one_to_one(pairs.where(pairs.score > 0))


def _one_to_one(pairs: Pairs) -> Pairs:
    """From the best score down, the pairs of which neither row is paired yet."""
    sources: set[int] = set()
    targets: set[int] = set()
    kept: list[int] = []
    for place in np.argsort(-pairs.score, kind="stable").tolist():
        source, target = int(pairs.source[place]), int(pairs.target[place])
        if source not in sources and target not in targets:
            sources.add(source)
            targets.add(target)
            kept.append(place)
    return pairs.where(np.array(kept, dtype=np.int64))


def _distinct(pool: Pool) -> tuple[list[str | None], _Side]:
    """Id and vector of each distinct sentence, in the order of their first occurrence.

    A repeated sentence has the vector of its last occurrence. It has no id if another row holds
    the same sentence, white space around it apart (both are the official code's rules).
    """
    last = {text: row for row, text in enumerate(pool.texts)}
    occurrences = Counter(text.strip() for text in pool.texts)
    ids = [pool.ids[row] if occurrences[text.strip()] == 1 else None for text, row in last.items()]
    return ids, _side(pool.vectors, np.fromiter(last.values(), np.int64, len(last)))


def mine(
    source: Pool,
    target: Pool,
    k: int = NEIGHBOURS,
    device: torch.device | str | None = None,
) -> Mined:
    """Mine the pairs of two pools of sentences as XTREME does for BUCC (R38, R39).

    Args:
        source: The foreign side.
        target: The English side.
        k: Neighbours behind a margin.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        InputError: If a value of a vector is not finite.
    """
    source_ids, source_side = _distinct(source)
    target_ids, target_side = _distinct(target)
    rows = _mine(source_side, target_side, k, device, _BLOCK)
    pairs: list[tuple[str, str]] = []
    scores: list[float] = []
    for i, j, score in zip(rows.source, rows.target, rows.score, strict=True):
        one, other = source_ids[i], target_ids[j]
        if one is not None and other is not None:
            pairs.append((one, other))
            scores.append(float(score))
    return Mined(pairs, np.array(scores, dtype=np.float64), len(rows.score) - len(pairs))


def best_threshold(mined: Mined, gold: AbstractSet[tuple[str, str]]) -> float:
    """The threshold with the highest F1 on the dev pairs: half way down to the next score (R40).

    The lowest number of pairs wins among equals. Where it is best to keep all pairs, the threshold
    is the last score (the official code raises there); where none is correct it is 0.
    """
    correct = np.cumsum([pair in gold for pair in mined.pairs])
    if not len(correct) or not correct[-1]:
        return 0.0
    # Not 2c / (n + g): where two cuts are equal, the official order of rounding decides.
    precision, recall = correct / np.arange(1, len(correct) + 1), correct / len(gold)
    f1 = np.zeros(len(correct))
    np.divide(2 * precision * recall, precision + recall, out=f1, where=correct > 0)
    best = int(f1.argmax())
    return float(mined.score[best : best + 2].mean())
