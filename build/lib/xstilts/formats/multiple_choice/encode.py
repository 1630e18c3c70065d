"""Questions with choices as sub-words: one (prompt, choice) pair per choice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from xstilts.data.ragged import offsets_of
from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, texts_of


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode each prompt with each of its choices.

    The prompt is cut before the choice, and at its beginning: the question stands at its end
    (Cosmos QA, Social IQa) and a continuation follows its end (HellaSwag).

    Returns:
        input_ids, offsets (type_ids), choice_offsets: int64 [examples + 1] into the sequences,
        and labels: int32 [examples].
    """
    lists = table["choices"].combine_chunks()
    counts = np.diff(lists.offsets.to_numpy())
    choices = tokenizer.pieces(texts_of(lists.flatten()))
    owner = np.repeat(np.arange(table.num_rows), counts)
    prompts = tokenizer.pieces(texts_of(table["prompt"])).take(owner)
    room = tokenizer.room(2, encoding.max_length)
    cut_choices = choices.first(room)
    arrays = tokenizer.sequences(prompts.last(room - cut_choices.lengths), cut_choices)
    arrays["choice_offsets"] = offsets_of(counts)
    arrays["labels"] = table["label"].to_numpy().astype(np.int32)
    too_long = prompts.lengths + choices.lengths > room
    truncated = len(np.unique(owner[too_long]))
    return Encoded(arrays, {"examples": table.num_rows, "truncated": truncated})
