"""Tiny tokens, models and specs: every trained format in a second, in the working directory."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import TokenMeta, TokenStore
from xstilts.runtime import VARIABLE, runtime

VOCAB, PAD, MASK, CLS, SEP = 40, 1, 39, 0, 2
LABELS = {
    "sequence_classification": ["yes", "no", "perhaps"],
    "multiple_choice": ["first", "second"],
    "token_classification": ["O", "B-PER", "I-PER"],
}
FORMATS = (
    "sequence_classification",
    "multiple_choice",
    "question_answering",
    "token_classification",
)
SETTINGS = {
    "learning_rate": 0.01,
    "batch_size": 4,
    "max_steps": 12,
    "evaluate_every": 3,
    "micro_batch_tokens": 32,
    "dropout": 0.1,
}
MLM = {"exponent": 0.3, "mask": 0.15, "learning_rate": None, "batch_size": 4}
SPLITS = {"train": 30, "dev": 10, "test": 12}


def settings_of_process(monkeypatch: Any, content: str = "{}") -> None:
    """Give this process other runtime settings."""
    monkeypatch.setenv(VARIABLE, content)
    runtime.cache_clear()


def meta_of(format_name: str) -> TokenMeta:
    labels = LABELS.get(format_name)
    named = tuple(labels) if labels and format_name != "multiple_choice" else None
    return TokenMeta(format_name, named, PAD, MASK, (CLS, PAD, SEP, MASK), VOCAB)


def arrays_of(
    format_name: str, units: int, seed: int, types: bool = False, length: int | None = None
) -> dict[str, Any]:
    """Random flat arrays of one split, with something to be learnt from the tokens."""
    rng = np.random.default_rng(seed)
    choices = rng.integers(2, 4, units) if format_name == "multiple_choice" else np.ones(units, int)
    if format_name == "answer_retrieval":
        choices[:] = 2  # a query and its candidate
    lengths = rng.integers(5, 11, choices.sum())
    if length is not None:
        lengths[:] = length
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(4, MASK, offsets[-1])
    ids[offsets[:-1]], ids[offsets[1:] - 1] = CLS, SEP
    arrays: dict[str, Any] = {"input_ids": ids.astype(np.int32), "offsets": offsets}
    if types:
        arrays["type_ids"] = (ids > 20).astype(np.uint8)
    inner = np.ones(len(ids), bool)
    inner[offsets[:-1]] = inner[offsets[1:] - 1] = False
    if format_name == "sequence_classification":
        arrays["labels"] = (ids[offsets[:-1] + 1] % 3).astype(np.int32)
    elif format_name == "multiple_choice":
        arrays["choice_offsets"] = np.concatenate([[0], np.cumsum(choices)])
        arrays["labels"] = rng.integers(0, choices).astype(np.int32)
    elif format_name == "token_classification":
        arrays["labels"] = np.where(inner, ids % 3, -100).astype(np.int32)
        arrays["words"] = np.where(inner, 0, -1).astype(np.int32)
        arrays["example"] = np.arange(units, dtype=np.int32)
    elif format_name == "question_answering":
        arrays["example"] = (np.arange(units) // 2).astype(np.int32)
        place = np.concatenate([np.arange(length) for length in lengths])
        inside = inner & (place >= 2)  # position 1 is the question
        arrays["char_start"] = np.where(inside, place - 2, -1).astype(np.int32)
        arrays["char_end"] = np.where(inside, place - 1, -1).astype(np.int32)
        arrays["max_context"] = inside.astype(np.uint8)
        start = rng.integers(2, lengths - 1)
        arrays["start"], arrays["end"] = start.astype(np.int32), start.astype(np.int32)
    return arrays


def store_of(format_name: str, units: int = 30, seed: int = 0, types: bool = False) -> TokenStore:
    return TokenStore(arrays_of(format_name, units, seed, types), meta_of(format_name))


def write_tokens(
    out: str,
    format_name: str,
    seed: int = 0,
    types: bool = False,
    splits: dict[str, int] = SPLITS,
    length: int | None = None,
    tokenizer: str | None = None,
    **changes: Any,
) -> str:
    """Publish a tokens artifact; `changes` replace keys of its meta.json."""
    spec = {"stage": "tokens", "format": format_name, "seed": seed, "changes": changes}
    spec["inputs"] = {"tokenizer": tokenizer} if tokenizer else {}
    with publishing(Path(out), spec) as draft:
        for number, (split, units) in enumerate(splits.items()):
            arrays = arrays_of(format_name, units, 100 * seed + number, types, length)
            save_file(arrays, draft.folder / f"{split}.safetensors")
        meta = {"format": format_name, "labels": LABELS.get(format_name), "vocab_size": VOCAB}
        meta |= {"pad_id": PAD, "mask_id": MASK, "cls_id": CLS, "sep_id": SEP, "max_length": 16}
        meta |= {"splits": {split: {"examples": units} for split, units in splits.items()}}
        (draft.folder / "meta.json").write_text(json.dumps(meta | changes))
    return out


def write_prepared(out: str, format_name: str, units: int = SPLITS["test"]) -> str:
    """Publish what evaluation reads of prepared rows."""
    rows = units // 2 if format_name == "question_answering" else units
    columns: dict[str, Any] = {"id": [f"test-{number}" for number in range(rows)]}
    if format_name == "question_answering":
        columns["context"] = ["今天天氣很好。明天下雨"] * rows
    with publishing(Path(out), {"stage": "prepare", "format": format_name}) as draft:
        pq.write_table(pa.table(columns), draft.folder / "test.parquet")
    return out


def write_base(out: str = "models/tiny/base", architecture: str = "xlm-roberta") -> str:
    """Publish a base model with random weights."""
    import torch

    from xstilts.training.model import Model, new_backbone, save_model

    torch.manual_seed(7)
    size = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 24}
    row = {"architecture": architecture, "scratch": size, "max_length": 16}
    backbone = new_backbone(row, VOCAB, PAD, 0.1)
    with publishing(Path(out), {"stage": "fetch_model", "architecture": architecture}) as draft:
        save_model(Model(backbone, {}), draft.folder, {}, whole=True)
    return out


def training_spec(
    tasks: dict[str, str], mlm: list[str] | None = None, **settings: Any
) -> dict[str, Any]:
    """Spec of a training on tasks, each given as name: format; tokens lie in `tokens/<name>`."""
    entries = [
        {
            "name": name,
            "head": name,
            "format": format_name,
            "tokens": [f"tokens/{name}"],
            "batch_size": settings.get("batch_size", 4),
            "negatives": settings.get("negatives"),
        }
        for name, format_name in tasks.items()
    ]
    read = [entry["tokens"][0] for entry in entries] + (mlm or [])
    return {
        "stage": "finetune",
        "tasks": entries,
        "settings": SETTINGS | settings,
        "seed": 3,
        "sampling": {"exponent": 1.0, "cap": None},
        "mlm": {**MLM, "share": 0.3, "tokens": mlm} if mlm else None,
        "heads": {},
        "inputs": {"model": "models/tiny/base", "tokens": read},
    }


def write_world() -> None:
    """Base model and tokens of every format in the working directory."""
    write_base()
    for format_name in FORMATS:
        write_tokens(f"tokens/{format_name}", format_name)
    for seed, code in enumerate(("qaa", "qab")):
        write_tokens(f"tokens/text-{code}", "masked_lm", seed, splits={"train": 20 + 5 * seed})


TEXT = ["tokens/text-qaa", "tokens/text-qab"]


def run_stage(
    folder: Path, spec: dict[str, Any], out: str, settings: str, kill: tuple[int, int]
) -> None:
    """Body of a child process: a training that gets a signal after a step's evaluation."""
    os.chdir(folder)
    os.environ[VARIABLE] = settings
    runtime.cache_clear()
    from xstilts.progress import Progress
    from xstilts.training.stages import fine_tune, pretrain

    def step(self: Progress, step: int, note: str = "") -> None:
        if step == kill[0]:
            os.kill(os.getpid(), kill[1])

    Progress.step = step  # type: ignore[method-assign]
    (pretrain if spec["stage"] == "pretrain" else fine_tune)(spec, Path(out))
