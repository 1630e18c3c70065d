"""Tiny decoders: bases, prompts and specs, beside those of `tiny`, in the working directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tiny import (
    CLS,
    MLM,
    PAD,
    SEP,
    SETTINGS,
    SPLITS,
    VOCAB,
    training_spec,
    write_base,
    write_tokens,
)
from xstilts.artifacts.publish import publishing

BASE = "models/tiny-llama/base"
TEXT = ["tokens/text-qaa"]
LORA = {"rank": 4, "alpha": 8.0}


def prompted_arrays(units: int, seed: int) -> dict[str, Any]:
    """Rows of a context and an answer of one or two sub-words, the first told by the context."""
    rng = np.random.default_rng(seed)
    contexts, answers = rng.integers(4, 9, units), rng.integers(1, 3, units)
    offsets = np.concatenate([[0], np.cumsum(contexts + answers)])
    ids = rng.integers(10, VOCAB, offsets[-1])
    ids[offsets[:-1]] = CLS
    labels = ids[offsets[:-1] + 1] % 3
    ids[offsets[:-1] + contexts] = 4 + labels
    ids[(offsets[1:] - 1)[answers == 2]] = SEP
    return {
        "input_ids": ids.astype(np.int32),
        "offsets": offsets,
        "starts": contexts.astype(np.int32),
        "choice_offsets": np.arange(units + 1),
        "labels": labels.astype(np.int32),
    }


def write_prompts(out: str, seed: int = 0, splits: dict[str, int] = SPLITS) -> str:
    """Publish a prompts artifact."""
    with publishing(Path(out), {"stage": "prompts", "seed": seed, "inputs": {}}) as draft:
        for number, (split, units) in enumerate(splits.items()):
            arrays = prompted_arrays(units, 100 * seed + number)
            save_file(arrays, draft.folder / f"{split}.safetensors")
        meta = {"format": "prompted", "kind": "choice", "labels": None, "vocab_size": VOCAB}
        meta |= {"pad_id": PAD, "mask_id": -1, "cls_id": CLS, "sep_id": SEP, "max_length": 16}
        (draft.folder / "meta.json").write_text(json.dumps(meta))
    return out


def prompt_spec(text: bool = False, **settings: Any) -> dict[str, Any]:
    """Spec of a training on two prompted tasks, with raw text beside them or not."""
    spec = training_spec({"nli": "prompted", "qa": "prompted"}, TEXT if text else None, **settings)
    for entry in spec["tasks"]:
        entry["head"] = "causal_lm"
    spec["inputs"]["model"] = BASE
    return spec


def pretraining_spec(**settings: Any) -> dict[str, Any]:
    """Spec of a pretraining of a tiny Llama."""
    size = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 24}
    return {
        "stage": "pretrain",
        "model": {"architecture": "llama", "scratch": size, "max_length": 16},
        "seed": 1,
        "settings": SETTINGS | settings,
        "mlm": MLM | {"mask": None},
        "inputs": {"tokens": TEXT},
    }


def write_decoder_world() -> None:
    """A base, prompts of two tasks, and raw text."""
    write_base(BASE, "llama")
    write_prompts("tokens/nli")
    write_prompts("tokens/qa", 1)
    write_tokens(TEXT[0], "masked_lm", splits={"train": 20}, mask_id=-1)
