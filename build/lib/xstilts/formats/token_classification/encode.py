"""Tagged sentences as sub-words: the first sub-word of a word carries its tag."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xstilts.data.ragged import Ints, Ragged, offsets_of
from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, texts_of

IGNORED = -100


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode sentences word by word, as XTREME does (R8, R9, R20).

    A sentence that is too long is cut at word boundaries into several sequences. A word of no
    sub-word, or of more than fit, becomes the unknown token and keeps its tag.

    Returns:
        input_ids, offsets (type_ids); labels: int32 [total], -100 but on first sub-words; words:
        int32 [total], index of the word in its sentence on first sub-words, else -1; example:
        int32 [sequences], index of the sentence.
    """
    tokens = table["tokens"].combine_chunks()
    offsets = offsets_of(np.diff(tokens.offsets.to_numpy()))
    room = tokenizer.room(1, encoding.max_length)
    words, unknown = _word_pieces(tokens.flatten(), tokenizer, room)
    cuts = _cut(words.lengths, offsets, room)
    body = Ragged(words.values, words.offsets[np.append(cuts.starts, len(words))])
    tags = table["tags"].combine_chunks().flatten().to_numpy()
    numbers = np.arange(len(words)) - np.repeat(offsets[:-1], np.diff(offsets))
    arrays = tokenizer.sequences(body)
    for name, values, fill in (("labels", tags, IGNORED), ("words", numbers, -1)):
        arrays[name] = tokenizer.alongside([_on_first(values, words, body, fill)], fill)
    arrays["example"] = cuts.example
    counts = {
        "examples": table.num_rows,
        "words": len(words),
        "unknown words": unknown,
        "cut sentences": int((np.bincount(cuts.example, minlength=1) > 1).sum()),
        "truncated": 0,
    }
    return Encoded(arrays, counts)


def _word_pieces(words: pa.Array, tokenizer: SubwordTokenizer, room: int) -> tuple[Ragged, int]:
    """Sub-words of each word, never none and never more than fit; and how many became unknown."""
    coded = words.dictionary_encode()
    known = tokenizer.pieces(texts_of(coded.dictionary))
    unknown_row = len(known)
    with_unknown = Ragged.stacked([known, Ragged.constant([tokenizer.unk_id], 1)])
    usable = (known.lengths > 0) & (known.lengths <= room)
    row = np.where(usable, np.arange(len(known)), unknown_row)
    rows = row[coded.indices.to_numpy()] if len(words) else np.empty(0, np.int64)
    return with_unknown.take(rows), int((rows == unknown_row).sum())


@dataclass(frozen=True)
class _Cuts:
    """First word (counted through all sentences) and sentence of each sequence."""

    starts: Ints
    example: npt.NDArray[np.int32]


def _cut(lengths: Ints, offsets: Ints, room: int) -> _Cuts:
    """Cut sentences before the word that would not fit any more."""
    ends = offsets_of(lengths)
    starts: list[int] = []
    example: list[int] = []
    for sentence, (start, stop) in enumerate(pairwise(offsets)):
        starts.append(start)
        while ends[stop] - ends[starts[-1]] > room:
            fits = np.searchsorted(ends, ends[starts[-1]] + room, side="right") - 1
            starts.append(int(fits))
        example.extend([sentence] * (len(starts) - len(example)))
    return _Cuts(np.array(starts, np.int64), np.array(example, np.int32))


def _on_first(values: npt.NDArray[np.int64], words: Ragged, body: Ragged, fill: int) -> Ragged:
    """A value per word put on the word's first sub-word."""
    spread = np.full(len(body.values), fill, np.int32)
    spread[words.offsets[:-1]] = values
    return Ragged(spread, body.offsets)
