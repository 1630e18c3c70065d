"""Nearest sentences and bitext mining, exact and in bounded memory.

The rules are XTREME's (after Artetxe and Schwenk 2019, arXiv:1811.01136): cosine, the ratio margin
over the means of k = 4 neighbours on both sides, greedy one-to-one pairing by falling score, scores
above 0. A threshold is found on the dev pairs and carried to the test pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import InputError

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

NEIGHBOURS = 4
#: Rows and columns of one block of similarities: 16 MiB of float32, whatever the pools' sizes.
_BLOCK = 2048


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of another side, best first.

    Attributes:
        similarity: Cosines [rows, k].
        row: Rows of the other side [rows, k].
    """

    similarity: Floats
    row: Rows

    @staticmethod
    def none(rows: int, k: int) -> Neighbours:
        """A place for k neighbours of each row, none found yet."""
        return Neighbours(np.full((rows, k), -np.inf, np.float32), np.full((rows, k), -1))

    def offer(self, rows: slice, similarity: Floats, offset: int) -> None:
        """Keep the best k of what is known and a block [rows, columns] that begins at offset.

        Blocks come in the order of their columns: of equal similarities the first column wins.
        """
        k = self.row.shape[1]
        column = _best_columns(similarity, min(k, similarity.shape[1]))
        found = np.take_along_axis(similarity, column, axis=1)
        found = np.concatenate([self.similarity[rows], found], axis=1)
        column = np.concatenate([self.row[rows], column + offset], axis=1)
        best = np.argsort(-found, axis=1, kind="stable")[:, :k]
        self.similarity[rows] = np.take_along_axis(found, best, axis=1)
        self.row[rows] = np.take_along_axis(column, best, axis=1)


def _best_columns(similarity: Floats, k: int) -> Rows:
    """Columns of each row's k highest values, best first, of equal ones the first: [rows, k]."""
    left = np.array(similarity, order="C")  # a copy: argmax is fast along contiguous rows
    found = np.empty((len(left), k), dtype=np.int64)
    for place in range(k):
        found[:, place] = left.argmax(axis=1)
        np.put_along_axis(left, found[:, place, None], -np.inf, axis=1)
    return found


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


def unit(vectors: NDArray[np.floating]) -> Floats:
    """Vectors [rows, width] as float32 of length 1; a zero vector stays zero.

    Raises:
        InputError: If a value is not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InputError(
            f"sentence vector {int(np.argmin(finite))}",
            "is not finite",
            expected="numbers",
            hint="The checkpoint diverged; train it again with a lower learning rate",
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


def _blocks(x: Floats, y: Floats, block: int) -> Iterator[tuple[slice, slice, Floats]]:
    for i in range(0, len(x), block):
        for j in range(0, len(y), block):
            rows, columns = slice(i, i + block), slice(j, j + block)
            yield rows, columns, x[rows] @ y[columns].T


def nearest_rows(
    queries: NDArray[np.floating], index: NDArray[np.floating], k: int = 1, block: int = _BLOCK
) -> Neighbours:
    """The k rows of the index with the highest cosine to each query, exactly.

    Args:
        queries: [queries, width]; Tatoeba: the English sentences.
        index: [rows, width]; Tatoeba: the foreign sentences.
        k: Neighbours per query, at most the rows of the index.
        block: Rows and columns of one block of similarities.
    """
    x, y = unit(queries), unit(index)
    best = Neighbours.none(len(x), min(k, len(y)))
    for rows, columns, similarity in _blocks(x, y, block):
        best.offer(rows, similarity, columns.start)
    return best


def mutual_neighbours(
    x: Floats, y: Floats, k: int = NEIGHBOURS, block: int = _BLOCK
) -> tuple[Neighbours, Neighbours]:
    """The k nearest rows of y for each of x, and of x for each of y; each product made once.

    Args:
        x: Unit vectors [sources, width].
        y: Unit vectors [targets, width].
        k: Neighbours, at most the rows of the other side.
        block: Rows and columns of one block of similarities.
    """
    forward = Neighbours.none(len(x), min(k, len(y)))
    backward = Neighbours.none(len(y), min(k, len(x)))
    for rows, columns, similarity in _blocks(x, y, block):
        forward.offer(rows, similarity, columns.start)
        backward.offer(columns, similarity.T, rows.start)
    return forward, backward


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
    block: int = _BLOCK,
) -> Pairs:
    """Pair the rows of two sides one to one, by falling margin, where it is above 0.

    Args:
        source: [sources, width], of any length.
        target: [targets, width].
        k: Neighbours behind a margin.
        block: Rows and columns of one block of similarities.
    """
    if not len(source) or not len(target):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    forward, backward = mutual_neighbours(unit(source), unit(target), k, block)
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


def _distinct(pool: Pool) -> tuple[list[str | None], Floats]:
    """Id and vector of each distinct sentence, in the order of their first occurrence.

    A repeated sentence has the vector of its last occurrence. It has no id if another row holds
    the same sentence, white space around it apart (both are the official code's rules).
    """
    last = {text: row for row, text in enumerate(pool.texts)}
    occurrences = Counter(text.strip() for text in pool.texts)
    ids = [pool.ids[row] if occurrences[text.strip()] == 1 else None for text, row in last.items()]
    return ids, pool.vectors[list(last.values())]


def mine(source: Pool, target: Pool, k: int = NEIGHBOURS) -> Mined:
    """Mine the pairs of two pools of sentences as XTREME does for BUCC.

    Args:
        source: The foreign side.
        target: The English side.
        k: Neighbours behind a margin.
    """
    source_ids, source_vectors = _distinct(source)
    target_ids, target_vectors = _distinct(target)
    rows = mine_rows(source_vectors, target_vectors, k)
    pairs: list[tuple[str, str]] = []
    scores: list[float] = []
    for i, j, score in zip(rows.source, rows.target, rows.score, strict=True):
        one, other = source_ids[i], target_ids[j]
        if one is not None and other is not None:
            pairs.append((one, other))
            scores.append(float(score))
    return Mined(pairs, np.array(scores, dtype=np.float64), len(rows.score) - len(pairs))


def best_threshold(mined: Mined, gold: AbstractSet[tuple[str, str]]) -> float:
    """The threshold with the highest F1 on the dev pairs: half way down to the next score.

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
