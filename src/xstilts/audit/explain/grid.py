"""The cells of a study, as the spec of its tables lists them, and means over their scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from xstilts.analysis.tables import ALL
from xstilts.artifacts.manifest import check_file
from xstilts.audit.results import Artifact, Results
from xstilts.errors import InputError
from xstilts.evaluation.metrics.table import metric_named
from xstilts.evaluation.score import SCORES


@dataclass(frozen=True)
class Term:
    """A number and the numbers that it is made from.

    Attributes:
        name: What it is the number of: a seed, a language, a target.
        value: In percent.
        over: What it is a mean over (`languages`, `seeds`, `targets`); empty for a score itself.
        terms: Those.
        scores: The artifact that holds the scores right below it, or the score itself.
    """

    name: str
    value: float
    over: str = ""
    terms: tuple[Term, ...] = ()
    scores: str = ""

    def content(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"name": self.name, "value": self.value}
        if self.scores:
            found["scores"] = self.scores
        if self.terms:
            found |= {"mean_over": self.over, "of": [term.content() for term in self.terms]}
        return found

    def says(self) -> str:
        """What it is, in words, down to scores."""
        if not self.terms:
            return "the score"
        counts = {len(term.terms) for term in self.terms}
        below = self.terms[0].says() if self.terms[0].terms else ""
        if len(counts) > 1:  # not all of them over as many
            below = f"the mean over {self.terms[0].over}"
        own = f"mean over {len(self.terms)} {_noun(self.over, len(self.terms))}"
        return f"{own} of {below}" if below.startswith("the ") else own + _of(below)


def _of(below: str) -> str:
    return f" of the {below}" if below else ""


def _noun(plural: str, count: int) -> str:
    return plural.removesuffix("s") if count == 1 else plural


def mean(name: str, over: str, terms: Sequence[Term], scores: str = "") -> Term:
    """The mean of numbers."""
    return Term(name, fmean(term.value for term in terms), over, tuple(terms), scores)


@dataclass(frozen=True)
class Cell:
    """A cell of the grid.

    Attributes:
        scores: The folder of its scores.
    """

    model: str
    recipe: str
    seed: int
    target: str
    scores: str


class Grid:
    """The cells that tables were made from.

    Args:
        results: The results folder.
        artifact: The tables, the analysis or the report.

    Raises:
        InputError: If its spec lists no cells.
    """

    def __init__(self, results: Results, artifact: Artifact) -> None:
        self.results = results
        spec = artifact.spec
        try:
            self.source: str = spec["source_language"]
            self.targets: dict[str, Mapping[str, Any]] = {
                row["name"]: row for row in spec["targets"]
            }
            self.languages: list[str] = [row["code"] for row in spec["languages"]]
            self.recipes = list(spec["recipes"])
            cells = [
                Cell(**{key: row[key] for key in Cell.__annotations__}) for row in spec["cells"]
            ]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{artifact.out}/manifest.json",
                f"its spec does not list the cells of a study ({error})",
                hint="Explain a table of tables/ or analysis/, or an artifact",
            ) from error
        self.cells = sorted(cells, key=lambda cell: cell.seed)
        self.rows = cache(self._rows)

    def of(self, **wanted: Any) -> list[Cell]:
        """Cells with some of these models, recipes, seeds and targets, by seed."""
        return [
            cell
            for cell in self.cells
            if all(getattr(cell, key) in values for key, values in wanted.items())
        ]

    def _rows(self, scores: str) -> list[dict[str, Any]]:
        content = self.content(scores)
        return list(content["rows"])

    def content(self, scores: str) -> dict[str, Any]:
        """The content of `scores.json`, with the bytes of its manifest.

        Raises:
            InputError: If that is not there, or has other bytes.
        """
        path = check_file(self.results.path / scores, SCORES)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def overall(self, target: str) -> str:
        """The value of a target's metric that means are made of."""
        return metric_named(self.targets[target]["metric"]).overall

    def main(self, target: str) -> str:
        """The value of a target's metric that is reported for a language."""
        row = self.targets[target]
        found: str = row.get("main_metric", metric_named(row["metric"]).main)
        return found

    def values(self, cell: Cell, metric: str) -> dict[str, float]:
        """One of the metric's values in a cell, by language.

        Raises:
            InputError: If the scores cannot be used.
        """
        rows = self.rows(cell.scores)
        return {row["language"]: row["value"] for row in rows if row["metric"] == metric}

    def languages_of(self, target: str, kind: str) -> list[str]:
        """Languages of a target; `kind` other than `all` leaves the source language out."""
        codes = self.targets[target]["languages"]
        return [code for code in codes if kind == ALL or code != self.source]

    # ---- means

    def over_languages(self, model: str, recipe: str, target: str, kind: str) -> Term | None:
        """A target's mean over seeds of the mean over languages; None without scores."""
        codes, metric = self.languages_of(target, kind), self.overall(target)
        seeds = []
        for cell in self.of(model=[model], recipe=[recipe], target=[target]) if codes else ():
            values = self.values(cell, metric)
            terms = [Term(code, values[code]) for code in codes]
            seeds.append(mean(f"seed {cell.seed}", "languages", terms, cell.scores))
        return mean(target, "seeds", seeds) if seeds else None

    def over_seeds(
        self, model: str, recipe: str, target: str, language: str, metric: str
    ) -> Term | None:
        """A target's mean over seeds in one language; None without scores."""
        found = []
        for cell in self.of(model=[model], recipe=[recipe], target=[target]):
            values = self.values(cell, metric)
            if language in values:
                found.append(Term(f"seed {cell.seed}", values[language], scores=cell.scores))
        return mean(target, "seeds", found) if found else None

    def over_targets(
        self, model: str, recipe: str, names: Iterable[str], kind: str, title: str
    ) -> Term | None:
        """A mean over targets; None where one of them has no scores."""
        found = [self.over_languages(model, recipe, name, kind) for name in names]
        terms = [term for term in found if term]
        return mean(title, "targets", terms) if terms and len(terms) == len(found) else None
