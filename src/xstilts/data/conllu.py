"""Treebanks of Universal Dependencies, from CoNLL-U to the sentences that XTREME tags.

XTREME puts the surface form back in the place of the words it was split into, drops sentences
without text and takes blanks out of forms (R13-R17). The results are XTREME's files, line by line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.data.readers import Source, read_text
from xstilts.errors import InputError, nearest

_COLUMNS = 10
_ID = re.compile(r"(?P<first>[0-9]+)(?:-(?P<last>[0-9]+)|(?P<empty>\.[0-9]+))?")

#: The tag of a fused token whose highest words are equally high is the first of these (R14).
_RANKS = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
_RANKS_OF = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}

#: A token and its tag.
Tagged = tuple[str, str]


@dataclass(frozen=True)
class Span:
    """A surface token that was split into words ``first`` to ``last`` (from 1, inclusive)."""

    first: int
    last: int
    form: str


@dataclass
class Sentence:
    """A sentence as it stands in the file.

    Attributes:
        line: Number of its first word's line.
        words: Form and part of speech of each word.
        heads: Heads of each word: the basic one, and those of the enhanced graph; 0 is the root.
        spans: Tokens that were split into words, in the order of the text.
        empty: Number of its empty nodes (ids like 8.1), which are no words.
    """

    line: int
    words: list[Tagged] = field(default_factory=list)
    heads: list[set[int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    empty: int = 0


# ---------------------------------------------------------------- CoNLL-U


def sentences_of(path: Path) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file.

    Raises:
        InputError: On a line that is none of CoNLL-U; it is named.
    """
    sentence: Sentence | None = None
    number = 0
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line and not line.startswith("#"):
            sentence = sentence or Sentence(number)
            _take(sentence, line, f"{path}: line {number}")
        elif not line and sentence is not None:
            yield _checked(sentence, path)
            sentence = None
    if sentence is not None:
        raise InputError(
            f"{path}: line {number}",
            "the file ends inside a sentence",
            expected="an empty line after the last sentence",
            hint="The file may have been cut short: get it again",
        )


def _take(sentence: Sentence, line: str, where: str) -> None:
    columns = line.split("\t")
    if len(columns) != _COLUMNS:
        raise _malformed(where, f"{_COLUMNS} columns, separated by tabs", f"{len(columns)}", line)
    form, tag, head, enhanced = (columns[i] for i in (1, 3, 6, 8))
    number = _ID.fullmatch(columns[0])
    if number is None:
        raise _malformed(where, "an id such as 8, 8-9 or 8.1", repr(columns[0]), line)
    first = int(number["first"])
    if number["empty"]:
        sentence.empty += 1
    elif number["last"]:
        sentence.spans.append(Span(first, int(number["last"]), form))
    elif first != len(sentence.words) + 1:
        raise _malformed(where, f"the word {len(sentence.words) + 1}", f"the id {first}", line)
    elif not _is_number(head):
        raise _malformed(where, "the number of its head in column 7", repr(head), line)
    else:
        # The converter counts enhanced heads as heads too, but not those that are empty nodes.
        more = (item.split(":")[0] for item in enhanced.split("|"))
        sentence.words.append((form, tag))
        sentence.heads.append({int(head), *(int(item) for item in more if _is_number(item))})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _malformed(where: str, expected: str, found: str, line: str) -> InputError:
    return InputError(
        where, "is no line of CoNLL-U", expected=expected, found=f"{found} in {line[:80]!r}"
    )


def _checked(sentence: Sentence, path: Path) -> Sentence:
    """A whole sentence, if its numbers are those of its words."""
    where, size = f"{path}: line {sentence.line}", len(sentence.words)
    if size == 0:
        raise InputError(where, "the sentence has no words", expected="lines with ids 1, 2, …")
    for number, heads in enumerate(sentence.heads, start=1):
        if max(heads) > size:
            found = f"the head {max(heads)} of word {number}"
            raise InputError(
                where, "a head is no word of the sentence", expected=f"0 to {size}", found=found
            )
    end = 0
    for span in sentence.spans:
        if not end < span.first <= span.last <= size:
            raise InputError(
                where,
                "the words of a fused token are not there, or belong to another one too",
                expected=f"words of {end + 1} to {size}",
                found=f"{span.first}-{span.last}",
            )
        end = span.last
    return sentence


# ---------------------------------------------------------------- fused tokens


