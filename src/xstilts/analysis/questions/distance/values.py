"""What languages lose against the source language, and how far they are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.study import BASELINE, Grid, Study, Target
from xstilts.analysis.tables import AVERAGE, GROUP

#: Groups as people call them; what sentence classification loses is asked first.
GROUPS = {
    "classification": "Sentence classification",
    "tagging": "Tagging",
    "qa": "Question answering",
    "retrieval": "Retrieval",
}
FIRST = "classification"


@dataclass(frozen=True)
class Subject:
    """What is scored: a target, a group of targets, or all of them.

    Attributes:
        name: The target's, or the group's as the overview has it.
        title: For people.
        targets: Its targets.
        drops: Some of its targets have a score of the source language, from which drops are taken.
            The others (retrieval pairs every language with it) keep their scores: a constant per
            seed is between the two, so slopes are the same.
    """

    name: str
    title: str
    targets: tuple[Target, ...]
    drops: bool

    @property
    def what(self) -> str:
        """What its values are."""
        return "drop" if self.drops else "score"


@dataclass(frozen=True)
class Measure:
    """A measure of how far languages are from the source language.

    Attributes:
        name: Its name in tables.
        title: For people.
        meaning: What its unit is and how it is taken; a sentence.
        values: By language, in its own unit; without the languages for which it is not known.
        sign: 1 where large values are far, -1 where small ones are (size of the pretraining data).
    """

    name: str
    title: str
    meaning: str = ""
    values: dict[str, float] = field(default_factory=dict)
    sign: int = 1

    def known(self, languages: Sequence[str]) -> list[int]:
        """Places of the languages that have a value."""
        return [place for place, code in enumerate(languages) if code in self.values]

    def farness(self, languages: Sequence[str]) -> Floats:
        """Values of languages [languages], larger where they are farther away."""
        return self.sign * np.array([self.values[code] for code in languages], dtype=np.float64)


def subjects(study: Study) -> list[Subject]:
    """Groups of several targets and all targets; sentence classification first."""
    names = list(dict.fromkeys(target.group for target in study.targets))
    names.sort(key=lambda name: name != FIRST)
    groups = study.groups()
    found = []
    for name in names:
        targets = [target for target in study.targets if target.group == name]
        if name in groups:
            title = GROUPS.get(name, name.capitalize())
            found.append(_subject(study, f"{name}{GROUP}", title, targets))
        found += [_subject(study, target.name, target.title, [target]) for target in targets]
    return found


def everything(study: Study) -> Subject:
    """All targets together."""
    return _subject(study, AVERAGE, "All targets", study.targets)


def _subject(study: Study, name: str, title: str, targets: Sequence[Target]) -> Subject:
    drops = any(study.source in target.languages for target in targets)
    return Subject(name, title, tuple(targets), drops)


def grids(study: Study, model: str, recipe: str, subject: Subject) -> list[Grid] | None:
    """Drops of each target of a subject, without the source language.

    Returns:
        None where a target has no scores, or no language but the source.
    """
    found = []
    for target in subject.targets:
        grid = study.grid(model, recipe, target.name)
        grid = None if grid is None else drop(grid, study.source)
        if grid is None or not grid.languages:
            return None
        found.append(grid)
    return found


def drop(grid: Grid, source: str) -> Grid:
    """Scores minus that of the source language, per seed; scores where it has none."""
    others = grid.of(code for code in grid.languages if code != source)
    if source not in grid.languages:
        return others
    base = grid.values[:, [grid.languages.index(source)]]
    return Grid(others.seeds, others.languages, others.values - base, others.fixed)


def whole(study: Study, subject: Subject, found: Sequence[Grid] | None) -> Grid | None:
    """The values of a subject's targets put together; None where that cannot be."""
    if not found:
        return None
    drops = [study.source in target.languages for target in subject.targets]
    return together(found, drops if any(drops) else ())


def changes(study: Study, model: str, recipe: str, subject: Subject) -> list[Grid] | None:
    """Drops under a recipe minus drops under `none`, paired by seed and language, per target."""
    own = grids(study, model, recipe, subject)
    before = grids(study, model, BASELINE, subject)
    if own is None or before is None:
        return None
    found = [ours.minus(theirs) for ours, theirs in zip(own, before, strict=True)]
    return found if all(grid.values.size for grid in found) else None


def together(found: Sequence[Grid], levels: Sequence[bool] = ()) -> Grid | None:
    """One value per seed and language from those of several targets.

    Per seed the values are fitted by a level per target plus an effect per language (least
    squares); a language stands at its effect plus the mean level. Where all targets have all
    languages that is the mean over targets; where not, an easy target does not lift its languages.

    Args:
        found: Values of each target.
        levels: Whether a target's level counts in the mean; all do unless said. The level of scores
            is none of drops.

    Returns:
        The seeds that all targets share (a target whose one seed stands for all has each of them),
        and the languages that any has. None where they share no seed, or where targets share too
        few languages to be compared.
    """
    if len(found) == 1:
        return found[0]
    seeds = _shared_seeds(found)
    languages = tuple(dict.fromkeys(code for grid in found for code in grid.languages))
    design = _design(found, languages)
    if not seeds or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    values = np.concatenate([_of_seeds(grid, seeds) for grid in found], axis=1)
    effects = np.linalg.lstsq(design, values.T, rcond=None)[0]
    of_targets = np.concatenate([np.zeros((1, len(seeds))), effects[len(languages) :]])
    chosen = [place for place in range(len(found)) if not levels or levels[place]]
    level = of_targets[chosen].mean(axis=0)
    fixed = all(grid.fixed for grid in found)
    return Grid(seeds, languages, effects[: len(languages)].T + level[:, None], fixed)


def _shared_seeds(found: Sequence[Grid]) -> tuple[int, ...]:
    """Seeds of all targets that have several; where none has, of the first."""
    drawn = [grid for grid in found if not grid.fixed] or found[:1]
    return tuple(seed for seed in drawn[0].seeds if all(seed in grid.seeds for grid in drawn))


def _of_seeds(grid: Grid, seeds: Sequence[int]) -> Floats:
    if grid.fixed:
        return np.repeat(grid.values[:1], len(seeds), axis=0)
    return grid.values[[grid.seeds.index(seed) for seed in seeds]]


def _design(found: Sequence[Grid], languages: Sequence[str]) -> Floats:
    """A row per target and language; columns: languages, then targets but the first."""
    rows = [(code, number) for number, grid in enumerate(found) for code in grid.languages]
    design = np.zeros((len(rows), len(languages) + len(found) - 1))
    for place, (code, number) in enumerate(rows):
        design[place, languages.index(code)] = 1
        if number:
            design[place, len(languages) + number - 1] = 1
    return design


def measures(study: Study, model: str) -> list[Measure]:
    """The measures that are known of some languages of a model, in the order of their stage."""
    by_language = study.distances.get(model, {})
    found = []
    for row in study.measures:
        values = {
            code: value
            for code, known in by_language.items()
            if (value := known.get(row["name"])) is not None
        }
        if values:
            sign = 1 if row["far"] == "high" else -1
            found.append(Measure(row["name"], row["title"], row["meaning"], values, sign))
    return found
