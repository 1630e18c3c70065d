"""Tagged sentences as sub-words: the first sub-word of a word carries its tag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xstilts.data.ragged import Ints, Ragged, offsets_of
from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, texts_of
from xstilts.errors import InputError, nearest
from xstilts.formats.token_classification.cuts import cut, is_usable, read_line

IGNORED = -100


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode sentences word by word, as XTREME does (R8-R10, R20, R21).

    A sentence that is too long is cut at word boundaries into several sequences. A word of no
    sub-word, or of more than fit, becomes the unknown token and keeps its tag. Sequences end as
    the first text of a pair does: XLM-R's with two separators.

    With ``encoding.odd_words``, the model is fed what XTREME's preparation reads from its files:
    the first part of a word that white space splits, and in training and dev sets that label for
    it; a blank word is there its tag's name, and in a test set ends the sentence (here it becomes
    a sequence of its own, an unknown token, because every word gets a prediction).

    Returns:
        input_ids, offsets (type_ids); labels: int32 [total], -100 but on first sub-words; words:
        int32 [total], index of the word in its sentence on first sub-words, else -1; example:
        int32 [sequences], index of the sentence.

    Raises:
        InputError: If there is no room for words, or odd words have an unknown label.
    """
    tokenizer = tokenizer.closed_as_in_pairs()
    room = tokenizer.room(1, encoding.max_length)
    offsets = offsets_of(np.diff(table["tokens"].combine_chunks().offsets.to_numpy()))
    read = _read(table)
    if encoding.odd_words is not None:
        read = _as_lines(read, encoding, encoding.odd_words)
    words, unknown = _word_pieces(read, tokenizer, room)
    # A word as long as the room is alone in its sequence.
    cuts = cut(np.where(read.alone, room, words.lengths), offsets, room)
    body = Ragged(words.values, words.offsets[cuts.offsets])
    numbers = np.arange(len(words)) - np.repeat(offsets[:-1], np.diff(offsets))
    arrays = tokenizer.sequences(body)
    for name, values, fill in (("labels", read.tags, IGNORED), ("words", numbers, -1)):
        arrays[name] = tokenizer.alongside([_on_first(values, words, body, fill)], fill)
    arrays["example"] = cuts.example
    counts = {
        "examples": table.num_rows,
        "words": len(words),
        "unknown words": unknown,
        "cut sentences": int((np.bincount(cuts.example, minlength=1) > 1).sum()),
        "truncated": 0,
    }
    if encoding.odd_words is not None:
        counts["words with white space"] = read.odd
    return Encoded(arrays, counts)


@dataclass(frozen=True)
class _Words:
    """All words of a split.

    Attributes:
        texts: The different words.
        rows: Which of them each word is: [words].
        tags: Class of each word: [words].
        alone: Whether a word is a sequence of its own: [words].
        odd: How many words white space splits, or are blank.
    """

    texts: list[str]
    rows: Ints
    tags: npt.NDArray[np.int32]
    alone: npt.NDArray[np.bool_]
    odd: int = 0


def _read(table: pa.Table) -> _Words:
    coded = table["tokens"].combine_chunks().flatten().dictionary_encode()
    rows = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    tags = table["tags"].combine_chunks().flatten().to_numpy()
    return _Words(texts_of(coded.dictionary), rows, tags, np.zeros(len(rows), bool))


def _as_lines(words: _Words, encoding: Encoding, odd_label: str) -> _Words:
    """Words and tags as they are read from XTREME's files (R10)."""
    classes = {label: number for number, label in enumerate(encoding.labels)}
    if odd_label not in classes:
        raise InputError(
            f"odd_words: {odd_label!r}", "is no label", hint=nearest(odd_label, classes)
        )
    texts, rows, tags = [*words.texts], words.rows.copy(), words.tags.copy()
    alone, odd = words.alone.copy(), 0
    unusual = np.array([text.split() != [text] for text in texts], bool)
    for place in np.flatnonzero(unusual[rows]).tolist():
        text = texts[rows[place]]
        odd += len(text.split()) != 1
        # Test files hold words only. Their tags are no input: what is scored stays as it was.
        is_test = encoding.split == "test"
        line = text if is_test else f"{text}\t{encoding.labels[tags[place]]}"
        word, label = read_line(line, odd_label) or ("", odd_label)
        alone[place] = not word
        rows[place] = len(texts)
        texts.append(word)
        if not is_test:
            tags[place] = classes.get(label, classes[odd_label])
    return _Words(texts, rows, tags, alone, odd)


def _word_pieces(words: _Words, tokenizer: SubwordTokenizer, room: int) -> tuple[Ragged, int]:
    """Sub-words of each word, never none and never more than fit; and how many became unknown."""
    known = tokenizer.pieces(words.texts)
    unknown_row = len(known)
    with_unknown = Ragged.stacked([known, Ragged.constant([tokenizer.unk_id], 1)])
    row = np.where(is_usable(known.lengths, room), np.arange(len(known)), unknown_row)
    rows = row[words.rows]
    return with_unknown.take(rows), int((rows == unknown_row).sum())


def _on_first(values: npt.NDArray[Any], words: Ragged, body: Ragged, fill: int) -> Ragged:
    """A value per word put on the word's first sub-word."""
    spread = np.full(len(body.values), fill, np.int32)
    spread[words.offsets[:-1]] = values
    return Ragged(spread, body.offsets)
