"""Raw text as full sequences of sub-words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xstilts.data.ragged import Ragged
from xstilts.data.subwords import Arrays, Encoded, Encoding, SubwordTokenizer, texts_of


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Pack whole lines, in their order, into sequences ``<s> line </s> line </s> …``.

    As in RoBERTa's FULL-SENTENCES (Liu et al. 2019, 4.2), a line that no longer fits opens the next
    sequence; only a line longer than a sequence is cut, and goes on in the next ones. Nothing is
    lost. Lines without a sub-word are left out and counted as ``empty``.

    Returns:
        input_ids, offsets (type_ids, all 0).
    """
    tokenizer.room(1, encoding.max_length)
    lines = tokenizer.pieces(texts_of(table["text"]))
    used = lines.take(np.flatnonzero(lines.lengths))
    # The template's opening token starts a sequence, its closing one ends each line.
    opening, closing = tokenizer.templates[1].gaps
    room = encoding.max_length - len(opening)
    parts = _cut(used, room - len(closing))
    ended = Ragged.joined([parts, Ragged.constant(closing, len(parts))])
    firsts = _first_lines(ended.lengths.tolist(), room)
    body = Ragged(ended.values, ended.offsets[np.append(firsts, len(ended))])
    packed = Ragged.joined([Ragged.constant(opening, len(body)), body])
    arrays: Arrays = {"input_ids": packed.values.astype(np.int32), "offsets": packed.offsets}
    if tokenizer.uses_type_ids:
        arrays["type_ids"] = np.zeros(len(packed.values), np.uint8)
    counts = {"examples": table.num_rows, "truncated": 0, "empty": len(lines) - len(used)}
    return Encoded(arrays, counts)


def _cut(lines: Ragged, most: int) -> Ragged:
    """The lines, those longer than `most` in parts of that length."""
    counts = -(-lines.lengths // most)
    starts = np.repeat(lines.offsets[:-1], counts)
    number = np.arange(len(starts)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Ragged(lines.values, np.append(starts + number * most, len(lines.values)))


def _first_lines(lengths: list[int], room: int) -> NDArray[np.int64]:
    """Number of the line that opens each sequence."""
    firsts, filled = [], room + 1
    for number, length in enumerate(lengths):
        filled += length
        if filled > room:
            firsts.append(number)
            filled = length
    return np.asarray(firsts, dtype=np.int64)
