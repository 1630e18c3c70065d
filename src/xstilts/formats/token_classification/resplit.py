"""XTREME's tagging files, re-split so that no sequence is too long for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from xstilts.data.ragged import Ragged
from xstilts.formats.token_classification.cuts import cut, is_usable, read_line


def resplit(
    lines: Iterable[str],
    pieces: Callable[[Sequence[str]], Ragged],
    budget: int,
    unknown: str,
    odd_label: str,
) -> tuple[list[str], list[str]]:
    r"""Re-split a file of tagged words as XTREME's `utils_preprocess.py` does (R8-R11).

    The cuts are those of `encode`, so the `.idx` lines tell how to join again what a model of the
    same tokenizer predicts for the split file.

    Args:
        lines: Lines ``word TAB label``, or words only, with a blank line after each sentence; an
            open text file (which ends lines at LF, CR and CRLF, and only there) is good.
        pieces: Sub-words of each word, for example `SubwordTokenizer.pieces`.
        budget: Most sub-words of a sequence without its special tokens:
            ``tokenizer.closed_as_in_pairs().room(1, 128)``, 125 for XLM-R and 126 for BERT.
        unknown: The tokenizer's unknown token.
        odd_label: Label of a line that white space does not cut into two fields: ``O`` for PAN-X,
            ``X`` for UDPOS.

    Returns:
        Lines of the split file (``word TAB label``) and of its `.idx` file (the number of the
        word's sentence), without line ends; both have blank lines in the same places.
    """
    found = [read_line(line, odd_label) for line in lines]
    words = [line for line in found if line]
    lengths = pieces([word for word, _ in words]).lengths
    usable = is_usable(lengths, budget)
    blank = np.array([line is None for line in found], bool)
    words_before = np.cumsum(~blank)
    offsets = np.concatenate([[0], words_before[blank], [len(words)]])
    cuts = cut(np.where(usable, lengths, 1), offsets, budget)
    texts, numbers = list[str](), list[str]()
    for (start, stop), sentence in zip(pairwise(cuts.offsets), cuts.example, strict=True):
        for place in range(start, stop):
            word, label = words[place]
            texts.append(f"{word if usable[place] else unknown}\t{label}")
        texts.append("")
        numbers += [*[str(sentence)] * (stop - start), ""]
    # Blank lines stand between sequences: the last one has none after it.
    return texts[:-1], numbers[:-1]
