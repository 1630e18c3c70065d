"""Questions and the sentences that answer them: LAReQA's test sets, SQuAD as training pairs.

A candidate is a sentence with its paragraph. LAReQA's files say where sentences begin and end;
elsewhere a rule finds them. The rules of what is a candidate and what is gold are XTREME-R's
(`utils_lareqa.py`, `processors/lareqa.py`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from xstilts.data.readers import Source, read_text
from xstilts.data.spans import paired, place_answer
from xstilts.errors import InputError
from xstilts.validation import parse

Span = tuple[int, int]
#: Why XTREME-R skips a question.
NO_SENTENCE = "answer start in no sentence"


@dataclass(frozen=True)
class Question:
    """A question and the place of its first answer in its paragraph.

    Attributes:
        id: Its id: one for all translations of a question.
        text: The question.
        start: First character of the answer.
    """

    id: str
    text: str
    start: int


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, its sentences and the questions about it.

    Attributes:
        number: Its number in the source, from 1.
        text: The paragraph.
        sentences: First character of each sentence, and the one after its last.
        questions: The questions.
    """

    number: int
    text: str
    sentences: list[Span]
    questions: list[Question] = field(default_factory=list)

    def answer(self, question: Question) -> str | None:
        """The sentence in which the answer begins; None if it begins between sentences."""
        span = _holding(self.sentences, question.start)
        return None if span is None else self.text[slice(*span)]


def _holding(sentences: Iterable[Span], place: int) -> Span | None:
    return next((span for span in sentences if span[0] <= place < span[1]), None)


# ---- LAReQA's files


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Answer(_Part):
    text: str
    answer_start: int


class _Asked(_Part):
    id: str
    question: str
    answers: tuple[_Answer, ...]


class _Context(_Part):
    context: str
    sentence_breaks: tuple[Span, ...]
    qas: tuple[_Asked, ...]


class _Article(_Part):
    paragraphs: tuple[_Context, ...]


class _File(_Part):
    data: tuple[_Article, ...]


def read_lareqa(paths: Sequence[Path], notes: Counter[str]) -> list[Paragraph]:
    """Read files of SQuAD's layout with `sentence_breaks` in every paragraph.

    Args:
        paths: The files.
        notes: Counts answers whose start was repaired.

    Raises:
        InputError: If one has another layout, a sentence lies outside its paragraph, or an answer
            is not in it.
    """
    contexts = [(path, context) for path in paths for context in _contexts(path)]
    return [
        _paragraph(number, context, f"{path}: paragraph {number}", notes)
        for number, (path, context) in enumerate(contexts, start=1)
    ]


def _contexts(path: Path) -> list[_Context]:
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(str(path), f"is no whole JSON file ({error})") from error
    articles = parse(_File, content, str(path)).data
    return [context for article in articles for context in article.paragraphs]


def _paragraph(number: int, context: _Context, where: str, notes: Counter[str]) -> Paragraph:
    text = context.context
    for start, end in context.sentence_breaks:
        if not 0 <= start <= end <= len(text):
            raise InputError(
                f"{where}: sentence_breaks",
                "a sentence lies outside the paragraph",
                expected=f"0 <= start <= end <= {len(text)}",
                found=f"[{start}, {end}]",
            )
    questions = []
    for asked in context.qas:
        answers = [(answer.text, answer.answer_start) for answer in asked.answers]
        if answers and _holding(context.sentence_breaks, answers[0][1]) is None:
            # Skipped as in XTREME-R, where no start is repaired.
            questions.append(Question(asked.id, asked.question.strip(), answers[0][1]))
            continue
        place = f"{where}: question {asked.id!r}"
        questions.append(_question(asked.id, asked.question, text, answers, notes, place))
    return Paragraph(number, text, list(context.sentence_breaks), questions)


def _question(
    id_: str,
    asked: str,
    text: str,
    answers: list[tuple[str, int]],
    notes: Counter[str],
    where: str,
) -> Question:
    """A question with its first answer, the only one that XTREME-R looks at."""
    if not answers:
        raise InputError(where, "the question has no answer", expected="at least one")
    answer = place_answer(text, *answers[0], notes, where)
    return Question(id_, asked.strip(), int(answer["start"]))


# ---- SQuAD's columns

#: What :func:`squad_paragraphs` reads.
SQUAD_COLUMNS = ("id", "context", "question", "answers")


def squad_paragraphs(source: Source, notes: Counter[str]) -> list[Paragraph]:
    """Group rows of SQuAD's columns (id, context, question, answers) by their paragraph.

    Sentences are found by :func:`sentence_spans`.

    Raises:
        InputError: If an answer is missing or not in its paragraph.
    """
    found: dict[str, Paragraph] = {}
    for row, line in enumerate(_rows(source)):
        text, where = line["context"], source.where(row)
        if text not in found:
            found[text] = Paragraph(len(found) + 1, text, sentence_spans(text))
        try:
            answers = list(paired(line["answers"]))
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(
                where, "holds no answers", expected="text and answer_start", found=str(error)
            ) from error
        question = _question(line["id"], line["question"], text, answers, notes, where)
        found[text].questions.append(question)
    return list(found.values())


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    for batch in source.table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


