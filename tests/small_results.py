"""The finished results of a small study, made in a moment: for tests of what reads them.

Scores come from statistics with chosen shares of right answers, through the real scoring and the
real tables; artifacts are published with real manifests, and hold a line of text where no test
reads their bytes. The study has two models, four recipes, four targets, four languages and two
seeds. Made to be odd: a cell is missing, a training has collapsed, a test set is small, one
recipe changes nothing, a target has no `none`.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from xstilts.analysis.answer import Answer, Column, Figure, Table, write_answer
from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files
from xstilts.artifacts.publish import input_manifests, publishing
from xstilts.evaluation.metrics.table import METRICS
from xstilts.evaluation.score import score_rows

MODELS = {
    "big-encoder": {"title": "Big Encoder", "kind": "encoder", "layers": 2, "parameters": 1500000},
    "own": {"title": "Own <small> model", "kind": "encoder", "layers": 1, "parameters": None},
}
RECIPES = {
    "none": {"tasks": [], "mlm": False, "translate": []},
    "mnli": {"tasks": ["mnli"], "mlm": False, "translate": []},
    "qqp": {"tasks": ["qqp"], "mlm": False, "translate": []},
    "two": {"tasks": ["mnli", "qqp"], "mlm": True, "translate": []},
}
LANGUAGES = [
    {"code": "en", "name": "English", "script": "Latn", "family": "Indo-European"},
    {"code": "de", "name": "German", "script": "Latn", "family": "Indo-European"},
    {"code": "sw", "name": "Swahili", "script": "Latn", "family": "Niger-Congo"},
    {"code": "zh", "name": "Chinese", "script": "Hans", "family": "Sino-Tibetan"},
]
TARGETS = [
    ("xnli", "XNLI", "accuracy", "classification", "nli", ["mnli"], ["en", "de", "sw", "zh"]),
    ("pawsx", "PAWS-X", "accuracy", "classification", "paraphrase", ["pawsx"], ["en", "de", "zh"]),
    ("xquad", "XQuAD", "squad_f1", "qa", "qa", ["squad"], ["en", "de", "zh"]),
    ("tatoeba", "Tatoeba", "tatoeba_accuracy", "retrieval", "bitext", [], ["de", "sw", "zh"]),
]
SEEDS = [1, 2]
#: Right answers on XNLI in English of `none`; the others follow from it.
BASE = {"xnli": 0.80, "pawsx": 0.90, "xquad": 0.70, "tatoeba": 0.50}
FALL = {"en": 0.0, "de": -0.05, "zh": -0.12, "sw": -0.20}
GAIN = {"none": 0.0, "mnli": 0.04, "qqp": 0.0, "two": -0.12}
SETTINGS = {
    "learning_rate": 1e-05,
    "batch_size": 32,
    "epochs": 3.0,
    "max_steps": None,
    "warmup": 0.1,
    "warmup_steps": None,
    "weight_decay": 0.01,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-08,
    "max_grad_norm": 1.0,
    "dropout": 0.1,
    "precision": "bf16",
    "select": "best",
    "evaluate_every": 1000,
    "restarts": 0,
}


def make_results():
    """Make all artifacts below the working directory; the report's spec."""
    cells, checkpoints = [], []
    targets = [_target(*row) for row in TARGETS]
    for target in targets:
        for code in target["languages"]:
            _data(target["name"], code)
    for code in ("mnli", "qqp", "squad"):
        _data(code, "en")
    for model in MODELS:
        checkpoints += _model(model, targets)
        for recipe in RECIPES:
            for seed in SEEDS:
                _column(model, recipe, seed, targets, cells, checkpoints)
    grid = _grid(targets, cells)
    inputs = {
        "scores": [cell["scores"] for cell in cells],
        "layers": [],
        "checkpoints": list(dict.fromkeys(checkpoints)),
    }
    _check(targets)
    _distances()
    from xstilts.analysis.aggregate import run

    run({"stage": "aggregate", **grid, "inputs": inputs}, Path("tables"))
    names = _answers()
    return {
        "stage": "report",
        "assets": "0",
        **grid,
        "questions": names,
        "tasks": {"mnli": {"title": "MNLI", "datasets": ["mnli"]}},
        "datasets": {"xnli": {"title": "XNLI", "licence": "CC-BY-NC-4.0", "notes": "Old & good."}},
        "inputs": {
            **inputs,
            "tables": "tables",
            "analysis": "analysis",
            "check": "data/check",
            "distances": [f"distances/{model}" for model in MODELS],
        },
    }


