"""Planted studies with test examples behind their scores, for tests of what is resampled."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from safetensors.numpy import save_file

from planted import Key, planted_study
from xstilts.analysis.answer import Answer
from xstilts.analysis.study import Row, Study
from xstilts.evaluation.score import STATISTICS


def study_of_examples(
    scores: Mapping[Key, ArrayLike], n: int | Mapping[str, int] = 100, **more: Any
) -> Study:
    """A study of accuracies; below the working directory, the statistics of their examples.

    Each score is rounded to what so many examples can give. The right ones are drawn at random.

    Args:
        scores: By model, recipe and target: percent [seeds, languages].
        n: Test examples, of each language or by language (100 where it is not named).
        more: As of `planted_study`.
    """
    study = planted_study(scores, **more)
    generator = np.random.default_rng(0)
    for cell in study.all_cells():
        tables = {}
        for row in cell.rows:
            examples = n if isinstance(n, int) else n.get(row["language"], 100)
            right = round(row["value"] / 100 * examples)
            correct = generator.permutation(np.arange(examples) < right).astype(float)
            tables[row["language"]] = np.stack([correct, np.ones(examples)], axis=1)
            row["value"], row["n"] = 100.0 * right / examples, examples
        cell.folder.mkdir(parents=True)
        save_file(tables, cell.folder / STATISTICS)
    return study


def rows(found: Answer, name: str) -> list[Row]:
    """Rows of a table of an answer; none if there is no such table."""
    return next((list(table.rows) for table in found.tables if table.name == name), [])


def row(found: Answer, name: str, **keys: Any) -> Row:
    """The one row of a table with these values."""
    own = [r for r in rows(found, name) if all(r[key] == value for key, value in keys.items())]
    assert len(own) == 1, keys
    return own[0]