def fused(sentence: Sentence, language: str, notes: Counter[str]) -> list[Tagged]:
    """A sentence in its surface tokens; a fused one has the tag of its highest word (R14).

    Args:
        sentence: The sentence.
        language: ISO code; Spanish, French and Italian have a precedence of tags of their own.
        notes: Counts what was changed.
    """
    found: list[Tagged] = []
    done = 0
    for span in sentence.spans:
        found += sentence.words[done : span.first - 1]
        found.append((span.form, _head_tag(sentence, span, language, notes)))
        done = span.last
        notes["fused tokens"] += 1
        notes["words inside fused tokens"] += span.last - span.first + 1
    notes["empty nodes left out"] += sentence.empty
    return found + sentence.words[done:]


def _head_tag(sentence: Sentence, span: Span, language: str, notes: Counter[str]) -> str:
    """Tag of the word with the fewest ancestors; of several, by the precedence of their tags."""
    above = {word: _ancestors(sentence, word) for word in range(span.first, span.last + 1)}
    least = min(above.values())
    tags = [sentence.words[word - 1][1] for word, count in above.items() if count == least]
    if len(tags) == 1:
        return tags[0]
    ranks = _RANKS_OF.get(language, _RANKS).split()
    if any(tag not in ranks for tag in tags):
        # The converter breaks off here; no treebank that XTREME uses makes it.
        notes["fused tokens whose head was chosen among tags without a rank"] += 1
    return min(tags, key=lambda tag: ranks.index(tag) if tag in ranks else len(ranks))


def _ancestors(sentence: Sentence, word: int) -> int:
    """Number of the nodes above a word, the root among them."""
    seen: set[int] = set()
    todo = list(sentence.heads[word - 1])
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(sentence.heads[node - 1] if node else ())
    return len(seen - {word})


# ---------------------------------------------------------------- XTREME's filters


def has_text(tokens: Sequence[Tagged]) -> bool:
    """Whether XTREME keeps a sentence: no form is ``_``, or two forms or more are not (R16)."""
    hidden = sum(form == "_" for form, _ in tokens)
    return hidden == 0 or hidden < len(tokens) - 1


def _stripped(tokens: Sequence[Tagged], notes: Counter[str]) -> list[Tagged]:
    found = [(form.strip(), tag.strip()) for form, tag in tokens]
    notes["tokens stripped of white space"] += sum(
        old[0] != new[0] for old, new in zip(tokens, found, strict=True)
    )
    return found


def without_blanks(form: str, notes: Counter[str]) -> str:
    """A form without zero-width non-joiners and spaces (R17); other white space stays inside."""
    for sign, what in (("\u200c", "zero-width non-joiners"), (" ", "spaces")):
        if sign in form:
            notes[f"tokens with {what} taken out"] += 1
            form = form.replace(sign, "")
    return form


def treebank_files(raw: Path, split: str) -> list[Path]:
    """Stored files of a split, ``<code>_<treebank>-ud-<split>.conllu``, in name order (R13).

    Raises:
        InputError: If there is none, or one of them has other bytes than it was fetched with.
    """
    stored = sorted(name for name in read_manifest(raw).files if name.startswith("files/"))
    names = [
        name for name in stored if name == f"files/{split}" or name.endswith(f"-ud-{split}.conllu")
    ]
    if not names:
        there = {name.removesuffix(".conllu").rsplit("-", 1)[-1] for name in stored}
        raise InputError(str(raw), f"has no split {split!r}", hint=nearest(split, there))
    return [check_file(raw, name) for name in names]


def read_conllu(paths: Sequence[Path], language: str, notes: Counter[str]) -> Source:
    """Read treebanks, one after the other, into ``tokens`` and ``tags`` as XTREME has them.

    Args:
        paths: The files.
        language: ISO code.
        notes: Counts what was changed or left out.

    Raises:
        InputError: On a malformed line; file and line are named.
    """
    rows: list[list[Tagged]] = []
    index: list[int] = []
    files: list[tuple[Path, int]] = []
    place = 0
    for path in paths:
        start = place
        for sentence in sentences_of(path):
            tokens = _stripped(fused(sentence, language, notes), notes)
            if has_text(tokens):
                rows.append([(without_blanks(form, notes), tag) for form, tag in tokens])
                index.append(place)
            else:
                notes["sentences without text left out"] += 1
            place += 1
        files.append((path, place - start))
    words = pa.list_(pa.string())
    table = pa.table(
        {
            "tokens": pa.array([[form for form, _ in row] for row in rows], words),
            "tags": pa.array([[tag for _, tag in row] for row in rows], words),
        }
    )
    return Source(table, tuple(files), np.array(index, np.int64), unit="sentence")