def _target(*row):
    keys = ("name", "title", "metric", "group", "kind", "train", "languages")
    return dict(zip(keys, row, strict=True))


def _grid(targets, cells):
    return {
        "study": "small",
        "source_language": "en",
        "models": MODELS,
        "recipes": RECIPES,
        "seeds": SEEDS,
        "targets": targets,
        "languages": LANGUAGES,
        "bootstrap": {"samples": 200, "seed": 1},
        "cells": cells,
    }


def publish(out, spec, **files):
    """Publish an artifact with files of text; without waiting for the disk, as there are many."""
    folder = Path(out)
    folder.mkdir(parents=True)
    for name, content in (files or {"content": out}).items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    manifest = Manifest(out, spec, input_manifests(spec), describe_files(folder))
    (folder / MANIFEST).write_text(manifest.to_json())
    (folder / "provenance.json").write_text('{"versions": {"python": "3.11.7"}}')
    return out


def _data(dataset, code):
    lock = {"revision": "0123456789abcdef" * 2, "files": {}}
    source = {"kind": "hub", "hub": f"someone/{dataset}"}
    fetch = {"stage": "fetch", "dataset": dataset, "lock": lock, "source": source, "inputs": {}}
    raw = publish(f"data/raw/{dataset}/{code}", fetch)
    spec = {"stage": "prepare", "dataset": dataset, "language": code, "inputs": {"raw": raw}}
    publish(f"data/prepared/{dataset}/{code}", {**spec, "fingerprint": "aa"})


def _model(model, targets):
    found = []
    tokenizer = publish(f"models/{model}/tokenizer", {"stage": "tokenizer", "inputs": {}})
    sets = [(t["name"], code) for t in targets for code in t["languages"]]
    sets += [(name, "en") for name in ("mnli", "pawsx", "qqp", "squad")]
    for dataset, code in dict.fromkeys(sets):
        qa = dataset in ("xquad", "squad")
        spec = {
            "stage": "tokens",
            "format": "question_answering" if qa else "sequence_classification",
            "encoding": {"max_length": 128, "max_query_length": 32, "doc_stride": 64},
            "inputs": {"prepared": f"data/prepared/{dataset}/{code}", "tokenizer": tokenizer},
        }
        publish(f"data/tokens/{model}/{dataset}/{code}", spec)
    if MODELS[model]["parameters"]:
        row = {"name": model, "hub": "someone/big-encoder"}
        spec = {"stage": "fetch_model", "model": row, "lock": {"revision": "f00d"}, "inputs": {}}
        publish(f"models/{model}/base", spec)
    else:
        inputs = {"tokenizer": tokenizer, "tokens": [f"data/tokens/{model}/mnli/en"]}
        found.append(
            _training(
                f"models/{model}/base",
                "pretrain",
                inputs,
                mlm={"mask": 0.15, "exponent": 0.3},
                model={"scratch": {"hidden": 8, "vocab_size": 100}},
            )
        )
    for target in targets:
        tokens = [f"data/tokens/{model}/{target['name']}/{code}" for code in target["languages"]]
        spec = {"stage": "testset", "inputs": {"tokens": tokens}}
        publish(f"data/testsets/{model}/{target['name']}", spec)
    return found


def _training(out, stage, inputs, tasks=(), **more):
    seed = 1
    names = [{"name": task, "head": task} for task in tasks]
    spec = {"stage": stage, "settings": SETTINGS, "seed": seed, "inputs": inputs, **more}
    spec |= {"tasks": names, "sampling": {"exponent": 0.5, "cap": 1000}} if tasks else {}
    fallen = out == "checkpoints/own/two/seed-2/pawsx"
    collapsed = [{"task": "pawsx", "reason": "one answer", "evidence": "all 100 are 1"}]
    account = {
        "steps": 300,
        "restarts": [],
        "collapsed": collapsed if fallen else [],
        "tasks": [{"name": task, "units": 4000} for task in tasks],
    }
    history = json.dumps({"step": 300, "loss": 0.5, "dev": {task: 0.8 for task in tasks}})
    return publish(out, spec, training__json=json.dumps(account), history__jsonl=history + "\n")


