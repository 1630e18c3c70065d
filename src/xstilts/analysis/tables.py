"""The tables of a study as rows.

A target's score is the unweighted mean over its languages, the source language included, as in
XTREME; the zero-shot rows leave it out. Changes are against the recipe `none`.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from xstilts.analysis.bootstrap import Floats, interval, resampled_sums
from xstilts.analysis.study import BASELINE, Cell, Row, Study, Target
from xstilts.errors import InputError
from xstilts.evaluation.score import STATISTICS

AVERAGE = "average"
GROUP = " (group)"
ALL, ZERO_SHOT = "all", "zero-shot"

SCORES_COLUMNS = (
    *("study", "model", "recipe", "seed", "target"),
    *("language", "metric", "value", "n", "split"),
)
OVERVIEW_COLUMNS = ("model", "recipe", "languages", "target", "mean", "sd", "seeds", "change")
BY_LANGUAGE_COLUMNS = (
    *("model", "recipe", "language", "metric", "mean", "sd", "seeds", "n", "lower", "upper"),
    *("change", "change_lower", "change_upper"),
)
LAYERS_COLUMNS = (
    *("model", "recipe", "seed", "target", "language", "layer"),
    *("metric", "value", "split", "chosen"),
)
LANGUAGES_COLUMNS = (
    *("model", "recipe", "language", "name", "distance", "targets", "mean", "change"),
)


def score_rows(study: Study) -> Iterator[Row]:
    """Every value of every cell and language."""
    for cell in study.all_cells():
        keys = {
            "study": study.name,
            "model": cell.model,
            "recipe": cell.recipe,
            "seed": cell.seed,
            "target": cell.target,
        }
        for row in cell.rows:
            yield {**keys, **{name: row[name] for name in SCORES_COLUMNS[len(keys) :]}}


def layer_rows(study: Study) -> Iterator[Row]:
    """Retrieval by hidden state: on test sentences, and on the dev pairs that choose one."""
    for cell in study.all_cells():
        for language, values in cell.layers.items():
            metric = study.target(cell.target).metric.overall
            for layer, value in enumerate(values):
                yield {
                    **{name: getattr(cell, name) for name in LAYERS_COLUMNS[:4]},
                    "language": language,
                    "layer": layer,
                    "metric": metric,
                    "value": value,
                    "split": "test",
                    "chosen": "",
                }
    for sweep in study.sweeps:
        for row in sweep["rows"]:
            yield {
                **{name: sweep[name] for name in LAYERS_COLUMNS[:4]},
                "language": row["language"],
                "layer": row["layer"],
                "metric": "f1",
                "value": row["f1"],
                "split": "dev",
                "chosen": row["layer"] == sweep["layer"],
            }


def _over_seeds(values: Sequence[float]) -> Row:
    """Mean, spread (blank for one seed) and number of seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": spread, "seeds": len(values)}


def overview_rows(study: Study) -> list[Row]:
    """Per model, recipe, target and kind of languages: mean, spread, change against `none`.

    Behind the targets stand XTREME's groups (the mean of their targets) and the mean of all (R47).

    A target without scores has no row; then the average, which would be over fewer targets than
    the others', has none either. The average's spread is over the seeds that have all targets.
    """
    rows: list[Row] = []
    for languages in (ALL, ZERO_SHOT):
        for model, recipe in study.pairs():
            found = _target_scores(study, model, recipe, languages)
            keys = {"model": model, "recipe": recipe, "languages": languages}
            rows += [
                {**keys, "target": target, **_over_seeds(list(seeds.values()))}
                for target, seeds in found.items()
                if seeds
            ]
            groups = {f"{name}{GROUP}": targets for name, targets in study.groups().items()}
            means = {**groups, AVERAGE: list(found)}
            for name, targets in means.items():
                if targets and all(found.get(target) for target in targets):
                    average = _average([found[target] for target in targets])
                    rows.append({**keys, "target": name, **average})
    return _with_change(rows)


def _target_scores(study: Study, model: str, recipe: str, kind: str) -> dict[str, dict[int, float]]:
    """By target and seed, the mean over languages; without the targets that have none of them."""
    found: dict[str, dict[int, float]] = {}
    for target in study.targets:
        languages = [code for code in target.languages if kind == ALL or code != study.source]
        if not languages:
            continue
        found[target.name] = {}
        for cell in study.cells(model, recipe, target.name):
            values = cell.values(target.metric.overall)
            found[target.name][cell.seed] = statistics.fmean(values[code] for code in languages)
    return found


