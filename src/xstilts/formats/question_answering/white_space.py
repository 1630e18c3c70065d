"""Answers by white-space chunks, as the reference makes them; for comparison only (R25, R27).

The reference is `compute_predictions_logits` of transformers 4.57.6 as XTREME calls it, for cased
models. It knows of a sub-word only the chunk of the context between two white spaces. The joined
sub-words of a span are looked for in its chunks after BERT's basic tokenisation. What is not found
there, or cannot be laid over the chunks character by character, becomes the chunks as a whole: with
XLM-R a Chinese answer is a whole sentence, because basic tokenisation sets ideographs apart.
Letters are composed before (versions of 2020 did not): chunks with decomposed ones stay whole.

Basic tokenisation is that of the tokenizers library. It differs from the reference's in 375 rare
characters (young punctuation, 256 ideographs of extension E) and in code points that are none.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from xstilts.artifacts.manifest import check_file
from xstilts.data.token_store import TokenStore

#: A chunk ends at space, tab, CR, LF and the narrow no-break space, at no other white space.
_CHUNK = re.compile("[^ \t\r\n\u202f]+")
_CLEANED = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
_WORDS = pre_tokenizers.BertPreTokenizer()


class ChunkText:
    """Text of a span by the reference's rule.

    Args:
        tokenizer: The tokenizer that the store was made with.
        store: Tokens of a split.
    """

    def __init__(self, tokenizer: Path, store: TokenStore) -> None:
        # The reference joins what the vocabulary says, unknown tokens and normalised letters too.
        read = Tokenizer.from_file(str(check_file(tokenizer, "tokenizer.json")))
        self._piece = read.id_to_token
        self._word_pieces = isinstance(read.model, models.WordPiece)
        self._ids, self._places = store.arrays["input_ids"], store.arrays["char_start"]

    def __call__(self, context: str, first: int, last: int) -> str:
        """Text of the span from one sub-word of the store to another."""
        chunks = list(_CHUNK.finditer(context))
        begins = [chunk.start() for chunk in chunks]
        one, other = (
            max(bisect_right(begins, self._places[place]) - 1, 0) for place in (first, last)
        )
        whole = " ".join(chunk.group() for chunk in chunks[one : other + 1])
        return aligned(self._joined(first, last), whole)

    def _joined(self, first: int, last: int) -> str:
        pieces = [self._piece(int(number)) or "" for number in self._ids[first : last + 1]]
        if self._word_pieces:
            text = " ".join(pieces).replace(" ##", "")
        else:
            text = "".join(pieces).replace("▁", " ")
        return " ".join(text.split())


def aligned(pieces: str, chunks: str) -> str:
    """The part of the chunks that joined sub-words stand for; all of them where it is not found."""
    words = basic_words(chunks)
    begin = words.find(pieces)
    places = [place for place, character in enumerate(chunks) if character != " "]
    if begin < 0 or not pieces or len(places) != len(words) - words.count(" "):
        return chunks
    first = begin - words.count(" ", 0, begin)
    last = first + len(pieces) - pieces.count(" ") - 1
    return chunks[places[first] : places[last] + 1]


def basic_words(text: str) -> str:
    """BERT's basic tokens, cased and composed, joined by spaces."""
    composed = unicodedata.normalize("NFC", _CLEANED.normalize_str(text))
    return " ".join(word for word, _ in _WORDS.pre_tokenize_str(composed))
