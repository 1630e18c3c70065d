"""The cells of a study: the scores of each model, recipe, seed and target, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.languages.measures import Values, read_distances, read_measures
from xstilts.artifacts.manifest import check_file
from xstilts.errors import InputError
from xstilts.evaluation.dev import dev_score_of
from xstilts.evaluation.metrics.metric import Metric
from xstilts.evaluation.metrics.table import metric_named
from xstilts.evaluation.score import SCORES, STATISTICS

Row = dict[str, Any]

#: The recipe that changes are measured against.
BASELINE = "none"


@dataclass(frozen=True)
class Cell:
    """The scores of a model, recipe and seed on a target.

    Attributes:
        folder: The scores artifact.
        rows: Its rows, one per language and value.
        layers: The metric's overall value of every hidden state, by language; in retrieval only.
    """

    model: str
    recipe: str
    seed: int
    target: str
    folder: Path
    rows: list[Row]
    layers: dict[str, list[float]]

    def values(self, name: str) -> dict[str, float]:
        """One of the metric's values, by language."""
        return {row["language"]: row["value"] for row in self.rows if row["metric"] == name}

    def statistics(self, language: str) -> Floats:
        """The statistics of a language [examples, columns]."""
        with safe_open(self.folder / STATISTICS, framework="numpy") as file:
            found: Floats = file.get_tensor(language)
        return found


@dataclass(frozen=True)
class Target:
    """A target as the tables need it.

    Attributes:
        group: XTREME's group of targets.
        main: The metric's value reported per language.
        kind: What it asks for (`nli`, `ner`, `reasoning` ...), as the registry says; may be empty.
        choices: Answers that an example has to choose from; None where it is no such choice.
        train: Tasks that the model is fine-tuned on; none for what needs only an encoder.
    """

    name: str
    title: str
    group: str
    metric: Metric
    main: str
    languages: tuple[str, ...]
    kind: str = ""
    choices: int | None = None
    train: tuple[str, ...] = ()

    @property
    def chance(self) -> float | None:
        """Accuracy of a blind guess, in percent; None where the registry does not tell."""
        if self.choices is None or self.metric.name != "accuracy":
            return None
        return 100.0 / self.choices


@dataclass(frozen=True)
class Grid:
    """Scores of a model with a recipe on a target, in percent.

    Attributes:
        seeds: Seeds of the rows.
        languages: Languages of the columns, in the target's order.
        values: [seeds, languages]; all seeds have all languages.
        fixed: Nothing random happens before this score: its one seed stands for all.
    """

    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    values: Floats
    fixed: bool = False

    def of(self, languages: Iterable[str]) -> Grid:
        """The same of some languages, in the order of its own; those it has not are left out."""
        wanted = set(languages)
        places = [i for i, code in enumerate(self.languages) if code in wanted]
        codes = tuple(self.languages[i] for i in places)
        return Grid(self.seeds, codes, self.values[:, places], self.fixed)

    def minus(self, other: Grid) -> Grid:
        """Paired differences over the seeds and languages that both have."""
        codes = tuple(code for code in self.languages if code in other.languages)
        own, its = self.of(codes), other.of(codes)
        columns = [its.languages.index(code) for code in codes]
        if other.fixed and not self.fixed:
            return Grid(own.seeds, codes, own.values - its.values[:1, columns])
        seeds = tuple(seed for seed in self.seeds if seed in other.seeds)
        mine = own.values[[self.seeds.index(seed) for seed in seeds]]
        theirs = its.values[[other.seeds.index(seed) for seed in seeds]]
        return Grid(seeds, codes, mine - theirs[:, columns], self.fixed and other.fixed)


