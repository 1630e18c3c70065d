"""What a row of a table is made from: cells of the study's grid, and how its numbers follow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from statistics import fmean, stdev
from typing import Any

from xstilts.analysis import trainings
from xstilts.analysis.study import BASELINE
from xstilts.analysis.tables import AVERAGE, GROUP
from xstilts.audit.explain.grid import Cell, Grid, Term
from xstilts.errors import InputError

Row = Mapping[str, str]

#: Columns that tell of a comparison with `none`.
_AGAINST_NONE = re.compile(r"change|gain|effect|_value$|adjusted")
_OF_ROW = "of the row"
_OF_NONE = f"of the recipe `{BASELINE}`, which changes are against"


@dataclass(frozen=True)
class Number:
    """A number of a row and how it follows.

    Attributes:
        column: Its column.
        cell: What stands in the table.
        says: How it follows, in words.
        gives: What that gives; None where it is not followed here.
        terms: What it is made from.
    """

    column: str
    cell: str
    says: str
    gives: float | None = None
    terms: tuple[Term, ...] = ()

    @property
    def agrees(self) -> bool | None:
        """Whether it gives the number in the cell; None where it is not followed here."""
        if self.gives is None:
            return None
        try:
            return math.isclose(float(self.cell), self.gives, rel_tol=1e-9, abs_tol=1e-9)
        except ValueError:
            return False

    def content(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.column,
            "cell": self.cell,
            "says": self.says,
            "gives": self.gives,
            "agrees": self.agrees,
            "terms": [term.content() for term in self.terms],
        }


@dataclass
class Story:
    """What a row is made from.

    Attributes:
        cells: Cells of the grid, each with what it is to the row.
        numbers: Its numbers.
        starts: Artifacts other than scores that it is made from.
        notes: What a reader has to know.
        languages: Languages that the row is of; None for all.
    """

    cells: list[tuple[Cell, str]] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    languages: list[str] | None = None

    def add(self, cells: Sequence[Cell], why: str) -> None:
        """Add cells that are not there yet."""
        known = {cell for cell, _ in self.cells}
        self.cells += [(cell, why) for cell in cells if cell not in known]


def story_of(grid: Grid, name: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    """What a row of a table is made from.

    Args:
        grid: The study's cells.
        name: The table: `tables/overview.csv`, `analysis/<question>/<table>.csv`.
        row: The row.
        inputs: Folders that the tables or the analysis read, by role.

    Raises:
        InputError: If scores that a number is made from cannot be used.
    """
    path = PurePosixPath(name)
    teller = _TABLES.get(path.name if path.parent.name != "by_language" else "by_language")
    if path.parts[0] != "tables" or teller is None:
        return matching(grid, row, inputs)
    try:
        return teller(grid, path.stem, row, inputs)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"{name}: {dict(row)}",
            f"is no row of this table ({error})",
            expected="names and numbers of the study",
            hint="See `xstilts audit verify`: the table may have been changed",
        ) from error


# ---- tables/


def _overview(grid: Grid, _: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    names = _targets_of(grid, row["target"], row["languages"])
    story = Story(languages=_codes(grid, names, row["languages"]))
    own = _overview_term(grid, row["recipe"], names, row)
    _take(grid, story, row["model"], row["recipe"], names, _OF_ROW)
    if own is not None:
        story.numbers += [_mean(row, own), _spread(grid, row, names, own)]
        seeds = min(len(target.terms) for target in (own.terms if _is_mean(grid, row) else (own,)))
        said = (
            "seeds that each of these targets has at least"
            if _is_mean(grid, row)
            else "seeds with scores"
        )
        story.numbers.append(Number("seeds", row["seeds"], said, seeds))
    if row["recipe"] != BASELINE and row["change"]:
        _take(grid, story, row["model"], BASELINE, names, _OF_NONE)
        before = _overview_term(grid, BASELINE, names, row)
        story.numbers += _change(row, own, before)
    return story


def _is_mean(grid: Grid, row: Row) -> bool:
    return row["target"] not in grid.targets


def _targets_of(grid: Grid, name: str, kind: str) -> list[str]:
    """Targets behind a target, a group or the average."""
    if name in grid.targets:
        return [name]
    with_languages = [target for target in grid.targets if grid.languages_of(target, kind)]
    if name == AVERAGE:
        return with_languages
    group = name.removesuffix(GROUP)
    found = [target for target, row in grid.targets.items() if row["group"] == group]
    if not name.endswith(GROUP) or not found:
        raise KeyError(name)
    return found


def _codes(grid: Grid, names: Sequence[str], kind: str) -> list[str]:
    codes = (code for name in names for code in grid.languages_of(name, kind))
    return list(dict.fromkeys(codes))


def _overview_term(grid: Grid, recipe: str, names: Sequence[str], row: Row) -> Term | None:
    kind = row["languages"]
    if _is_mean(grid, row):
        return grid.over_targets(row["model"], recipe, names, kind, row["target"])
    return grid.over_languages(row["model"], recipe, row["target"], kind)


def _take(
    grid: Grid, story: Story, model: str, recipe: str, names: Sequence[str], why: str
) -> None:
    story.add(grid.of(model=[model], recipe=[recipe], target=names), why)


def _mean(row: Row, term: Term) -> Number:
    return Number("mean", row["mean"], term.says(), term.value, (term,))


def _spread(grid: Grid, row: Row, names: Sequence[str], term: Term) -> Number:
    """The standard deviation over seeds; of a mean over targets, over the seeds that all have."""
    if _is_mean(grid, row):
        by_seed = [{seed.name: seed.value for seed in target.terms} for target in term.terms]
        common = sorted(set.intersection(*(set(seeds) for seeds in by_seed)))
        values = [fmean(seeds[seed] for seeds in by_seed) for seed in common]
    else:
        values = [seed.value for seed in term.terms]
    return _deviation(row, values)


def _deviation(row: Row, values: Sequence[float]) -> Number:
    if len(values) < 2:
        return Number("sd", row["sd"], "blank: there are no two seeds")
    listed = ", ".join(f"{value:.4f}" for value in values)
    return Number("sd", row["sd"], f"standard deviation of the seeds' {listed}", stdev(values))


def _change(row: Row, own: Term | None, before: Term | None) -> list[Number]:
    if own is None or before is None:
        return [Number("change", row["change"], "one of the two means has no scores")]
    says = f"the mean minus that of `{BASELINE}`: {own.value:.4f} - {before.value:.4f}"
    named = Term(f"`{BASELINE}`", before.value, before.over, before.terms, before.scores)
    return [Number("change", row["change"], says, own.value - before.value, (named,))]


def _by_language(grid: Grid, target: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    story = Story(languages=[row["language"]])
    _take(grid, story, row["model"], row["recipe"], [target], _OF_ROW)
    place = (target, row["language"], row["metric"])
    if own := grid.over_seeds(row["model"], row["recipe"], *place):
        story.numbers += [_mean(row, own), _deviation(row, [seed.value for seed in own.terms])]
    story.numbers += _drawn(row, ("lower", "upper"))
    if row["recipe"] != BASELINE and row["change"]:
        _take(grid, story, row["model"], BASELINE, [target], _OF_NONE)
        before = grid.over_seeds(row["model"], BASELINE, *place)
        story.numbers += _change(row, own, before)
        story.numbers += _drawn(row, ("change_lower", "change_upper"))
    return story


def _drawn(row: Row, columns: Sequence[str]) -> list[Number]:
    says = (
        "bound of a bootstrap over the test examples, from the statistics of these cells; "
        "`xstilts audit verify` makes it again"
    )
    return [Number(column, row[column], says) for column in columns]


def _languages(grid: Grid, _: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    language = row["language"]
    names = [name for name, target in grid.targets.items() if language in target["languages"]]
    story = Story(languages=[language])

    def terms(recipe: str) -> dict[str, Term]:
        found = {
            name: grid.over_seeds(row["model"], recipe, name, language, grid.overall(name))
            for name in names
        }
        return {name: term for name, term in found.items() if term}

    own, before = terms(row["recipe"]), terms(BASELINE)
    _take(grid, story, row["model"], row["recipe"], names, _OF_ROW)
    whole = Term("mean", fmean(t.value for t in own.values()), "targets", tuple(own.values()))
    story.numbers.append(_mean(row, whole))
    if row["recipe"] != BASELINE and row["change"]:
        _take(grid, story, row["model"], BASELINE, names, _OF_NONE)
        both = [name for name in own if name in before]
        gives = fmean(own[name].value - before[name].value for name in both)
        says = f"mean over {len(both)} targets of the change against `{BASELINE}`"
        known = tuple(before[name] for name in both)
        story.numbers.append(Number("change", row["change"], says, gives, known))
    return story


def _scores(grid: Grid, _: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    story = Story(languages=[row["language"]])
    keys = {"model": [row["model"]], "recipe": [row["recipe"]], "target": [row["target"]]}
    (cell,) = grid.of(**keys, seed=[int(row["seed"])])
    story.add([cell], _OF_ROW)
    value = grid.values(cell, row["metric"])[row["language"]]
    says = f"the score in {cell.scores}/scores.json"
    term = Term(row["language"], value, scores=cell.scores)
    story.numbers.append(Number("value", row["value"], says, value, (term,)))
    return story


def _layers(grid: Grid, _: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    story = Story(languages=[row["language"]])
    if row["split"] != "test":
        place = f"{row['model']}/{row['recipe']}/seed-{row['seed']}"
        story.starts = [name for name in inputs.get("layers", ()) if name.endswith(f"/{place}")]
        story.notes.append("From the choice of a hidden state on dev pairs.")
        return story
    keys = {"model": [row["model"]], "recipe": [row["recipe"]], "target": [row["target"]]}
    (cell,) = grid.of(**keys, seed=[int(row["seed"])])
    story.add([cell], _OF_ROW)
    value = grid.content(cell.scores)["layers"][row["language"]][int(row["layer"])]
    says = f"the score of hidden state {row['layer']} in {cell.scores}/scores.json"
    story.numbers.append(Number("value", row["value"], says, value))
    return story


def _trainings(grid: Grid, _: str, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    out = row["checkpoint"]
    if out not in inputs.get("checkpoints", ()):
        raise KeyError(out)
    story = Story(starts=[out], notes=["One row per checkpoint, from its own record."])
    (found,) = trainings.rows([str(grid.results.path / out)])
    for column in ("steps", "dev", "dev_step", "restarts"):
        if found[column] is not None:
            says = f"from {out}/{'history.jsonl' if column.startswith('dev') else 'training.json'}"
            story.numbers.append(Number(column, row[column], says, found[column]))
    return story


_TABLES: dict[str, Callable[[Grid, str, Row, Mapping[str, Sequence[str]]], Story]] = {
    "overview.csv": _overview,
    "by_language": _by_language,
    "languages.csv": _languages,
    "scores.csv": _scores,
    "layers.csv": _layers,
    "trainings.csv": _trainings,
}

# ---- analysis/


def matching(grid: Grid, row: Row, inputs: Mapping[str, Sequence[str]]) -> Story:
    """All cells that match what columns there are: how they enter is the analysis' own matter."""
    wanted = _wanted(grid, row)
    story = Story(languages=[row["language"]] if row.get("language") in grid.languages else None)
    story.add(grid.of(**wanted), _OF_ROW)
    compares = any(_AGAINST_NONE.search(column) for column in row)
    if compares and wanted.get("recipe", [BASELINE]) != [BASELINE]:
        story.add(grid.of(**{**wanted, "recipe": [BASELINE]}), _OF_NONE)
    used = ", ".join(f"{key} {' or '.join(map(str, wanted[key]))}" for key in wanted)
    story.notes.append(
        f"All cells with {used}: the table has no column that says more."
        if used
        else "All cells of the study: the table has no column that says less."
    )
    model = row.get("model", "")
    for role in sorted(set(inputs) - {"scores", "checkpoints"}):
        names = [name for name in inputs[role] if not model or model in name.split("/")]
        if names:
            story.starts += names
            story.notes.append(f"The analysis also reads {role}: {', '.join(names)}.")
    return story


def _wanted(grid: Grid, row: Row) -> dict[str, list[Any]]:
    """Models, recipes, seeds and targets that a row names; nothing where it names none."""
    known: dict[str, set[Any]] = {
        key: {getattr(cell, key) for cell in grid.cells} for key in ("model", "recipe", "target")
    }
    found: dict[str, list[Any]] = {
        key: [row[key]] for key, values in known.items() if row.get(key) in values
    }
    if row.get("seed", "").isdecimal():
        found["seed"] = [int(row["seed"])]
    # Two targets side by side, as in comparisons of reasoning with inference.
    pair = [row[key] for key in ("first", "second") if row.get(key) in known["target"]]
    if pair and "target" not in found:
        found["target"] = pair
    return found
