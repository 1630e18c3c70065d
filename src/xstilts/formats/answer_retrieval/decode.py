"""Predictions of answer retrieval: the candidates of a pool, ranked for each query.

The vectors are those of the trained head, or pooled hidden states of an encoder that was trained on
something else (LAReQA with an encoder tuned for question answering). The search is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.data.tables import read_rows
from xstilts.data.token_store import TokenStore, read_store
from xstilts.errors import InputError
from xstilts.evaluation.mining import nearest_rows
from xstilts.evaluation.pools import candidate_ids, gold_of
from xstilts.formats.sentence_retrieval.vectors import embed
from xstilts.runtime import runtime
from xstilts.training.batches import micro_batches
from xstilts.training.model import Model

Lines = list[dict[str, Any]]
Vectors = NDArray[np.float32]

#: Similarities in memory at a time where whole rankings are wanted.
_CELLS = 1 << 22
#: The metric that needs ranks beyond the best candidates.
_WHOLE = "lareqa_map"


class Predictor:
    """A checkpoint and the vectors of the whole pool, which are made once.

    Args:
        model: The encoder, with the head that the spec names.
        spec: The evaluation's spec: `head`, `metric`, `decode` (`top`, and without a head `layer`
            and `pooling`), and the inputs `pool_tokens` and `pool_prepared`: the candidates of all
            languages, whatever languages are evaluated.
        device: Where the model is.
    """

    def __init__(self, model: Model, spec: Mapping[str, Any], device: torch.device) -> None:
        self.model, self.spec, self.device = model, spec, device
        inputs = spec["inputs"]
        self.ids: list[str] = []
        vectors: list[Vectors] = []
        for tokens, prepared in zip(inputs["pool_tokens"], inputs["pool_prepared"], strict=True):
            self.ids += candidate_ids(Path(prepared))
            vectors.append(self._vectors(read_store(Path(tokens), "test.target")))
        # A single pool (Mewsli-X: a million entities) is not copied.
        self.vectors = np.concatenate(vectors) if len(vectors) > 1 else vectors[0]

    def lines(self, index: int) -> Lines:
        """Prediction lines of one language: `id`, `prediction` (the best candidates).

        For LAReQA also `ranks`: rank in the whole ranking, from 1, of each gold candidate.
        """
        inputs, top = self.spec["inputs"], self.spec["decode"]["top"]
        prepared = Path(inputs["prepared"][index])
        ids = read_rows(prepared, "test.source.parquet", ["id"])["id"].to_pylist()
        queries = self._vectors(read_store(Path(inputs["tokens"][index]), "test.source"))
        if self.spec["metric"] != _WHOLE:
            rows = nearest_rows(queries, self.vectors, top).row
            return [
                {"id": id_, "prediction": self._named(best)}
                for id_, best in zip(ids, rows, strict=True)
            ]
        gold = gold_of([prepared, *map(Path, inputs["pool_prepared"])])
        row_of = {id_: row for row, id_ in enumerate(self.ids)}
        return [
            {
                "id": id_,
                "prediction": self._named(order[:top]),
                "ranks": _ranks(order, {name: row_of[name] for name in gold[id_]}),
            }
            for id_, order in zip(ids, rankings(queries, self.vectors), strict=True)
        ]

    def _named(self, rows: NDArray[np.int64]) -> list[str]:
        return [self.ids[row] for row in rows]

    def _vectors(self, store: TokenStore) -> Vectors:
        """Vectors [sequences, hidden] of one side."""
        head, decode = self.spec["head"], self.spec["decode"]
        if head is None:
            layers = [decode["layer"]]
            found: Vectors = embed(self.model, store, layers, decode["pooling"], self.device)[0]
            return found
        return head_vectors(self.model, head, store, self.device)


@torch.inference_mode()
def head_vectors(model: Model, head: str, store: TokenStore, device: torch.device) -> Vectors:
    """Vectors [sequences, hidden] that a trained head makes of single sequences."""
    vectors = np.empty((store.sequences, model.encoder.config.hidden_size), dtype=np.float32)
    everything, one = np.arange(store.sequences), np.ones(store.sequences, dtype=np.int64)
    for part in micro_batches(everything, store.lengths, one, runtime().eval_batch_tokens):
        arrays = store.padded(part)
        batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        vectors[part] = model(batch, head)[0].cpu().numpy()
    return vectors


def rankings(queries: Vectors, pool: Vectors) -> Iterator[NDArray[np.int64]]:
    """All rows of a pool by falling cosine to each query, the first row first where they tie.

    Args:
        queries: [queries, width].
        pool: [candidates, width].

    Raises:
        InputError: If a value is not finite.
    """
    x, y = _unit(queries), _unit(pool)
    step = max(1, _CELLS // len(y))
    for start in range(0, len(x), step):
        yield from np.argsort(-(x[start : start + step] @ y.T), axis=1, kind="stable")


def _unit(vectors: Vectors) -> Vectors:
    """Vectors [rows, width] of length 1; a zero vector stays zero."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(length).all():
        raise InputError(
            f"vector {int(np.argmin(np.isfinite(length)))}",
            "is not finite",
            expected="numbers",
            hint="The checkpoint diverged; train it again with a lower learning rate",
        )
    units: Vectors = (vectors / np.maximum(length, np.finfo(np.float64).tiny)).astype(np.float32)
    return units


def _ranks(order: NDArray[np.int64], rows: Mapping[str, int]) -> dict[str, int]:
    """Rank, from 1, of some rows in a ranking."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    return {id_: int(rank[row]) for id_, row in rows.items()}
