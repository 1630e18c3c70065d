"""Rendering: rows of prepared data become text, by the Jinja templates of a prompt.

Templates see the canonical columns of their format: `text_a` and `text_b`; `prompt` and `choices`,
where the data set has them `premise` and `question`, and in `choice` the one `choice`; `context`
and `question`, and in `answer` the first right `answer`, or `words.none` where there is none;
`tokens`, and in `answer` the names of their `tags`. `words` are the prompt's own, of one language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from xstilts.errors import InputError, nearest

if TYPE_CHECKING:
    from xstilts.registry.rows import DatasetRow, PromptRow

Row = Mapping[str, Any]

#: What every template of a format sees beside `words`.
_SEEN: Mapping[str, frozenset[str]] = {
    "sequence_classification": frozenset({"text_a", "text_b"}),
    "multiple_choice": frozenset({"prompt", "choices", "premise", "question"}),
    "question_answering": frozenset({"context", "question"}),
    "token_classification": frozenset({"tokens"}),
}
#: Columns that not every data set of a format has.
_OPTIONAL = frozenset({"text_b", "premise", "question"})
#: What only the answer's own template sees; a choice of a label is told apart by its template.
_ASKED: Mapping[str, frozenset[str]] = {
    "sequence_classification": frozenset(),
    "multiple_choice": frozenset({"choice"}),
    "question_answering": frozenset({"answer"}),
    "token_classification": frozenset({"tags"}),
}
#: Formats in which a decoder chooses; in the others it writes.
CHOOSING = ("sequence_classification", "multiple_choice")
_LEAKS = frozenset({"label", "answer", "answers", "tags", "choice"})

# ---------------------------------------------------------------- filters

_APART = ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"'))


def opened(text: str, marks: str | None = None) -> str:
    """A text without its last punctuation mark, so that it can go on.

    Args:
        text: The text; white space around it is taken off.
        marks: The marks that are taken off; all of Unicode's by default.
    """
    text = text.strip()
    last = text[-1:]
    closed = last in marks if marks is not None else unicodedata.category(last or " ")[0] == "P"
    return text[:-1] if last and closed else text


def lowered(text: str) -> str:
    """A text whose first letter is a small one."""
    return text[:1].lower() + text[1:]


def detokenized(text: str) -> str:
    """A text whose marks stand apart, as in PAWS-X, with the marks at their words.

    The rules are those of lm-evaluation-harness 0.4.13 (`general_detokenize` of its task paws-x).
    """
    for apart, joined in _APART:
        text = text.replace(apart, joined)
    return re.sub(" (['.,])", r"\1", text).strip()


@cache
def environment() -> SandboxedEnvironment:
    """The templates' environment; a name that is not there is an error."""
    made = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters |= {"open": opened, "lowered": lowered, "detokenized": detokenized}
    return made


# ---------------------------------------------------------------- checks of a row


def check_prompt(prompt: PromptRow, datasets: Sequence[DatasetRow], where: str) -> None:
    """Check that a prompt can render its data sets and does not tell what it asks.

    Args:
        prompt: The registry's row.
        datasets: Rows of the data sets that it names, all of one format.
        where: The place, for messages.

    Raises:
        InputError: On the first fault.
    """
    name = datasets[0].format
    if name not in _SEEN:
        raise InputError(f"{where}: datasets", f"no prompt can render a {name} data set")
    chooses = name in CHOOSING
    if chooses != (prompt.choice is not None):
        key, other = ("choice", "answer") if chooses else ("answer", "choice")
        raise InputError(where, f"a {name} data set has no {other}", expected=f"the key {key}")
    _check_choice(prompt, datasets, where)
    _check_words(prompt.words, where)
    missing = {column for row in datasets for column in _OPTIONAL - row.fields.keys()}
    seen = _SEEN[name] - (missing - ({"question"} if name == "question_answering" else set()))
    for key, template in _templates(prompt):
        own = _ASKED[name] if key.startswith(("choice", "answer")) else frozenset()
        _check_template(template, seen | own, prompt.words, f"{where}: {key}")


def _templates(prompt: PromptRow) -> list[tuple[str, str]]:
    found = [("context", prompt.context), ("free", prompt.free)]
    if isinstance(prompt.choice, dict):
        found += [(f"choice.{label}", text) for label, text in prompt.choice.items()]
    elif prompt.choice is not None:
        found.append(("choice", prompt.choice))
    return found if prompt.answer is None else [*found, ("answer", prompt.answer)]


def _check_choice(prompt: PromptRow, datasets: Sequence[DatasetRow], where: str) -> None:
    place, name = f"{where}: choice", datasets[0].format
    if name == "multiple_choice" and not isinstance(prompt.choice, str):
        raise InputError(place, "the choices are the data set's own", expected="one template")
    if name != "sequence_classification":
        return
    if not isinstance(prompt.choice, dict):
        raise InputError(place, "every label needs its own", expected="a template by label")
    for row in datasets:
        if row.labels and set(row.labels) != set(prompt.choice):
            raise InputError(
                place,
                f"has not the labels of the data set {row.name!r}",
                expected=", ".join(row.labels),
                found=", ".join(prompt.choice),
            )