class Study:
    """A study's cells in the order of its models, recipes, targets and seeds."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.name: str = spec["study"]
        self.source: str = spec["source_language"]
        self.models: list[str] = list(spec["models"])
        self.recipes: list[str] = list(spec["recipes"])
        #: By model: title, kind (encoder or decoder), parameters, layers, of decoders tuned.
        self.model_rows: Mapping[str, Row] = _described(spec["models"])
        #: By recipe: tasks, mlm, translate.
        self.recipe_rows: Mapping[str, Row] = _described(spec["recipes"])
        #: Nested sets of tasks: in each order, recipes with one task more from one to the next.
        self.orders: list[list[str]] = spec.get("orders", [])
        self.targets = [_target(entry) for entry in spec["targets"]]
        self.languages: list[Row] = list(spec["languages"])
        #: Folders of artifacts, by role.
        self.inputs: Mapping[str, list[str]] = spec["inputs"]
        #: Rows of published figures of the study's models.
        self.published: list[Row] = spec.get("published", [])
        self.samples: int = spec["bootstrap"]["samples"]
        self.seed: int = spec["bootstrap"]["seed"]
        folders = [Path(name) for name in spec["inputs"].get("distances", ())]
        #: How far languages are from the source: by model, language and measure; None: not known.
        self.distances: Mapping[str, dict[str, Values]] = {
            folder.name: read_distances(folder) for folder in folders
        }
        #: What the measures mean: name, title, meaning, source, far (high or low values).
        self.measures: list[Row] = read_measures(folders[0]) if folders else []
        self.sweeps = [_read_sweep(Path(name)) for name in spec["inputs"]["layers"]]
        self._cells = _read_cells(spec["cells"], {target.name: target for target in self.targets})

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every model with every recipe."""
        return ((model, recipe) for model in self.models for recipe in self.recipes)

    def cells(self, model: str, recipe: str, target: str) -> list[Cell]:
        """The cells of all seeds that there are, by seed."""
        return self._cells.get((model, recipe, target), [])

    def grid(self, model: str, recipe: str, target: str, value: str | None = None) -> Grid | None:
        """Scores by seed and language; None if there are none.

        Args:
            model: The model.
            recipe: The recipe.
            target: The target.
            value: Name of the metric's value; default: the one that XTREME averages, which for
                question answering is the mean of F1 and exact match.
        """
        cells, row = self.cells(model, recipe, target), self.target(target)
        if not cells:
            return None
        by_cell = [cell.values(value or row.metric.overall) for cell in cells]
        values = np.array([[found[code] for code in row.languages] for found in by_cell])
        fixed = recipe == BASELINE and not is_tuned(self.model_rows[model], row.train)
        return Grid(tuple(cell.seed for cell in cells), row.languages, values, fixed)

    def gain(self, model: str, recipe: str, target: str, zero_shot: bool = False) -> Grid | None:
        """A recipe's scores minus those of `none`, paired by seed and language.

        Args:
            model: The model.
            recipe: The recipe.
            target: The target.
            zero_shot: Without the source language.

        Returns:
            None if one of the two has no scores, or they share no seed or language.
        """
        own, before = self.grid(model, recipe, target), self.grid(model, BASELINE, target)
        if own is None or before is None:
            return None
        found = own.minus(before)
        if zero_shot:
            found = found.of(code for code in found.languages if code != self.source)
        return found if found.values.size else None

    def dev(self, model: str, recipe: str, seed: int, target: str) -> float | None:
        """Dev score of a cell in percent; None without the cell, or where it has no dev data.

        Read from the training record of its checkpoint, or from its sweep over dev pairs.

        Raises:
            InputError: If an artifact behind the cell is missing or was changed.
        """
        cells = [cell for cell in self.cells(model, recipe, target) if cell.seed == seed]
        return dev_score_of(cells[0].folder) if cells else None

    def groups(self) -> dict[str, list[str]]:
        """Names of the targets of each group that has several."""
        found: dict[str, list[str]] = {}
        for target in self.targets:
            found.setdefault(target.group, []).append(target.name)
        return {name: targets for name, targets in found.items() if len(targets) > 1}

    def target(self, name: str) -> Target:
        """A target by its name."""
        return next(target for target in self.targets if target.name == name)

    def all_cells(self) -> Iterator[Cell]:
        """Every cell."""
        for model, recipe in self.pairs():
            for target in self.targets:
                yield from self.cells(model, recipe, target.name)


def is_tuned(model: Mapping[str, Any], train: Sequence[str]) -> bool:
    """Whether a model is fine-tuned for a target; if not, the recipe `none` has nothing random.

    Args:
        model: The model's row; `tuned` says whether it is fine-tuned on targets' own data at all.
            Without it, encoders are and decoders are not: they are asked as they are.
        train: Tasks that the target is fine-tuned on.
    """
    return bool(train) and bool(model.get("tuned", model.get("kind") != "decoder"))


def _read_sweep(folder: Path) -> Row:
    """The choice of a hidden state on dev pairs, with the checkpoint that it was made for."""
    model, recipe, seed = folder.parts[-3:]
    content = json.loads(check_file(folder, "layers.json").read_text(encoding="utf-8"))
    keys = {"model": model, "recipe": recipe, "seed": int(seed.removeprefix("seed-"))}
    return {**keys, **content}


def _target(entry: Mapping[str, Any]) -> Target:
    where = f"target {entry['name']}"
    metric = metric_named(entry["metric"], f"{where}: metric")
    main = entry.get("main_metric", metric.main)
    languages = tuple(entry["languages"])
    return Target(
        name=entry["name"],
        title=entry["title"],
        group=entry["group"],
        metric=metric,
        main=main,
        languages=languages,
        kind=entry.get("kind") or "",
        choices=entry.get("choices"),
        train=tuple(entry.get("train", ())),
    )


def _described(names: Iterable[str]) -> Mapping[str, Row]:
    """What a spec says of each name; nothing where it is a list."""
    return names if isinstance(names, Mapping) else {name: {} for name in names}


def _read_cells(
    entries: Iterable[Mapping[str, Any]], targets: Mapping[str, Target]
) -> dict[tuple[str, str, str], list[Cell]]:
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for entry in sorted(entries, key=lambda entry: int(entry["seed"])):
        cell = _read_cell(entry, targets[entry["target"]])
        found.setdefault((cell.model, cell.recipe, cell.target), []).append(cell)
    return found


def _read_cell(entry: Mapping[str, Any], target: Target) -> Cell:
    folder = Path(entry["scores"])
    path = check_file(folder, SCORES)
    check_file(folder, STATISTICS)
    content = json.loads(path.read_text(encoding="utf-8"))
    rows: list[Row] = content["rows"]
    languages = {row["language"] for row in rows}
    wanted = (target.name, target.metric.name, sorted(target.languages))
    found = (content["target"], content["metric"], sorted(languages))
    if found != wanted:
        raise InputError(
            str(path),
            "holds other scores than the study asks for",
            expected=f"target, metric and languages {wanted}",
            found=str(found),
            hint="Run snakemake again",
        )
    return Cell(
        model=entry["model"],
        recipe=entry["recipe"],
        seed=entry["seed"],
        target=target.name,
        folder=folder,
        rows=rows,
        layers=content["layers"],
    )
