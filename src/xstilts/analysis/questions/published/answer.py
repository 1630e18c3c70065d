"""Against the published: our numbers beside those of papers, and why they may differ."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xstilts.analysis.answer import Answer, Column, Figure, Table
from xstilts.analysis.numbers import counted, listed, signed
from xstilts.analysis.questions.phrases import model_title
from xstilts.analysis.questions.tasks.choice import choose, dev_means
from xstilts.analysis.stats.crossed import over_seeds
from xstilts.analysis.stats.estimate import Estimate, tidy
from xstilts.analysis.study import BASELINE, Grid, Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TITLE = "How do the numbers compare with published ones?"
#: Rows that a figure can hold and still be read.
_SHOWN = 40
_COLUMNS = (
    Column("model", "Model", "model"),
    Column("recipe", "Recipe", "recipe"),
    Column("target", "Target", "target"),
    Column("language", "Language", "language"),
    Column("metric", "Metric"),
    Column("published", "Published", "points"),
    Column("ours", "Ours", "points"),
    Column("low", "from", "points"),
    Column("high", "to", "points"),
    Column("difference", "Difference", "gain"),
    Column("title", "Where"),
    Column("source", "Source"),
    Column("split", "Measured on"),
    Column("remarks", "What is known of differences"),
)


@dataclass(frozen=True)
class _Ours:
    """Our figure: seeds, and what is to be said of it."""

    by_seed: tuple[float, ...]
    remarks: tuple[str, ...] = ()
    comparable: bool = True

    @property
    def estimate(self) -> Estimate:
        """Its mean over seeds with the interval that they give."""
        import numpy as np

        return over_seeds(np.array(self.by_seed)[:, None])


def answer(study: Study) -> Answer:
    """Put our scores beside the registry's published figures of the same model.

    Ours is the mean over seeds, with the interval that they give. A difference stands only where
    both are means over as many languages.
    """
    rows = [row for entry in study.published for row in _rows(study, entry)]
    if not rows:
        named = listed([model_title(study, name) for name in study.models])
        said = f"The registry has no published figures of {named} on the targets of this study."
        hint = "Rows of the section `published` in a registry file of the study add some."
        return Answer("published", TITLE, cannot=(f"{said} {hint}",))
    table = Table("published", "Our numbers and published ones", _COLUMNS, rows)
    known = [row for row in rows if row["difference"] is not None and not row["gain"]]
    return Answer(
        question="published",
        title=TITLE,
        says=tuple(_says(study, known)),
        cannot=tuple(_cannot(rows)),
        methods=(
            "Our figure is the mean over seeds; its interval is Student's, over seeds.",
            "A difference is given where both figures are means over the same number of languages.",
        ),
        tables=(table,),
        figures=(_figure(known),) if known else (),
    )


def _rows(study: Study, entry: Row) -> Iterator[Row]:
    """One row per published figure that has a counterpart."""
    for target, values in entry["scores"].items():
        for metric, figure in values.items():
            by_language = figure if isinstance(figure, Mapping) else {"": figure}
            for language, published in by_language.items():
                found = _single(study, entry, target, metric, language)
                if found is not None:
                    recipe, ours = found
                    keys = {"recipe": recipe, "target": target, "metric": metric}
                    keys["language"] = language or "mean"
                    yield _row(entry, keys, published, ours, entry["notes"].get(target))
    for mean in entry["means"]:
        if (whole := _mean(study, entry, mean)) is not None:
            keys = {"recipe": _recipe_text(entry), "target": _titles(study, mean["targets"])}
            metric = "gain over none" if mean["gain"] else "task score"
            keys |= {"language": "mean", "metric": metric}
            yield _row(entry, keys, mean["value"], whole, None, mean["gain"])


def _row(
    entry: Row, keys: Row, published: float, ours: _Ours, note: str | None, gain: bool = False
) -> Row:
    estimate = ours.estimate
    notes = [text for text in (note, entry["notes"].get("all")) if text]
    return {
        **{key: entry[key] for key in ("model", "title", "source", "split")},
        **keys,
        "published": published,
        "ours": tidy(estimate.value),
        "low": tidy(estimate.low),
        "high": tidy(estimate.high),
        "difference": tidy(estimate.value - published) if ours.comparable else None,
        "remarks": "; ".join([*ours.remarks, *notes]),
        "gain": gain,
    }


def _recipe_text(entry: Row) -> str:
    recipe = entry["recipe"]
    return recipe if isinstance(recipe, str) else " + ".join(recipe)


def _recipe(study: Study, entry: Row, target: str) -> str | None:
    """The study's recipe that a published system is compared with, for one target."""
    wanted = entry["recipe"]
    if wanted == "best":
        return choose(target, dev_means(study, entry["model"], target)).recipe
    tasks = set() if wanted == BASELINE else set(wanted)
    for name in study.recipes:
        row = study.recipe_rows[name]
        plain = not row.get("mlm") and not row.get("translate")
        if plain and set(row.get("tasks", ())) == tasks:
            return name
    return None


