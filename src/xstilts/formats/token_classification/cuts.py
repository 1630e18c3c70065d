"""How XTREME reads tagged lines and cuts long sentences: the rules of `encode` and `resplit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xstilts.data.ragged import Ints, offsets_of


def read_line(line: str, odd_label: str) -> tuple[str, str] | None:
    """Word and label of a line, which any white space cuts into fields (R10).

    The first field is the word, whatever it was meant to be: where the word itself is blank, that
    is its label. Unless there are exactly two fields, the label is the odd words'.

    Returns:
        None for a blank line, which ends a sentence.
    """
    fields = line.split()
    if not fields:
        return None
    return fields[0], fields[1] if len(fields) == 2 else odd_label


def is_usable(lengths: Ints, budget: int) -> npt.NDArray[np.bool_]:
    """Whether a word of so many pieces is kept; else it becomes the unknown token (R9)."""
    usable: npt.NDArray[np.bool_] = (lengths > 0) & (lengths <= budget)
    return usable


@dataclass(frozen=True)
class Cuts:
    """Sequences cut from sentences.

    Attributes:
        offsets: Words of sequence i, counted through all sentences, are ``offsets[i]`` up to
            ``offsets[i + 1]``: [sequences + 1].
        example: Index of each sequence's sentence: int32 [sequences].
    """

    offsets: Ints
    example: npt.NDArray[np.int32]


def cut(lengths: Ints, offsets: Ints, budget: int) -> Cuts:
    """Cut each sentence before the word that would exceed the budget (R8).

    Args:
        lengths: Pieces of each word, at most the budget: [words].
        offsets: Words of each sentence: [sentences + 1].
        budget: Most pieces of a sequence.

    Returns:
        At least one sequence for each sentence, so an empty one for a sentence without words.
    """
    ends = offsets_of(lengths)
    sentences = len(offsets) - 1
    starts, example = [*offsets[:-1].tolist()], [*range(sentences)]
    for sentence in np.flatnonzero(np.diff(ends[offsets]) > budget).tolist():
        start, stop = offsets[sentence : sentence + 2].tolist()
        more = [start + place for place in _overflows(lengths[start:stop].tolist(), budget)]
        starts += more
        example += [sentence] * len(more)
    order = np.lexsort((starts, example))
    return Cuts(
        np.append(np.array(starts, np.int64)[order], len(lengths)),
        np.array(example, np.int32)[order],
    )


def _overflows(lengths: list[int], budget: int) -> Iterator[int]:
    used = 0
    for place, length in enumerate(lengths):
        used += length
        if used > budget:
            yield place
            used = length