def _check_words(words: Mapping[str, Mapping[str, str]], where: str) -> None:
    keys = [set(own) for own in words.values()]
    for language, own in words.items():
        if own.keys() != keys[0]:
            raise InputError(
                f"{where}: words.{language}",
                "the languages have different words",
                expected=", ".join(sorted(keys[0])),
                found=", ".join(own),
            )


def _check_template(
    template: str, known: frozenset[str], words: Mapping[str, Mapping[str, str]], where: str
) -> None:
    try:
        tree = environment().parse(template)
        named = meta.find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        raise InputError(where, f"is no Jinja template: {error.message}") from None
    for name in sorted(named - known - {"words"}):
        if name in _LEAKS:
            raise InputError(where, f"leaks the answer: it names {name!r}")
        raise InputError(where, f"unknown variable {name!r}", hint=nearest(name, {*known, "words"}))
    there = set(next(iter(words.values()), {}))
    for word in sorted(_words_of(tree) - there):
        raise InputError(where, f"the word {word!r} is in no language", hint=nearest(word, there))


def _words_of(tree: nodes.Template) -> set[str]:
    """Words that a template names; what it looks up by a column's value only the data can say."""
    whole = nodes.Name("words", "load")
    attributes = {n.attr for n in tree.find_all(nodes.Getattr) if n.node == whole}
    items = [n.arg for n in tree.find_all(nodes.Getitem) if n.node == whole]
    return attributes | {str(arg.value) for arg in items if isinstance(arg, nodes.Const)}


# ---------------------------------------------------------------- rendering


class Renderer:
    """The templates of one prompt, for one data set in one language.

    Args:
        format_name: The data set's format.
        prompt: `context`, `delimiter`, `choice` or `answer`, `free`, and `words` of one language.
        labels: The data set's labels in the order of their ids.
        where: The place, for messages.

    Attributes:
        delimiter: What stands between the context and an answer.
        chooses: Whether a decoder chooses; else it writes.
    """

    def __init__(
        self, format_name: str, prompt: Mapping[str, Any], labels: Sequence[str], where: str
    ) -> None:
        self.delimiter: str = prompt["delimiter"]
        self.chooses = format_name in CHOOSING
        self._format, self._labels, self._where = format_name, tuple(labels), where
        self._words: Mapping[str, str] = prompt["words"]
        self._context, self._free = self._made(prompt["context"]), self._made(prompt["free"])
        self._answers = self._answer_templates(prompt)

    def context(self, row: Row) -> str:
        """What stands before the answer."""
        return self._filled(self._context, row)

    def free(self, row: Row) -> str:
        """The context without the question."""
        return self._filled(self._free, row)

    def choices(self, row: Row) -> list[str]:
        """All choices as they are written, in the order of the labels."""
        if self._format == "multiple_choice":
            template = self._answers[0]
            return [self._filled(template, row, choice=choice) for choice in row["choices"]]
        return [self._filled(template, row) for template in self._answers]

    def answer(self, row: Row) -> str:
        """The right answer, or the right choice, as it is written."""
        if self._format == "multiple_choice":
            return self._filled(self._answers[0], row, choice=row["choices"][row["label"]])
        if self._format == "sequence_classification":
            return self._filled(self._answers[row["label"]], row)
        if self._format == "token_classification":
            return self._filled(self._answers[0], row, tags=[self._labels[t] for t in row["tags"]])
        return self._filled(self._answers[0], row, answer=self._first_answer(row))

    def _first_answer(self, row: Row) -> str:
        if row["answers"]:
            return str(row["answers"][0]["text"])
        if "none" not in self._words:
            hint = "Give the prompt a word `none`, which stands for it"
            raise InputError(self._place(row), "the question has no answer", hint=hint)
        return self._words["none"]

    def _answer_templates(self, prompt: Mapping[str, Any]) -> list[Template]:
        if self._format != "sequence_classification":
            return [self._made(prompt["choice"] if self.chooses else prompt["answer"])]
        if missing := [label for label in self._labels if label not in prompt["choice"]]:
            found = ", ".join(prompt["choice"])
            raise InputError(self._where, f"no choice for label {missing[0]!r}", found=found)
        return [self._made(prompt["choice"][label]) for label in self._labels]

    def _made(self, template: str) -> Template:
        return environment().from_string(template)

    def _filled(self, template: Template, row: Row, **asked: Any) -> str:
        # A column that a data set does not have is null in every row: it must not become "None".
        seen = {name: row[name] for name in _SEEN[self._format] if row.get(name) is not None}
        try:
            return template.render(seen | asked, words=self._words)
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            problem = f"a template cannot be rendered: {error}"
            hint = "Correct the prompt's row in the registry"
            raise InputError(self._place(row), problem, hint=hint) from error

    def _place(self, row: Row) -> str:
        return f"{self._where}: row {row['id']}"


def shared_beginning(texts: Iterable[str]) -> str:
    """With what all texts begin, up to and with white space: whole words."""
    found = list(texts)
    first, last = min(found), max(found)
    size = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    while size and not first[size - 1].isspace():
        size -= 1
    return first[:size]
