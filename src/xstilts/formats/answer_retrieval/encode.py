"""Queries, candidates and training pairs as sub-words, cut as XTREME-R cuts them.

A query has at most `max_query_length` sub-words and a candidate `max_length`, special tokens
included in both (XTREME-R: 96 and 256 for LAReQA, 64 and 64 for Mewsli-X).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xstilts.data.ragged import Ragged
from xstilts.data.subwords import (
    Arrays,
    Encoded,
    Encoding,
    SubwordTokenizer,
    longest_first,
    texts_of,
)
from xstilts.errors import InputError


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode the queries or candidates of a test split, or the pairs of a training split.

    Returns:
        input_ids, offsets (type_ids). Of a training split, sequences 2i and 2i + 1 are the query
        and the candidate of pair i. ``truncated`` counts queries and candidates.

    Raises:
        InputError: If queries may be longer than `max_length`.
    """
    if encoding.max_query_length > encoding.max_length:
        raise InputError(
            "max_query_length",
            "is longer than max_length, which holds for candidates",
            expected=f"at most {encoding.max_length}",
            found=str(encoding.max_query_length),
        )
    if encoding.split.endswith((".source", ".target")):
        is_query = encoding.split.endswith(".source")
        longest = encoding.max_query_length if is_query else encoding.max_length
        arrays, cut = _alone(table["text"], tokenizer, longest)
    else:
        queries, cut_queries = _alone(table["query"], tokenizer, encoding.max_query_length)
        candidates, cut = _candidates(table, tokenizer, encoding.max_length)
        arrays, cut = _alternating(queries, candidates), cut + cut_queries
    return Encoded(arrays, {"examples": table.num_rows, "truncated": cut})


def _alone(
    column: pa.ChunkedArray, tokenizer: SubwordTokenizer, longest: int
) -> tuple[Arrays, int]:
    pieces, room = tokenizer.pieces(texts_of(column)), tokenizer.room(1, longest)
    return tokenizer.sequences(pieces.first(room)), int((pieces.lengths > room).sum())


def _candidates(table: pa.Table, tokenizer: SubwordTokenizer, longest: int) -> tuple[Arrays, int]:
    """Candidates of training pairs: sentence and paragraph as a pair, the longer one cut first.

    The test's candidates are one text; both are as in XTREME-R.
    """
    if table["context"].null_count == table.num_rows:
        return _alone(table["text"], tokenizer, longest)
    # A paragraph is the context of several questions: it is cut into sub-words once.
    coded = table["context"].combine_chunks().dictionary_encode()
    first = tokenizer.pieces(texts_of(table["text"]))
    second = tokenizer.pieces(texts_of(coded.dictionary)).take(coded.indices.to_numpy())
    room = tokenizer.room(2, longest)
    cut = longest_first(first.lengths, second.lengths, room)
    arrays = tokenizer.sequences(first.first(cut[0]), second.first(cut[1]))
    return arrays, int((first.lengths + second.lengths > room).sum())


def _alternating(queries: Arrays, candidates: Arrays) -> Arrays:
    """Row 0 of one, row 0 of the other, row 1 of one, and so on."""
    arrays: Arrays = {}
    for name in queries.keys() - {"offsets"}:
        sides = (Ragged(side[name], side["offsets"]) for side in (queries, candidates))
        rows = Ragged.stacked(list(sides)).take(_zipped(len(queries["offsets"]) - 1))
        arrays[name], arrays["offsets"] = rows.values, rows.offsets
    return arrays


def _zipped(rows: int) -> npt.NDArray[np.int64]:
    return np.arange(2 * rows).reshape(2, rows).T.ravel()
