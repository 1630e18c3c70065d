"""The overview of a study for reading: Markdown, plain text, and the gains of the figure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from xstilts.analysis.heatmap import Gains
from xstilts.analysis.study import BASELINE, Row, Study
from xstilts.analysis.tables import ALL, AVERAGE, GROUP, ZERO_SHOT
from xstilts.analysis.trainings import TRAININGS, warning
from xstilts.errors import InputError

OVERVIEW = "overview.csv"
_WIDTH = 99

_LEGEND = """\
Percent, mean over languages, then over seeds; ± is the standard deviation over seeds, in brackets \
the change against `none`. *all* counts the source language `{source}` as XTREME does, *zero-shot* \
leaves it out. Question answering is the mean of F1 and exact match. {average} is over targets.
"""


def _by_line(rows: Iterable[Row]) -> dict[tuple[str, str, str], dict[str, Row]]:
    """Rows by target, by model, languages and recipe."""
    lines: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        line = lines.setdefault((row["model"], row["languages"], row["recipe"]), {})
        line[row["target"]] = row
    return lines


# ---- Markdown


def markdown(study: Study, overview: Iterable[Row], note: str = "") -> str:
    """The overview as Markdown, one table per model: recipes by targets, then the average.

    Args:
        study: The study.
        overview: Rows of the overview.
        note: What a reader has to know first.
    """
    lines = _by_line(overview)
    titles = [*(target.title for target in study.targets), *_means(study)]
    parts = [f"# {study.name}\n", _LEGEND.format(source=study.source, average=titles[-1])]
    if note:
        parts.append(f"**{note.strip()}**\n")
    for model in study.models:
        parts.append(f"## {model}\n")
        parts.append("\n".join(_markdown_table(study, model, titles, lines)) + "\n")
    return "\n".join(parts)


def _means(study: Study) -> list[str]:
    return [name.capitalize() for name in (*_groups(study), AVERAGE)]


def _groups(study: Study) -> list[str]:
    return [f"{name}{GROUP}" for name in study.groups()]


def _markdown_table(
    study: Study,
    model: str,
    titles: Sequence[str],
    lines: Mapping[tuple[str, str, str], Mapping[str, Row]],
) -> Iterator[str]:
    names = [*(target.name for target in study.targets), *_groups(study), AVERAGE]
    yield _markdown_row(["Recipe", "Languages", *titles])
    yield "|---|---|" + "---:|" * len(names)
    for languages in (ALL, ZERO_SHOT):
        for recipe in study.recipes:
            line = lines.get((model, languages, recipe), {})
            cells = [_cell(line[name]) if name in line else "" for name in names]
            yield _markdown_row([recipe, languages, *cells])


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _cell(row: Row) -> str:
    spread = "" if row["sd"] is None else f" ± {row['sd']:.1f}"
    change = "" if row["change"] is None else f" ({row['change']:+.1f})"
    return f"{row['mean']:.1f}{spread}{change}"


# ---- figure


def gains(study: Study, overview: Iterable[Row]) -> Gains:
    """Changes against `none` over all languages, by model: [recipes][targets and average]."""
    lines = _by_line(overview)
    names = [*(target.name for target in study.targets), AVERAGE]
    recipes = [recipe for recipe in study.recipes if recipe != BASELINE]

    def change(model: str, recipe: str, name: str) -> float | None:
        row = lines.get((model, ALL, recipe), {}).get(name)
        return None if row is None else row["change"]

    return Gains(
        rows=recipes,
        columns=[*(target.title for target in study.targets), AVERAGE.capitalize()],
        panels={
            model: [[change(model, recipe, name) for name in names] for recipe in recipes]
            for model in study.models
        },
    )


# ---- plain text


def summary(folder: Path) -> str:
    """The overview of a tables artifact as aligned plain text, at most 99 columns wide.

    Each cell is the mean and the change against `none`. Targets that do not fit stand in a further
    block; the spread over seeds and the groups' means stand in `overview.md`. Trainings that learnt
    nothing are named below.

    Raises:
        InputError: If the folder holds no overview.
    """
    path = folder / OVERVIEW
    if not path.exists():
        raise InputError(str(path), "the overview is missing", hint="Run snakemake to make it")
    with path.open(encoding="utf-8", newline="") as file:
        lines = _by_line(csv.DictReader(file))
    groups: dict[tuple[str, str], dict[str, dict[str, Row]]] = {}
    for (model, languages, recipe), line in lines.items():
        groups.setdefault((model, languages), {})[recipe] = line
    models = dict.fromkeys(model for model, _ in groups)
    parts = [
        f"{model}, {_TITLES[languages]}\n" + _text_table(groups[model, languages])
        for model in models
        for languages in (ALL, ZERO_SHOT)
        if (model, languages) in groups
    ]
    with (folder / TRAININGS).open(encoding="utf-8", newline="") as file:
        parts += filter(None, [warning(list(csv.DictReader(file)))])
    return "\n".join(parts)


_TITLES = {ALL: "all languages", ZERO_SHOT: "zero-shot (without the source language)"}


def _text_table(recipes: Mapping[str, Mapping[str, Row]]) -> str:
    names = dict.fromkeys(name for line in recipes.values() for name in line)
    targets = [name for name in names if name != AVERAGE and not name.endswith(GROUP)]
    columns = [["recipe", *recipes]]
    for name in [*targets, *([AVERAGE] if AVERAGE in names else [])]:
        columns.append([name, *(_text_cell(line.get(name)) for line in recipes.values())])
    blocks = [[_justified(columns[0], left=True)]]
    for column in columns[1:]:
        justified = _justified(column)
        if sum(len(part[0]) + 2 for part in [*blocks[-1], justified]) - 2 > _WIDTH:
            blocks.append([blocks[0][0]])
        blocks[-1].append(justified)
    return "\n".join(
        "".join("  ".join(cells).rstrip() + "\n" for cells in zip(*block, strict=True))
        for block in blocks
    )


def _text_cell(row: Row | None) -> str:
    if row is None:
        return "-"
    change = f"{float(row['change']):+.1f}" if row["change"] else ""
    return f"{float(row['mean']):.1f} {change:>5}"


def _justified(column: Sequence[str], left: bool = False) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) if left else cell.rjust(width) for cell in column]
