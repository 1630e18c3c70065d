"""What a model's tokenizer makes of the words of a language: how many sub-words, and which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xstilts.artifacts.manifest import read_manifest
from xstilts.data.ragged import Ints
from xstilts.data.subwords import SubwordTokenizer
from xstilts.data.tables import read_rows

#: Columns with text, by format.
TEXTS = {
    "sequence_classification": ("text_a", "text_b"),
    "multiple_choice": ("prompt", "choices"),
    "question_answering": ("context", "question"),
    "token_classification": ("tokens",),
    "sentence_retrieval": ("text",),
    "answer_retrieval": ("text",),
}
#: The format whose data come with words of their own.
WORDS = "token_classification"


@dataclass(frozen=True)
class Segmented:
    """The words of some texts, cut into sub-words without special tokens.

    Attributes:
        words: Number of words.
        cut: Of these, how many are cut into more than one sub-word.
        types: How often each sub-word occurs: [ids].
        unknown_id: Id of the unknown token.
    """

    words: int
    cut: int
    types: Ints
    unknown_id: int

    @property
    def subwords(self) -> int:
        """Number of sub-words."""
        return int(self.types.sum())

    @property
    def unknown(self) -> int:
        """How many of them are the unknown token."""
        return int(self.types[self.unknown_id])

    def shared(self, other: Segmented) -> int:
        """How many of the sub-words occur in the other texts too; the unknown token is no one's."""
        both = other.types > 0
        both[self.unknown_id] = False
        return int(self.types[both].sum())


def segment(
    words: Counter[str], tokenizer: SubwordTokenizer, boundary: int | None = None
) -> Segmented:
    """Cut words into sub-words, each by itself.

    Sub-words never reach beyond white space, so texts and their words give the same. In decoders'
    vocabularies the blank before a word belongs to its first sub-word, so it is cut with one.

    Args:
        words: How often each word occurs.
        tokenizer: The model's.
        boundary: Id of the sub-word that is nothing but the beginning of a word (SentencePiece's
            U+2581 alone, or a blank), which counts for nothing: a Chinese word that the vocabulary
            holds without it would otherwise count as cut.
    """
    often = np.fromiter(words.values(), np.int64, len(words))
    pieces = tokenizer.pieces(
        [f" {word}" for word in words] if tokenizer.is_decoder else list(words)
    )
    rows = np.repeat(np.arange(len(words)), pieces.lengths)
    counted = pieces.values != (-1 if boundary is None else boundary)
    types = np.zeros(tokenizer.vocab_size, np.int64)
    np.add.at(types, pieces.values[counted], often[rows[counted]])
    lengths = np.bincount(rows[counted], minlength=len(words))
    cut = int(often[lengths > 1].sum())
    return Segmented(int(often.sum()), cut, types, tokenizer.unk_id)


def count_words(prepared: Path, format_name: str, side: str | None, most: int) -> Counter[str]:
    """Words of a prepared test split: its own, or what stands between white space.

    Args:
        prepared: The artifact.
        format_name: Its format.
        side: `source` or `target`, of sentence pairs; None for all of it.
        most: So many rows of each file are read, the first ones; a text that stands in several
            rows (a context with several questions) counts once.

    Raises:
        InputError: If a file is missing or is not what the manifest says.
    """
    found = Counter[str]()
    for name in _files(prepared, side):
        table = read_rows(prepared, name, columns_of(format_name)).slice(0, most)
        for column in table.columns:
            found.update(_words(column, format_name))
    return found


def columns_of(format_name: str) -> tuple[str, ...]:
    """Columns with text of a prepared data set of a format."""
    return TEXTS[format_name]


def _files(prepared: Path, side: str | None) -> list[str]:
    """Files of the test split, without the gold pairs of retrieval."""
    names = sorted(read_manifest(prepared).files)
    wanted = ("test.parquet", "test.source.parquet", "test.target.parquet")
    return [name for name in names if name in wanted and (side is None or f".{side}." in name)]


def _words(column: pa.ChunkedArray, format_name: str) -> Iterator[str]:
    values: Any = column.combine_chunks()
    if pa.types.is_list(values.type):
        values = values.flatten()
    if format_name == WORDS:
        return (word for word in values.to_pylist() if word.strip())
    texts = pc.unique(values.drop_null()).to_pylist()
    return (word for text in texts for word in text.split())
