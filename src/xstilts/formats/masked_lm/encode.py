"""Raw text as full sequences of sub-words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from xstilts.data.ragged import Ints, Ragged, offsets_of
from xstilts.data.subwords import Arrays, Encoded, Encoding, SubwordTokenizer, texts_of


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Pack lines, in their order, into sequences ``<s> line </s> line </s> …``.

    As many lines as fit share a sequence. A line that is longer than a sequence is split; nothing
    is lost. Lines without a sub-word are counted as ``empty``.

    Returns:
        input_ids, offsets (type_ids, all 0).
    """
    lines = tokenizer.pieces(texts_of(table["text"]))
    room = tokenizer.room(1, encoding.max_length)
    pieces = _split(lines, room)
    # The template's opening token starts a sequence, its closing one ends each line.
    opening, closing = tokenizer.templates[1].gaps
    closed = Ragged.joined([pieces, Ragged.constant(closing, len(pieces))])
    rows = _pack(closed.lengths, encoding.max_length - len(opening))
    body = Ragged(closed.values, closed.offsets[rows])
    packed = Ragged.joined([Ragged.constant(opening, len(body)), body])
    arrays: Arrays = {"input_ids": packed.values.astype(np.int32), "offsets": packed.offsets}
    if tokenizer.uses_type_ids:
        arrays["type_ids"] = np.zeros(len(packed.values), np.uint8)
    counts = {
        "examples": table.num_rows,
        "split lines": int((lines.lengths > room).sum()),
        "empty": int((lines.lengths == 0).sum()),
        "truncated": 0,
    }
    return Encoded(arrays, counts)


def _split(lines: Ragged, room: int) -> Ragged:
    """Lines cut into pieces of at most ``room`` sub-words; lines of none are left out."""
    parts = -(-lines.lengths // room)
    number = np.arange(parts.sum()) - np.repeat(offsets_of(parts)[:-1], parts)
    lengths = np.minimum(np.repeat(lines.lengths, parts) - number * room, room)
    return Ragged(lines.values, offsets_of(lengths))


def _pack(lengths: Ints, room: int) -> Ints:
    """Bounds of runs of rows that together are at most ``room`` long, taken greedily."""
    ends = offsets_of(lengths)
    bounds = [0]
    while bounds[-1] < len(lengths):
        fits = np.searchsorted(ends, ends[bounds[-1]] + room, side="right") - 1
        bounds.append(int(fits))
    return np.array(bounds, np.int64)
