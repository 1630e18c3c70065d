"""What a study chooses for its decoders: which way to ask, and the words of a prompt."""

from __future__ import annotations

from typing import Any

from xstilts.config import Prompting
from xstilts.errors import InputError
from xstilts.registry.rows import DatasetRow, ModelRow, PromptRow, TargetRow

#: Formats that a decoder answers by the likelihood of its choices.
CHOSEN = ("sequence_classification", "multiple_choice")
#: Formats that it answers in writing.
WRITTEN = ("question_answering",)
#: Formats that compare hidden states.
COMPARED = ("sentence_retrieval", "answer_retrieval")


def is_prompted(
    model: ModelRow, target: TargetRow, row: DatasetRow, prompting: Prompting, where: str
) -> bool:
    """Whether a model is asked a target's questions in words, and not by a head or by its vectors.

    Raises:
        InputError: If there is no such way for the target's format.
    """
    if model.kind == "encoder" or prompting.tuning == "head" or row.format in COMPARED:
        return False
    if row.format not in (*CHOSEN, *WRITTEN):
        raise InputError(
            f"{where}: targets.{target.name}",
            f"decoders such as {model.name!r} are not asked for {row.format} in words",
            expected=f"a target of {', '.join((*CHOSEN, *WRITTEN, *COMPARED))}",
            found=row.format,
            hint="Leave the target out, or set prompting.tuning: head",
        )
    return True


def decoding(row: DatasetRow, prompting: Prompting) -> dict[str, Any]:
    """How the answers to a data set's prompts are read off."""
    if row.format in CHOSEN:
        return {"kind": "choice", "main": prompting.main}
    return {"kind": "answer", "max_new_tokens": prompting.max_new_tokens}


def prompt_entry(row: PromptRow, language: str, where: str) -> dict[str, Any]:
    """A prompt as the spec of its stage holds it: its templates, and its words of a language.

    Raises:
        InputError: If it needs words and has none of that language.
    """
    entry = row.model_dump(mode="json", exclude={"title", "source", "datasets", "words"})
    if row.words and language not in row.words:
        raise InputError(
            f"{where}.words",
            f"prompt {row.name!r} has no words in {language!r}",
            expected=f"one of {', '.join(row.words)}",
            found=language,
            hint="Set prompting.words: source, or give it the words in a registry file of your own",
        )
    return entry | {"words": dict(row.words.get(language, {}))}