def _grid(
    study: Study, entry: Row, target: str, metric: str | None = None
) -> tuple[str, Grid] | None:
    if target not in {row.name for row in study.targets}:
        return None
    recipe = _recipe(study, entry, target)
    grid = study.grid(entry["model"], recipe, target, metric) if recipe else None
    return None if recipe is None or grid is None else (recipe, grid)


def _single(
    study: Study, entry: Row, target: str, metric: str, language: str
) -> tuple[str, _Ours] | None:
    """Our score of a target in one language, or its mean over all that there are."""
    found = _grid(study, entry, target, metric)
    if found is None:
        return None
    recipe, grid = found
    if language:
        if language not in grid.languages:
            return None
        return recipe, _Ours(tuple(grid.of([language]).values[:, 0]))
    theirs = entry["languages"].get(target) or entry["own_languages"][target]
    return recipe, _over_languages(grid, theirs)


def _over_languages(grid: Grid, theirs: int) -> _Ours:
    same = len(grid.languages) == theirs
    remark = f"theirs is over {theirs} languages, ours over {len(grid.languages)}"
    return _Ours(tuple(grid.values.mean(axis=1)), () if same else (remark,), same)


def _mean(study: Study, entry: Row, mean: Row) -> _Ours | None:
    """Our mean over the same targets, if there are all of them; a gain is over `none`."""
    parts: list[dict[int, float]] = []
    remarks, comparable = list[str](), True
    for target in mean["targets"]:
        found = _grid(study, entry, target)
        if found is None:
            return None
        recipe, grid = found
        whole = _over_languages(grid, entry["own_languages"][target])
        comparable = comparable and whole.comparable
        remarks += [f"{target}: {text}" for text in whole.remarks]
        if mean["gain"]:
            gain = study.gain(entry["model"], recipe, target)
            if gain is None:
                return None
            grid = gain
        parts.append(_by_seed(grid, study))
    seeds = sorted(set.intersection(*(set(part) for part in parts)))
    if not seeds:
        return None
    values = tuple(statistics.fmean(part[seed] for part in parts) for seed in seeds)
    return _Ours(values, tuple(remarks), comparable)


def _by_seed(grid: Grid, study: Study) -> dict[int, float]:
    """Means over languages; what no seed changes counts for all."""
    means = [float(value) for value in grid.values.mean(axis=1)]
    if grid.fixed:
        every = {cell.seed for cell in study.all_cells()}
        return dict.fromkeys(every, means[0])
    return dict(zip(grid.seeds, means, strict=True))


def _titles(study: Study, names: Sequence[str]) -> str:
    return ", ".join(study.target(name).title for name in names)


def _says(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    for model in study.models:
        own = [row for row in rows if row["model"] == model]
        if not own:
            continue
        gaps = [abs(row["difference"]) for row in own]
        far = max(own, key=lambda row: abs(row["difference"]))
        whole = [row for row in own if row["low"] is not None]
        inside = [row for row in whole if row["low"] <= row["published"] <= row["high"]]
        yield (
            f"{model_title(study, model)}: {counted(len(own), 'published figure')} with a "
            "counterpart over the same languages. "
            f"The median of the absolute differences is {statistics.median(gaps):.1f} points; "
            f"the largest difference is {signed(far['difference'])} ({far['target']}, "
            f"{far['language']}, {far['metric']}, {far['title']})."
        )
        if whole:
            yield f"Of {len(whole)}, {len(inside)} lie in our interval over seeds."


def _cannot(rows: Sequence[Row]) -> Iterator[str]:
    apart = sum(row["difference"] is None for row in rows)
    if apart:
        yield (
            f"{apart} of {len(rows)} published figures are means over other languages than ours: "
            "both are shown, and no difference."
        )
    if all(row["low"] is None for row in rows):
        yield "There is one seed: how far our own numbers vary is not known."


def _figure(rows: Sequence[Row]) -> Figure:
    shown = [row for row in rows if row["language"] == "mean"] or list(rows)
    shown = sorted(shown, key=lambda row: (row["model"], row["target"], row["metric"]))[:_SHOWN]
    return Figure(
        name="published",
        title="Our numbers (points, with intervals over seeds) and published ones (bars)",
        alt="For each published figure, a bar where it lies and our number with its interval.",
        table="published",
        draw=lambda canvas: _draw(canvas, shown),
        size=(7.0, 0.9 + 0.24 * len(shown)),
    )


def _draw(canvas: Canvas, rows: Sequence[Row]) -> None:
    from xstilts.analysis import figures

    axis = canvas.subplots()
    places = list(range(len(rows), 0, -1))
    bounds = [None if row["low"] is None else (row["low"], row["high"]) for row in rows]
    figures.intervals(axis, places, [row["ours"] for row in rows], bounds, 0, "ours")
    published = [row["published"] for row in rows]
    axis.plot(published, places, "|", color=figures.COLOURS[1], ms=11, mew=2, label="published")
    labels = [f"{row['target']} {row['metric']} · {row['recipe']} · {row['title']}" for row in rows]
    axis.set_yticks(places, labels=labels)
    axis.set_xlabel("percent")
    axis.grid(axis="x", color="0.9")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