def _average(by_target: Sequence[Mapping[int, float]]) -> Row:
    complete = set.intersection(*(set(seeds) for seeds in by_target))
    per_seed = [statistics.fmean(seeds[seed] for seeds in by_target) for seed in sorted(complete)]
    return {
        "mean": statistics.fmean(statistics.fmean(seeds.values()) for seeds in by_target),
        "sd": statistics.stdev(per_seed) if len(per_seed) > 1 else None,
        "seeds": min(len(seeds) for seeds in by_target),
    }


def _with_change(rows: list[Row]) -> list[Row]:
    keys = ("model", "languages", "target")
    baseline = {
        tuple(row[key] for key in keys): row["mean"] for row in rows if row["recipe"] == BASELINE
    }
    for row in rows:
        before = baseline.get(tuple(row[key] for key in keys))
        known = before is not None and row["recipe"] != BASELINE
        row["change"] = row["mean"] - before if known else None
    return rows


def language_rows(study: Study, target: Target) -> list[Row]:
    """Per model, recipe and language of a target: mean, intervals, change against `none`."""
    found: dict[tuple[str, str, str], Row] = {}
    for language in target.languages:
        for (model, recipe), row in _rows_of_language(study, target, language).items():
            found[model, recipe, language] = {
                "model": model,
                "recipe": recipe,
                "language": language,
                "metric": target.main,
                **row,
            }
    order = [(*pair, language) for pair in study.pairs() for language in target.languages]
    return [found[key] for key in order if key in found]


def _rows_of_language(study: Study, target: Target, language: str) -> dict[tuple[str, str], Row]:
    pairs = {pair: cells for pair in study.pairs() if (cells := study.cells(*pair, target.name))}
    cells = [cell for seeds in pairs.values() for cell in seeds]
    if not cells:
        return {}
    resampled, examples = _resampled(study, target, language, cells)
    rows: dict[tuple[str, str], Row] = {}
    drawn: dict[tuple[str, str], Floats] = {}
    start = 0
    for pair, seeds in pairs.items():
        drawn[pair] = resampled[:, start : start + len(seeds)].mean(axis=1)
        start += len(seeds)
        low, high = interval(drawn[pair])
        point = _over_seeds([cell.values(target.main)[language] for cell in seeds])
        rows[pair] = {**point, "n": examples, "lower": low, "upper": high}
    for pair, row in rows.items():
        before = (pair[0], BASELINE)
        if before in rows and pair != before:
            row["change"] = row["mean"] - rows[before]["mean"]
            row["change_lower"], row["change_upper"] = interval(drawn[pair] - drawn[before])
    return rows


def _resampled(
    study: Study, target: Target, language: str, cells: Sequence[Cell]
) -> tuple[Floats, int]:
    """The main value in every resample of every cell [samples, cells]; the number of examples."""
    counts = [cell.statistics(language) for cell in cells]
    for cell, other in zip(cells, counts, strict=True):
        if other.shape != counts[0].shape:
            raise InputError(
                f"{cell.folder / STATISTICS}: {language}",
                "has other examples than the first cell of its target",
                expected=f"{counts[0].shape} as in {cells[0].folder}",
                found=str(other.shape),
                hint="Score both on the same prepared test split",
            )
    seed = (study.seed, zlib.crc32(target.name.encode()), zlib.crc32(language.encode()))
    sums = resampled_sums(np.concatenate(counts, axis=1), study.samples, seed)
    values = target.metric.finish(sums.reshape(study.samples, len(cells), -1))[target.main]
    return values, len(counts[0])


def distance_rows(study: Study) -> list[Row]:
    """Per model, recipe and language with a known distance: mean over the targets that have it.

    The change against `none` is the mean over the targets that both have.
    """
    rows: list[Row] = []
    for model, recipe in study.pairs():
        for language in study.languages:
            if language.get("distance") is None:
                continue
            own = _language_scores(study, model, recipe, language["code"])
            before = _language_scores(study, model, BASELINE, language["code"])
            both = [name for name in own if name in before and recipe != BASELINE]
            if own:
                change = (
                    statistics.fmean(own[name] - before[name] for name in both) if both else None
                )
                rows.append(
                    {
                        "model": model,
                        "recipe": recipe,
                        "language": language["code"],
                        "name": language["name"],
                        "distance": language["distance"],
                        "targets": len(own),
                        "mean": statistics.fmean(own.values()),
                        "change": change,
                    }
                )
    return rows


def _language_scores(study: Study, model: str, recipe: str, language: str) -> dict[str, float]:
    """By target that has the language, its score there, averaged over seeds."""
    return {
        target.name: statistics.fmean(
            cell.values(target.metric.overall)[language] for cell in cells
        )
        for target in study.targets
        if language in target.languages and (cells := study.cells(model, recipe, target.name))
    }
