"""Single sentences of one side of a retrieval task as sub-words."""

from __future__ import annotations

import pyarrow as pa

from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, texts_of


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode each sentence by itself, cut at its end.

    Returns:
        input_ids, offsets (type_ids). ``empty`` counts sentences without a sub-word.
    """
    pieces = tokenizer.pieces(texts_of(table["text"]))
    room = tokenizer.room(1, encoding.max_length)
    counts = {
        "examples": table.num_rows,
        "truncated": int((pieces.lengths > room).sum()),
        "empty": int((pieces.lengths == 0).sum()),
    }
    return Encoded(tokenizer.sequences(pieces.first(room)), counts)