#: A decoder, for tests that add it to `MODELS`: it is asked in words, and trained by adapters.
WRITER = {"title": "Writer", "kind": "decoder", "layers": 2, "parameters": 2000000}
LORA = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": "all-linear", "base": "bf16"}
PROMPT = {
    "name": "nli",
    "version": 3,
    "context": "{{ text_a }}",
    "delimiter": " ",
    "choice": {"yes": "{{ words.yes }}, {{ text_b }}", "no": "{{ words.no }}, {{ text_b }}"},
    "answer": None,
    "free": "",
    "words": {"yes": "Yes", "no": "No"},
}


def _asked(kind, model, dataset, code, splits):
    """Prompts of a data set: two rendered rows of each split, one of them of odd characters."""
    rows = [
        {"id": f"{code}-1", "context": "A <b>", "choices": ["Yes, b", "No, b"], "label": 1},
        {"id": f"{code}-2", "context": "C & d", "choices": ["Yes, e", "No, e"], "label": 0},
    ]
    trained = [
        {"id": row["id"], "context": row["context"], "answer": row["choices"][row["label"]]}
        for row in rows
    ]
    shots = [{"id": "s-1", "text": "Shot <one> Yes, two"}] if kind == "questions" else []
    spec = {
        "stage": "prompts",
        "format": "sequence_classification",
        "dataset": dataset,
        "language": code,
        "splits": splits,
        "prompt": PROMPT,
        "encoding": {"max_length": 96},
        "shots": {"number": 1, "seed": 1, "words": PROMPT["words"]} if shots else None,
        "inputs": {
            "prepared": f"data/prepared/{dataset}/{code}",
            "tokenizer": f"models/{model}/tokenizer",
        },
    }
    examples = {split: rows if kind == "questions" else trained for split in splits}
    files = {"examples__json": json.dumps(examples), "shots__json": json.dumps(shots)}
    out = f"data/{kind}/{model}/{dataset}/{code}"
    return out if Path(out).exists() else publish(out, spec, **files)


def _asked_column(model, recipe, seed, targets, cells, checkpoints):
    """A decoder's cells of XNLI: no fine-tuning, adapters in intermediate training."""
    start, tasks = f"models/{model}/base", RECIPES[recipe]["tasks"]
    if not tasks and seed != SEEDS[0]:
        return
    if tasks:
        tokens = [_asked("prompts", model, task, "en", ["train"]) for task in tasks]
        settings = SETTINGS | {"lora": LORA}
        out = f"checkpoints/{model}/{recipe}/seed-{seed}/intermediate"
        inputs = {"model": start, "tokens": tokens}
        adapter = _training(out, "intermediate", inputs, tasks, settings=settings)
        checkpoints.append(adapter)
        spec = {"stage": "merge", "inputs": {"adapter": adapter, "model": start}}
        start = publish(out.replace("checkpoints", "merged"), spec, training__json='{"steps": 300}')
    target = targets[0]
    for code in target["languages"]:
        _asked("questions", model, target["name"], code, ["test"])
    more = {"format": "prompted", "decode": {"kind": "choice", "main": "pmi"}}
    cells.append(_cell(model, recipe, seed, target, start, "questions", **more))


def _column(model, recipe, seed, targets, cells, checkpoints):
    if MODELS[model]["kind"] == "decoder":
        _asked_column(model, recipe, seed, targets, cells, checkpoints)
        return
    start, tasks = f"models/{model}/base", RECIPES[recipe]["tasks"]
    folder = f"checkpoints/{model}/{recipe}/seed-{seed}"
    if tasks:
        tokens = [f"data/tokens/{model}/{task}/en" for task in tasks]
        inputs = {"model": start, "tokens": tokens}
        start = _training(f"{folder}/intermediate", "intermediate", inputs, tasks)
        checkpoints.append(start)
    for target in targets:
        checkpoint, name = start, target["name"]
        if recipe == "none" and not target["train"] and seed != SEEDS[0]:
            continue
        if (model, recipe, seed, name) == ("own", "qqp", 2, "xquad"):
            continue  # a missing cell
        if (model, recipe, name) == ("own", "none", "pawsx"):
            continue  # a target without `none`
        if target["train"]:
            (task,) = target["train"]
            inputs = {"model": start, "tokens": [f"data/tokens/{model}/{task}/en"]}
            checkpoint = _training(f"{folder}/{task}", "finetune", inputs, [task])
            checkpoints.append(checkpoint)
        cells.append(_cell(model, recipe, seed, target, checkpoint))


