"""Predictions of sentence retrieval: nearest neighbours (Tatoeba) and mined pairs (BUCC)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from xstilts.artifacts.manifest import check_file
from xstilts.data.tables import read_rows
from xstilts.data.token_store import read_store
from xstilts.evaluation.mining import Mined, Pool, best_threshold, mine, nearest_rows
from xstilts.formats.sentence_retrieval.vectors import Vectors, all_layers, embed
from xstilts.training.model import Model

Lines = list[dict[str, Any]]


def retrieve(model: Model, spec: Mapping[str, Any], index: int, device: torch.device) -> Lines:
    """Prediction lines of one language.

    Tatoeba: for every English sentence the nearest foreign one (R32, R33), and what each hidden
    state would have found. BUCC: pairs mined from the test pools whose score reaches the threshold
    that is best on the dev pairs (R38-R41).

    Args:
        model: The encoder.
        spec: The evaluation's spec; `decode` holds `pooling` and `layer`, a number or `dev`: the
            one that the artifact `inputs.layer` has chosen.
        index: Number of the language.
        device: Where the model is.
    """
    layer = chosen_layer(spec)
    tokens = Path(spec["inputs"]["tokens"][index])
    prepared = Path(spec["inputs"]["prepared"][index])
    layers = [layer] if spec["metric"] == "bucc_f1" else all_layers(model)

    def vectors(part: str) -> Vectors:
        return embed(model, read_store(tokens, part), layers, spec["decode"]["pooling"], device)

    if spec["metric"] == "bucc_f1":
        pools = {
            part: read_pool(prepared, part, vectors(part)[0])
            for part in ("dev.source", "dev.target", "test.source", "test.target")
        }
        dev = mine(pools["dev.source"], pools["dev.target"])
        threshold = best_threshold(dev, gold_pairs(prepared, "dev"))
        found = mine(pools["test.source"], pools["test.target"])
        return _pair_lines(found.at_least(threshold))
    return _nearest(prepared, layer, vectors("test.source"), vectors("test.target"))


def chosen_layer(spec: Mapping[str, Any]) -> int:
    """The hidden state of an evaluation: the study's, or the one that the dev pairs have chosen."""
    layer = spec["decode"]["layer"]
    if layer == "dev":
        path = check_file(Path(spec["inputs"]["layer"]), "layers.json")
        layer = json.loads(path.read_text(encoding="utf-8"))["layer"]
    return int(layer)


def read_pool(prepared: Path, part: str, vectors: Vectors) -> Pool:
    """One side of a split with its sentences' vectors [sentences, hidden]."""
    table = read_rows(prepared, f"{part}.parquet")
    return Pool(table["id"].to_pylist(), table["text"].to_pylist(), vectors)


def gold_pairs(prepared: Path, split: str) -> set[tuple[str, str]]:
    """Gold pairs of a split: (source id, target id)."""
    gold = read_rows(prepared, f"{split}.gold.parquet")
    return set(zip(gold["source_id"].to_pylist(), gold["target_id"].to_pylist(), strict=True))


def _nearest(prepared: Path, layer: int, source: Vectors, target: Vectors) -> Lines:
    ids = read_rows(prepared, "test.source.parquet", ["id"])["id"].to_pylist()
    queries = read_rows(prepared, "test.target.parquet", ["id"])["id"].to_pylist()
    by_layer = [
        [ids[row] for row in nearest_rows(english, foreign).row[:, 0]]
        for foreign, english in zip(source, target, strict=True)
    ]
    return [
        {"id": query, "prediction": found[layer], "layers": list(found)}
        for query, found in zip(queries, zip(*by_layer, strict=True), strict=True)
    ]


def _pair_lines(mined: Mined) -> Lines:
    return [
        {"source_id": source, "target_id": target, "score": float(score)}
        for (source, target), score in zip(mined.pairs, mined.score, strict=True)
    ]
