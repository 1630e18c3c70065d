"""The score stage: every language of a target, by one metric, with the statistics behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from safetensors.numpy import save_file

from xstilts.artifacts.publish import publishing
from xstilts.evaluation.aligned import align
from xstilts.evaluation.metrics.metric import Metric, Statistics
from xstilts.evaluation.metrics.table import metric_named
from xstilts.progress import Progress

SCORES = "scores.json"
STATISTICS = "statistics.safetensors"


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Score a target's predictions in all its languages.

    Writes `scores.json`, values in percent at full precision, retrieval's by hidden state and a
    decoder's by each likelihood too (`accuracy_sum` and the like), and `statistics.safetensors`: by
    language the metric's statistics [examples, columns], for bootstraps.

    Raises:
        InputError: If a file is broken, or a line is not the prediction of its example.
    """
    metric = metric_named(spec["metric"], f"target {spec['target']}: metric")
    inputs = spec["inputs"]
    pool = [Path(name) for name in inputs.get("pool", ())]
    progress = Progress("score", out.as_posix(), len(spec["languages"]))
    rows: list[dict[str, Any]] = []
    statistics: dict[str, Statistics] = {}
    notes: dict[str, dict[str, int]] = {}
    layers: dict[str, list[float]] = {}
    with publishing(out, spec) as draft:
        for language, gold in zip(spec["languages"], inputs["gold"], strict=True):
            predictions = Path(inputs["predictions"]) / f"{language}.jsonl"
            aligned = align(metric, spec["format"], predictions, Path(gold), pool)
            counts = metric.statistics(aligned.predictions, aligned.gold, language)
            statistics[language] = counts
            rows += score_rows(metric, language, counts)
            for name, found in aligned.by.items():
                rows += _rows_by(metric, language, name, found, aligned.gold)
            if aligned.notes:
                notes[language] = aligned.notes
            if aligned.layers:
                layers[language] = [
                    metric.values(metric.statistics(found, aligned.gold, language))[metric.overall]
                    for found in aligned.layers
                ]
            progress.step(len(statistics), language)
        content = {
            "target": spec["target"],
            "metric": metric.name,
            "columns": metric.columns,
            "rows": rows,
            "notes": notes,
            "layers": layers,
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (draft.folder / SCORES).write_text(text, encoding="utf-8")
        save_file(statistics, draft.folder / STATISTICS)
        draft.record.add(examples={name: len(counts) for name, counts in statistics.items()})
    mean = fmean(metric.values(counts)[metric.overall] for counts in statistics.values())
    progress.done(f"{metric.overall} {mean:.2f}, mean over {len(statistics)} languages")


def score_rows(metric: Metric, language: str, statistics: Statistics) -> list[dict[str, Any]]:
    """One row per value of a metric, from a language's statistics [examples, columns]."""
    return [
        {
            "language": language,
            "metric": name,
            "value": value,
            "n": len(statistics),
            "split": "test",
            "main": name == metric.main,
        }
        for name, value in metric.values(statistics).items()
    ]


def _rows_by(
    metric: Metric, language: str, name: str, predictions: list[Any], gold: list[Any]
) -> list[dict[str, Any]]:
    """The same of what one likelihood would choose; not the values that are compared."""
    rows = score_rows(metric, language, metric.statistics(predictions, gold, language))
    return [{**row, "metric": f"{row['metric']}_{name}", "main": False} for row in rows]
