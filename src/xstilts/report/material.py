"""What a report is made of: the spec, the tables and the answers, read and checked."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from xstilts.analysis.answer import ANSWER, Answer, read_answer
from xstilts.analysis.numbers import counted
from xstilts.analysis.study import BASELINE, Row, is_tuned
from xstilts.analysis.tables import ALL, AVERAGE, GROUP, ZERO_SHOT
from xstilts.artifacts.manifest import check_file, read_manifest

#: Fewer test examples than these are named on the overview.
FEW = 100


class Material:
    """A study as its report sees it.

    Attributes:
        spec: The report's spec.
        study: The study's name.
        source: The language of the training data.
        models: Rows by name: title, kind, parameters, layers.
        recipes: Rows by name: tasks, mlm, translate.
        targets: Rows by name.
        languages: Rows by code: name, script, family.
        seeds: Seeds of the study.
        cells: Model, recipe, seed and target of each scores artifact.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.study: str = spec["study"]
        self.source: str = spec["source_language"]
        self.models = _rows(spec["models"])
        self.recipes = _rows(spec["recipes"])
        self.targets: dict[str, Row] = {row["name"]: row for row in spec["targets"]}
        self.languages: dict[str, Row] = {row["code"]: row for row in spec["languages"]}
        self.seeds: list[int] = list(spec["seeds"])
        self.cells: list[Row] = list(spec["cells"])
        self.tables = Path(one(spec["inputs"]["tables"]))
        self.analysis = Path(one(spec["inputs"]["analysis"]))
        self.table = cache(self._table)

    def _table(self, name: str) -> list[dict[str, str]]:
        """Rows of a file of the tables; none if the study has no such table."""
        if name not in self.table_files:
            return []
        path = check_file(self.tables, name)
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @cached_property
    def table_files(self) -> list[str]:
        """Files of the tables."""
        return sorted(read_manifest(self.tables).files)

    @cached_property
    def answers(self) -> list[Answer]:
        """Answers, in the order of the questions."""
        return [
            read_answer(check_file(self.analysis, f"{name}/{ANSWER}"))
            for name in self.spec["questions"]
        ]

    # ---- names

    def model_title(self, name: str) -> str:
        """A model's title."""
        return str(self.models[name].get("title") or name)

    def target_title(self, name: str) -> str:
        """Title of a target, of a group's mean or of the average."""
        return str(self.targets[name]["title"]) if name in self.targets else name.capitalize()

    def language_name(self, code: str) -> str:
        """A language's English name."""
        return str(self.languages.get(code, {}).get("name") or code)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every model with every recipe."""
        return ((model, recipe) for model in self.models for recipe in self.recipes)

    def lineage(self, model: str, recipe: str, target: str = "", seed: object = "") -> str:
        """Where the artifacts behind a number are listed, from the root of the report."""
        if model not in self.models or recipe not in self.recipes:
            return ""
        page = f"lineage/cells/{model}/{recipe}.html"
        if target not in self.targets or not self.seeds_of(model, recipe, target):
            return page
        known = seed in self.seeds_of(model, recipe, target)
        return f"{page}#{target}-seed-{seed}" if known else f"{page}#{target}"

    @cached_property
    def _seeds(self) -> dict[tuple[str, str, str], list[int]]:
        found: dict[tuple[str, str, str], list[int]] = {}
        for cell in self.cells:
            key = (cell["model"], cell["recipe"], cell["target"])
            found.setdefault(key, []).append(cell["seed"])
        return {key: sorted(seeds) for key, seeds in found.items()}

    def seeds_of(self, model: str, recipe: str, target: str) -> list[int]:
        """Seeds of which there are scores."""
        return self._seeds.get((model, recipe, target), [])

    # ---- numbers

    @cached_property
    def overview(self) -> dict[tuple[str, str, str, str], Row]:
        """Rows of the overview by model, kind of languages, recipe and target."""
        return {
            (row["model"], row["languages"], row["recipe"], row["target"]): numeric(row)
            for row in self.table("overview.csv")
        }

    @cached_property
    def means(self) -> list[str]:
        """Columns of the overview behind the targets: means of groups, then of all."""
        names = dict.fromkeys(target for *_, target in self.overview)
        return [name for name in names if name.endswith(GROUP) or name == AVERAGE]

    @cached_property
    def by_language(self) -> dict[tuple[str, str, str, str], Row]:
        """Rows by target, model, recipe and language."""
        return {
            (target, row["model"], row["recipe"], row["language"]): numeric(row)
            for target in self.targets
            for row in self.table(f"by_language/{target}.csv")
        }

    @cached_property
    def trainings(self) -> dict[str, Row]:
        """Rows by the folder of the checkpoint."""
        return {row["checkpoint"]: numeric(row) for row in self.table("trainings.csv")}

    # ---- what is wrong

    def warnings(self) -> list[str]:
        """What a reader has to know before any number."""
        found = [self._collapsed(), self._missing(), self._one_seed(), self._few()]
        return [text for text in found if text]

    def _collapsed(self) -> str:
        names = [name for name, row in self.trainings.items() if row["collapsed"]]
        if not names:
            return ""
        total = len(self.trainings)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{len(names)} of {total} trainings learnt nothing (collapsed): {shown}."

    def _missing(self) -> str:
        lacking = []
        for model, recipe in self.pairs():
            for name, target in self.targets.items():
                # Nothing random happens between a model and a target without training.
                tuned = is_tuned(self.models[model], target.get("train", ()))
                fixed = recipe == BASELINE and not tuned
                wanted = self.seeds[:1] if fixed else self.seeds
                lacking += [
                    f"{model} / {recipe} / {name} / seed {seed}"
                    for seed in wanted
                    if seed not in self.seeds_of(model, recipe, name)
                ]
        if not lacking:
            return ""
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if lacking[3:] else "")
        return f"Scores are missing: {shown}. Averages over targets leave such recipes out."

    def _one_seed(self) -> str:
        if len(self.seeds) > 1:
            return ""
        return (
            "There is one seed. How much a score changes from seed to seed is not known; a "
            "difference between two recipes may be chance."
        )

    def _few(self) -> str:
        small = {
            (target, language): row["n"]
            for (target, _, _, language), row in self.by_language.items()
            if row["n"] is not None and row["n"] < FEW
        }
        if not small:
            return ""
        (target, language), least = min(small.items(), key=lambda item: (item[1], item[0]))
        have = counted(len(small), "test set has", "test sets have")
        return (
            f"{have} fewer than {FEW} examples; the smallest is {self.target_title(target)} in "
            f"{self.language_name(language)} with {least:.0f}. Intervals are wide there."
        )


def numeric(row: Mapping[str, str]) -> Row:
    """A row of a CSV file with its numbers as numbers, and None for what is blank."""
    return {
        key: value if key in _TEXT else float(value) if value else None
        for key, value in row.items()
    }


#: Columns of the tables that hold names and texts.
_TEXT = {
    *("study", "model", "recipe", "target", "language", "languages", "name"),
    *("metric", "split", "checkpoint", "collapsed", "evidence", "chosen"),
}


def one(value: str | Iterable[str]) -> str:
    """The one folder of a role of a spec's inputs."""
    if isinstance(value, str):
        return value
    (only,) = value
    return only


def _rows(names: Any) -> dict[str, Row]:
    return dict(names) if isinstance(names, Mapping) else {name: {} for name in names}


__all__ = ["ALL", "AVERAGE", "BASELINE", "ZERO_SHOT", "Material", "numeric", "one"]