def _cell(model, recipe, seed, target, checkpoint, kind="tokens", **more):
    name, codes = target["name"], target["languages"]
    place = f"{model}/{recipe}/seed-{seed}/{name}"
    gold = [f"data/prepared/{name}/{code}" for code in codes]
    inputs = {"checkpoint": checkpoint, "testset": f"data/testsets/{model}/{name}"}
    inputs |= {"prepared": gold, "tokens": [f"data/{kind}/{model}/{name}/{c}" for c in codes]}
    decode = {} if target["train"] else {"layer": 1, "pooling": "mean"}
    spec = {"stage": "evaluate", "target": name, "decode": decode, "fingerprint": "bb"}
    spec |= more
    publish(f"predictions/{place}", {**spec, "inputs": inputs})
    metric, statistics = METRICS[target["metric"]], {}
    for code in codes:
        share = BASE[name] + FALL[code] + GAIN[recipe] + 0.01 * seed - 0.1 * (model == "own")
        count = 46 if (name, code) == ("pawsx", "zh") else 200
        right = np.arange(count) < round(share * count)
        columns = [right] * (len(metric.columns) - 1)
        statistics[code] = np.stack([*columns, np.ones(count)], axis=1).astype(float)
    rows = [row for code, counts in statistics.items() for row in score_rows(metric, code, counts)]
    layers = {code: [40.0, 50.0, 45.0] for code in codes} if not target["train"] else {}
    content = {"target": name, "metric": metric.name, "rows": rows, "layers": layers}
    spec = {"stage": "score", "fingerprint": "cc"}
    spec["inputs"] = {"predictions": f"predictions/{place}", "gold": gold}
    files = {"scores__json": json.dumps(content), "statistics__safetensors": save(statistics)}
    publish(f"scores/{place}", spec, **files)
    keys = {"model": model, "recipe": recipe, "seed": seed, "target": name}
    return {**keys, "scores": f"scores/{place}"}


def _check(targets):
    lines = ["dataset,language,split,expected,rows_in,rows,dropped,notes"]
    for target in targets:
        lines += [f"{target['name']},{code},test,,200,200,," for code in target["languages"]]
    text = "\n".join([*lines, "mnli,en,train,392702,392702,392700,no label: 2,"]) + "\n"
    publish("data/check", {"stage": "check", "inputs": {}}, datasets__csv=text)


def _distances():
    row = {"name": "genetic", "title": "Genetic", "meaning": "How far apart in the family tree."}
    measures = [{**row, "source": "lang2vec", "far": "high"}]
    text = "language,genetic\nen,0\nde,0.5\nsw,1\nzh,\n"
    for model in MODELS:
        spec = {"stage": "distances", "inputs": {}}
        files = {"measures__json": json.dumps(measures), "distances__csv": text}
        publish(f"distances/{model}", spec, **files)


def _answers():
    columns = (
        Column("model", "Model", "model"),
        Column("recipe", "Recipe", "recipe"),
        Column("target", "Target", "target"),
        Column("language", "Language", "language"),
        Column("gain", "Gain", "gain"),
        Column("low", "Low", "gain"),
        Column("share", "Share", "number", 3),
        Column("p", "p", "p"),
        Column("n", "Scores", "n"),
        Column("verdict", "Verdict"),
    )
    row = {"model": "own", "recipe": "mnli", "target": "xnli", "language": "sw", "gain": -0.04}
    row |= {"low": None, "share": 0.25, "p": 0.0004, "n": 1200, "verdict": "cannot be told apart"}
    rows = [row, {**row, "recipe": "two", "gain": 12.0, "low": -3.0, "p": None}]

    def draw(figure):
        figure.subplots().plot([0, 1], [0, 1])

    found = [
        Answer(
            "tasks",
            "Which tasks transfer best?",
            ("No recipe can be told apart from none & the rest.", "A second <paragraph>."),
            ("There is one thing that it cannot say.",),
            ("Gains are paired.",),
            (Table("gains", "Gains", columns, rows),),
            (Figure("tasks", "Gains as a line.", "A line that rises.", "gains", draw),),
        ),
        Answer("reasoning", "Do models reason?", cannot=("The study has no such target.",)),
    ]
    with publishing(Path("analysis"), {"stage": "analyse", "inputs": {}}) as draft:
        for answer in found:
            write_answer(answer, draft.folder / answer.question)
    return [answer.question for answer in found]
