"""The sweep stage: which hidden state mines the dev pairs best (R35).

The choice is made on dev pairs alone (BUCC's sample) and holds for every retrieval target of the
checkpoint; no test pair is looked at.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import read_store
from xstilts.evaluation.mining import best_threshold, mine
from xstilts.formats.sentence_retrieval.decode import gold_pairs, read_pool
from xstilts.formats.sentence_retrieval.vectors import Room, Vectors, all_layers, embed
from xstilts.progress import Progress
from xstilts.runtime import runtime
from xstilts.training.model import Model, load_backbone

Row = dict[str, Any]


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Mine the dev pairs of every language with every hidden state; name the best one.

    Writes `layers.json`: the chosen `layer` (highest mean F1 over the languages, of equal ones the
    lowest), and `rows`: language, layer, F1 in percent, threshold.
    """
    progress = Progress("sweep", out.as_posix(), len(spec["languages"]))
    torch.set_num_threads(runtime().threads or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(spec["inputs"]["checkpoint"])
    model = Model(load_backbone(folder, language_model=False), {}).to(device).eval()
    rows: list[Row] = []
    start = time.monotonic()
    with publishing(out, spec) as draft:
        for index, language in enumerate(spec["languages"]):
            rows += [{"language": language, **row} for row in _language(model, spec, index, device)]
            progress.step(index + 1, language)
        means = [
            fmean(row["f1"] for row in rows if row["layer"] == layer) for layer in all_layers(model)
        ]
        draft.record.add(seconds=round(time.monotonic() - start, 2))
        best = int(np.argmax(means))
        content = {"target": spec["target"], "layer": best, "rows": rows}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (draft.folder / "layers.json").write_text(text, encoding="utf-8")
    progress.done(f"hidden state {best} of {len(means) - 1}, dev F1 {means[best]:.2f}")


def _language(
    model: Model, spec: Mapping[str, Any], index: int, device: torch.device
) -> Iterator[Row]:
    tokens = Path(spec["inputs"]["tokens"][index])
    prepared = Path(spec["inputs"]["prepared"][index])
    gold = gold_pairs(prepared, "dev")
    with _room() as room:
        source, target = (
            embed(model, read_store(tokens, part), all_layers(model), spec["pooling"], device, room)
            for part in ("dev.source", "dev.target")
        )
        for layer in all_layers(model):
            mined = mine(
                read_pool(prepared, "dev.source", np.array(source[layer])),
                read_pool(prepared, "dev.target", np.array(target[layer])),
            )
            threshold = best_threshold(mined, gold)
            found = set(mined.at_least(threshold).pairs)
            f1 = 200.0 * len(found & gold) / (len(found) + len(gold))
            yield {"layer": layer, "f1": f1, "threshold": threshold}


@contextmanager
def _room() -> Iterator[Room]:
    """Files for the vectors of all hidden states: BUCC's dev pools would fill a node's memory."""
    state = runtime().state
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sweep-", dir=state) as folder:

        def room(shape: tuple[int, int, int]) -> Vectors:
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)

        yield room
