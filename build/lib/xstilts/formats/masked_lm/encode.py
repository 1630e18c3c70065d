"""Raw text as full sequences of sub-words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from xstilts.data.ragged import Ragged
from xstilts.data.subwords import Arrays, Encoded, Encoding, SubwordTokenizer, texts_of


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Pack lines, in their order, into sequences ``<s> line </s> line </s> …``.

    Every sequence but the last is full: a line that does not fit goes on in the next sequence, so
    nothing is lost. Lines without a sub-word are left out and counted as ``empty``.

    Returns:
        input_ids, offsets (type_ids, all 0).
    """
    tokenizer.room(1, encoding.max_length)
    lines = tokenizer.pieces(texts_of(table["text"]))
    used = lines.take(np.flatnonzero(lines.lengths))
    # The template's opening token starts a sequence, its closing one ends each line.
    opening, closing = tokenizer.templates[1].gaps
    stream = Ragged.joined([used, Ragged.constant(closing, len(used))]).values
    starts = np.arange(0, len(stream), encoding.max_length - len(opening))
    body = Ragged(stream, np.append(starts, len(stream)))
    packed = Ragged.joined([Ragged.constant(opening, len(body)), body])
    arrays: Arrays = {"input_ids": packed.values.astype(np.int32), "offsets": packed.offsets}
    if tokenizer.uses_type_ids:
        arrays["type_ids"] = np.zeros(len(packed.values), np.uint8)
    counts = {"examples": table.num_rows, "truncated": 0, "empty": len(lines) - len(used)}
    return Encoded(arrays, counts)