#: A full stop with what closes after it, white space, and what may open a sentence.
_END = re.compile(r"""[.?!]['"”’)\]]*(\s+)(?=['"“‘(\[]?[A-Z0-9])""")
#: What ends in a full stop and ends no sentence: initials, titles, months, Latin.
_NO_END = re.compile(
    r"(?:^|[\s(\"“])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|Rev|Fr|St|Sr|Jr|Gen|Col|Lt|Maj|Capt|Cpt|Sgt|Adm|Gov"
    r"|Sen|Rep|Pres|Hon|Mt|Ft|No|Nos|Vol|Art|Sec|Fig|pp?|vs?|cf|ca|c|b|d|r|fl|approx|e\.g|i\.e"
    r"|et al|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)\.$"
)


def sentence_spans(text: str) -> list[Span]:
    """Sentences of an English paragraph by a rule: first character, and the one after the last.

    A sentence ends at a full stop, question or exclamation mark (and closing quotes or brackets)
    before white space and a capital or digit, but not after an initial or a common abbreviation.
    XTREME-R's own rule has a longer list of exceptions, many of them made for SQuAD.
    """
    spans, begin = [], len(text) - len(text.lstrip())
    for match in _END.finditer(text):
        before = max(0, begin - 1, match.start() - 12)
        if not _NO_END.search(text, before, match.start() + 1):
            spans.append((begin, match.start(1)))
            begin = match.end()
    end = len(text.rstrip())
    return [*spans, (begin, end)] if begin < end else spans


# ---- tables


def tables_of(
    paragraphs: Iterable[Paragraph],
    split: str,
    language: str,
    dropped: Counter[str],
    where: str,
) -> dict[str, pa.Table]:
    """Tables of a split by file stem: pools and gold of a test split, pairs to be trained on.

    Args:
        paragraphs: The paragraphs.
        split: ``train``, ``dev`` or ``test``.
        language: Their language.
        dropped: Counts the questions that are skipped.
        where: The source, for messages.

    Raises:
        InputError: If a question's id stands there twice.
    """
    if split != "test":
        return {split: pair_table(paragraphs, dropped, where)}
    tables = pool_tables(paragraphs, language, dropped, where)
    return {f"{split}.{side}": table for side, table in tables.items()}


def pool_tables(
    paragraphs: Iterable[Paragraph], language: str, dropped: Counter[str], where: str
) -> dict[str, pa.Table]:
    """Questions, candidates and gold of a test split.

    A candidate's id is `<language>_<paragraph>_<sentence>`. Paragraphs that no question is left of
    have no candidates; every sentence of the paragraph that equals the answer's is gold.

    Returns:
        `source` (id, text), `target` (id, text), `gold` (source_id, target_id).
    """
    questions: dict[str, str] = {}
    candidates: dict[str, str] = {}
    gold: list[tuple[str, str]] = []
    for paragraph in paragraphs:
        answered = list(_answered(paragraph, questions.keys(), dropped, where))
        if not answered:
            continue
        sentences = {
            f"{language}_{paragraph.number}_{number}": paragraph.text[slice(*span)]
            for number, span in enumerate(paragraph.sentences)
        }
        for id_, sentence in sentences.items():
            candidates[id_] = candidate_text(sentence, paragraph.text)
        for question, answer in answered:
            questions[question.id] = question.text
            equal = (id_ for id_, sentence in sentences.items() if sentence == answer)
            gold.extend((question.id, id_) for id_ in equal)
    return {
        "source": _texts(questions),
        "target": _texts(candidates),
        "gold": pa.table(
            {
                "source_id": pa.array([pair[0] for pair in gold], pa.string()),
                "target_id": pa.array([pair[1] for pair in gold], pa.string()),
            }
        ),
    }


def candidate_text(sentence: str, paragraph: str) -> str:
    """What XTREME-R's evaluation encodes: both without a space between them or a newline."""
    return (sentence + paragraph).replace("\n", "").strip()


def pair_table(paragraphs: Iterable[Paragraph], dropped: Counter[str], where: str) -> pa.Table:
    """Training pairs: id, query, text (the answer's sentence), context (its paragraph).

    Sentence and paragraph stay apart, because XTREME-R's training encodes them as a pair.
    """
    rows: dict[str, tuple[str, str, str]] = {}
    for paragraph in paragraphs:
        for question, answer in _answered(paragraph, rows.keys(), dropped, where):
            rows[question.id] = (question.text, answer, paragraph.text)
    columns = {"id": list(rows)}
    for place, name in enumerate(("query", "text", "context")):
        columns[name] = [row[place] for row in rows.values()]
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def _answered(
    paragraph: Paragraph, seen: Collection[str], dropped: Counter[str], where: str
) -> Iterator[tuple[Question, str]]:
    """The questions of a paragraph whose answer begins in a sentence, and that sentence."""
    ids = [question.id for question in paragraph.questions]
    for place, question in enumerate(paragraph.questions):
        if question.id in seen or question.id in ids[:place]:
            raise InputError(where, "a question's id stands there twice", found=repr(question.id))
        answer = paragraph.answer(question)
        if answer is None:
            dropped[NO_SENTENCE] += 1
        else:
            yield question, answer


def _texts(rows: dict[str, str]) -> pa.Table:
    columns = {"id": list(rows), "text": list(rows.values())}
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
