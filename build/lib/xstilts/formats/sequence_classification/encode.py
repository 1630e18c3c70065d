"""Sentences and sentence pairs as sub-words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, longest_first, texts_of


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode text_a alone or with text_b; the longer text is cut first (XTREME, R6).

    Returns:
        input_ids, offsets (type_ids) and labels: int32 [sequences].
    """
    first = tokenizer.pieces(texts_of(table["text_a"]))
    labels = {"labels": table["label"].to_numpy().astype(np.int32)}
    if table["text_b"].null_count == table.num_rows:
        room = tokenizer.room(1, encoding.max_length)
        truncated = int((first.lengths > room).sum())
        arrays = tokenizer.sequences(first.first(room))
    else:
        second = tokenizer.pieces(texts_of(table["text_b"]))
        room = tokenizer.room(2, encoding.max_length)
        truncated = int((first.lengths + second.lengths > room).sum())
        cut_a, cut_b = longest_first(first.lengths, second.lengths, room)
        arrays = tokenizer.sequences(first.first(cut_a), second.first(cut_b))
    return Encoded(arrays | labels, {"examples": table.num_rows, "truncated": truncated})
