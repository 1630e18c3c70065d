"""A small results folder made by hand: one model, two recipes and seeds, one target."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from small_results import publish

MADE = {
    "git": {"commit": "c0ffee" * 6 + "abcd", "dirty": False},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "environment": {"kind": "conda", "prefix": "/somewhere"},
    "device": {"host": "node7", "platform": "Linux", "cpus": 8, "gpu": "H100"},
    "attempts": [{"start": "10:00", "end": "11:00", "host": "node7", "SLURM_JOB_ID": "42"}],
    "peak_bytes": 2_500_000_000,
}
#: Accuracy in percent by recipe, seed and language.
VALUES = {
    ("none", 1): {"en": 80.0, "de": 70.0},
    ("none", 2): {"en": 82.0, "de": 72.0},
    ("mnli", 1): {"en": 84.0, "de": 76.0},
    ("mnli", 2): {"en": 86.0, "de": 78.0},
}


def make_results(
    revision: str = "beef",
    code: str = "bb",
    steps: int = 7,
    made: dict[str, Any] = MADE,
    values: dict[tuple[str, int], dict[str, float]] = VALUES,
) -> None:
    """Make all artifacts below the working directory; data and model are of the Hub.

    Args:
        revision: Of the data set.
        code: Fingerprint of the trainings.
        steps: Setting of the trainings.
        made: Record of the making of all artifacts.
        values: Accuracy in percent by recipe, seed and language.
    """
    for language in ("en", "de"):
        _data(language, revision)
    hub = {"model": {"name": "bert", "hub": "someone/bert"}, "lock": {"revision": "f00d"}}
    publish("models/bert/tokenizer", {"stage": "tokenizer", **hub, "inputs": {}})
    publish("models/bert/base", {"stage": "fetch_model", **hub, "inputs": {}})
    for language in ("en", "de"):
        inputs = {
            "prepared": f"data/prepared/xnli/{language}",
            "tokenizer": "models/bert/tokenizer",
        }
        spec = {"stage": "tokens", "dataset": "xnli", "language": language, "inputs": inputs}
        publish(f"data/tokens/bert/xnli/{language}", {**spec, "encoding": {"max_length": 128}})
    tokens = [f"data/tokens/bert/xnli/{name}" for name in ("en", "de")]
    publish("data/testsets/bert/xnli", {"stage": "testset", "inputs": {"tokens": tokens}})
    training = {"tasks": [{"name": "mnli"}], "settings": {"steps": steps}, "fingerprint": code}
    cells = [_cell(*key, found, training) for key, found in values.items()]
    _tables(cells, values)
    for record in Path().rglob("provenance.json"):
        record.write_text(json.dumps(made))


def _data(code: str, revision: str) -> None:
    files = {f"{code}.parquet": {"size": 5, "sha256": "ab" * 32, "split": "test"}}
    source = {"kind": "hub", "hub": "facebook/xnli"}
    spec = {"stage": "fetch", "dataset": "xnli", "config": code, "source": source}
    raw = f"data/raw/xnli/{code}"
    publish(raw, {**spec, "lock": {"revision": revision, "files": files}, "inputs": {}})
    rows = [{"id": f"test-{number}", "text": f"{code} {number}"} for number in range(3)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    report = json.dumps({"splits": {"test": {"rows": 3}}})
    spec = {"stage": "prepare", "dataset": "xnli", "language": code, "inputs": {"raw": raw}}
    files = {"report__json": report, "test__parquet": sink.getvalue().to_pybytes()}
    publish(f"data/prepared/xnli/{code}", {**spec, "fingerprint": "aa"}, **files)


def _cell(
    recipe: str, seed: int, values: dict[str, float], training: dict[str, Any]
) -> dict[str, Any]:
    place, tokens = f"bert/{recipe}/seed-{seed}", "data/tokens/bert/xnli/en"
    start = "models/bert/base"
    training = {**training, "seed": seed}
    account = json.dumps({"steps": 7, "restarts": [], "collapsed": []})
    if recipe != "none":
        spec = {"stage": "intermediate", **training, "inputs": {"model": start, "tokens": [tokens]}}
        start = publish(f"checkpoints/{place}/intermediate", spec, training__json=account)
    spec = {"stage": "finetune", **training, "inputs": {"model": start, "tokens": [tokens]}}
    checkpoint = publish(f"checkpoints/{place}/mnli", spec, training__json=account)
    gold = [f"data/prepared/xnli/{code}" for code in values]
    inputs = {"checkpoint": checkpoint, "prepared": gold, "testset": "data/testsets/bert/xnli"}
    codes = {"target": "xnli", "languages": list(values)}
    files = {f"{code}__jsonl": _lines(value) for code, value in values.items()}
    publish(f"predictions/{place}/xnli", {"stage": "evaluate", **codes, "inputs": inputs}, **files)
    rows = [
        {"language": code, "metric": "accuracy", "value": value, "n": 3, "split": "test"}
        for code, value in values.items()
    ]
    content = {"target": "xnli", "metric": "accuracy", "rows": rows, "layers": {}}
    inputs = {"predictions": f"predictions/{place}/xnli", "gold": gold}
    spec = {"stage": "score", **codes, "metric": "accuracy", "inputs": inputs}
    text = json.dumps(content, indent=1) + "\n"
    scores = publish(f"scores/{place}/xnli", spec, scores__json=text)
    return {"model": "bert", "recipe": recipe, "seed": seed, "target": "xnli", "scores": scores}


def _lines(value: float) -> str:
    """Three predictions, of which the first depends on the score."""
    found = (str(value), "no", "no")
    lines = [{"id": f"test-{number}", "prediction": text} for number, text in enumerate(found)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _tables(cells: list[dict[str, Any]], values: dict[tuple[str, int], dict[str, float]]) -> None:
    target = {"name": "xnli", "metric": "accuracy", "group": "nli", "languages": ["en", "de"]}
    spec = {
        "stage": "aggregate",
        "source_language": "en",
        "languages": [{"code": "en"}, {"code": "de"}],
        "recipes": ["none", "mnli"],
        "targets": [target],
        "cells": cells,
        "inputs": {"scores": [cell["scores"] for cell in cells]},
    }
    text = (
        "model,recipe,languages,target,mean,sd,seeds,change\n"
        "bert,none,all,xnli,76.0,1.4142135623730951,2,\n"
        "bert,mnli,all,xnli,81.0,1.4142135623730951,2,5.0\n"
        "bert,mnli,all,xnli,81.5,1.4142135623730951,2,5.5\n"
        "bert,mnli,all,unknown,81.5,,2,\n"
    )
    publish("tables", spec, overview__csv=text, scores__csv=_scores(values))
    text = "model,recipe,target,gain\nbert,mnli,xnli,5.0\n,,,1\n"
    publish("analysis", {**spec, "stage": "analyse"}, gains__csv=text)


def _scores(values: dict[tuple[str, int], dict[str, float]]) -> str:
    lines = ["model,recipe,seed,target,language,metric,value,n"]
    for (recipe, seed), found in values.items():
        lines += [
            f"bert,{recipe},{seed},xnli,{code},accuracy,{value},3" for code, value in found.items()
        ]
    return "\n".join(lines) + "\n"
