"""The analyse stage: what a study answers to each question, as text, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from xstilts.analysis.answer import Answer, write_answer
from xstilts.analysis.study import Study
from xstilts.artifacts.publish import publishing
from xstilts.progress import Progress


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Answer the questions of a study.

    Writes, per question, `<question>/answer.json` (paragraphs, tables, captions), a CSV per table
    and an SVG per figure; the first figure has the question's name.

    Raises:
        InputError: If the scores of a cell are not those of its target, or cannot be compared.
    """
    questions: list[str] = spec["questions"]
    progress = Progress("analyse", out.as_posix(), len(questions))
    with publishing(out, spec) as draft:
        study = Study(spec)
        for number, question in enumerate(questions, start=1):
            module = import_module(f"xstilts.analysis.questions.{question}.answer")
            found: Answer = module.answer(study)
            write_answer(found, draft.folder / question)
            progress.step(number, question)
    progress.done(f"{len(questions)} questions")
