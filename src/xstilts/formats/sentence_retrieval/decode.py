"""Predictions of sentence retrieval: nearest neighbours (Tatoeba) and mined pairs (BUCC)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.data.tables import read_rows
from xstilts.data.token_store import TokenStore, read_store
from xstilts.evaluation.mining import Mined, Pool, best_threshold, mine, nearest_rows
from xstilts.formats.sentence_retrieval.head import pool
from xstilts.runtime import runtime
from xstilts.training.batches import micro_batches
from xstilts.training.model import Model

Lines = list[dict[str, Any]]


def retrieve(model: Model, spec: Mapping[str, Any], index: int, device: torch.device) -> Lines:
    """Prediction lines of one language.

    Tatoeba: for every English sentence the nearest foreign one (R32, R33). BUCC: pairs mined from
    the test pools whose score reaches the threshold that is best on the dev pairs (R38-R41).

    Args:
        model: The encoder.
        spec: The evaluation's spec; `decode` holds `layer` and `pooling`.
        index: Number of the language.
        device: Where the model is.
    """
    tokens = Path(spec["inputs"]["tokens"][index])
    prepared = Path(spec["inputs"]["prepared"][index])

    def side(split: str, name: str) -> Pool:
        table = read_rows(prepared, f"{split}.{name}.parquet")
        store = read_store(tokens, f"{split}.{name}")
        vectors = embed(model, store, spec["decode"], device)
        return Pool(table["id"].to_pylist(), table["text"].to_pylist(), vectors)

    source, target = side("test", "source"), side("test", "target")
    if spec["metric"] == "bucc_f1":
        dev = mine(side("dev", "source"), side("dev", "target"))
        gold = read_rows(prepared, "dev.gold.parquet")
        ids = zip(gold["source_id"].to_pylist(), gold["target_id"].to_pylist(), strict=True)
        found = mine(source, target).at_least(best_threshold(dev, set(ids)))
        return _pair_lines(found)
    rows = nearest_rows(target.vectors, source.vectors).row[:, 0]
    return [
        {"id": target.ids[query], "prediction": source.ids[row]} for query, row in enumerate(rows)
    ]


def _pair_lines(mined: Mined) -> Lines:
    return [
        {"source_id": source, "target_id": target, "score": float(score)}
        for (source, target), score in zip(mined.pairs, mined.score, strict=True)
    ]


@torch.inference_mode()
def embed(
    model: Model, store: TokenStore, decode: Mapping[str, Any], device: torch.device
) -> NDArray[np.float32]:
    """Sentence vectors [sentences, hidden] from one hidden state.

    Args:
        model: The encoder.
        store: The sentences' sub-words.
        decode: `layer` (0 = embeddings) and `pooling`.
        device: Where the model is.
    """
    encoder, lengths = model.encoder, store.lengths
    vectors = np.empty((store.sequences, encoder.config.hidden_size), dtype=np.float32)
    everything, one = np.arange(store.sequences), np.ones(store.sequences, dtype=np.int64)
    for part in micro_batches(everything, lengths, one, runtime().eval_batch_tokens):
        arrays = store.padded(part)
        batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        states = encoder(**batch, output_hidden_states=True).hidden_states
        hidden = states[decode["layer"]].float()
        vectors[part] = pool(hidden, batch["attention_mask"], decode["pooling"]).cpu().numpy()
    return vectors
