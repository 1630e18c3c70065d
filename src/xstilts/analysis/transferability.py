"""The transferability stage: what can be said of a recipe before any fine-tuning.

Of a checkpoint after intermediate training: LogME of its frozen features on a sample of each
target's English training data. Of the data alone: the mean embedding of a sample of each task's
texts, by the base model, which has seen none of them (TextEmb: Vu et al. 2020, arXiv 2005.00770,
3.1). Nothing is trained, and no test data are read.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional

from xstilts.analysis.logme import Moments, logme
from xstilts.artifacts.manifest import check_file
from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import TokenStore, concatenate, read_store
from xstilts.formats.head import Batch, TrainedFormat, trained_format
from xstilts.formats.sentence_retrieval.head import pool
from xstilts.progress import Progress
from xstilts.runtime import runtime
from xstilts.training.batches import micro_batches, mixing_weights
from xstilts.training.checks import check_model
from xstilts.training.model import Model, load_backbone

#: Features [rows, hidden] and labels [rows, columns] of a batch, and how many rows are free.
Labelled = tuple[Tensor, Tensor, int]
_IGNORED = -100


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Measure a checkpoint on the targets' training data, and a recipe's data by themselves.

    Writes `transferability.json`: by the task that each target is fine-tuned on its `logme`, the
    `examples` and `rows` behind it, or `why` there is none; of the recipe's tasks the number of
    examples and the share of the steps. Where the spec names a base model, `embeddings.safetensors`
    holds mean embeddings [hidden]: `target/<task>` of the targets (with the recipe `none`) or
    `task/<task>` of the recipe's tasks.

    Raises:
        InputError: If an input is damaged, or of another tokenizer than the checkpoint.
    """
    inputs, start = spec["inputs"], time.monotonic()
    embedded = _to_embed(spec)
    progress = Progress("transferability", out.as_posix(), len(spec["targets"]) + len(embedded))
    torch.set_num_threads(runtime().threads or 1)
    with publishing(out, spec) as draft:
        lens = _Lens(Path(inputs["checkpoint"]))
        found = {}
        for number, entry in enumerate(spec["targets"], start=1):
            found[entry["name"]] = _evidence(lens, entry, spec)
            progress.step(number, entry["name"])
        content = {"targets": found, "tasks": _mixture(spec)}
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (draft.folder / "transferability.json").write_text(text, encoding="utf-8")
        if embedded:
            if inputs["model"] != inputs["checkpoint"]:
                lens = _Lens(Path(inputs["model"]))
            vectors = {}
            for number, (name, entry) in enumerate(embedded.items(), start=len(found) + 1):
                vectors[name] = _embedding(lens, entry, spec)
                progress.step(number, name)
            save_file(vectors, draft.folder / "embeddings.safetensors")
        draft.record.add(seconds=round(time.monotonic() - start, 2))
    values = [entry["logme"] for entry in found.values() if entry["logme"] is not None]
    progress.done(f"LogME of {len(values)} targets, {len(embedded)} embeddings")


def _to_embed(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Data sets whose mean embeddings are saved, by their names in the file."""
    if "model" not in spec["inputs"]:
        return {}
    if spec["tasks"]:
        return {f"task/{entry['name']}": entry for entry in spec["tasks"]}
    is_base = spec["inputs"]["model"] == spec["inputs"]["checkpoint"]
    return {f"target/{entry['name']}": entry for entry in spec["targets"] if is_base}


# ---- data


class _Sample:
    """Training units of a task, drawn once for all checkpoints: by the spec's seed and its name."""

    def __init__(self, entry: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        folders = [Path(name) for name in entry["tokens"]]
        self.folders = folders
        self.store: TokenStore = concatenate([read_store(folder, "train") for folder in folders])
        self.format: TrainedFormat = trained_format(entry["format"])
        self.lengths = self.format.unit_lengths(self.store)
        units = len(self.lengths)
        rng = np.random.default_rng([spec["seed"], zlib.crc32(entry["name"].encode())])
        self.units = np.sort(rng.permutation(units)[: spec["examples"]])

    def batches(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Batches of similar length; nothing in them is drawn at random."""
        rows, budget = self.format.unit_rows(self.store), runtime().eval_batch_tokens
        for part in micro_batches(self.units, self.lengths, rows, budget):
            yield self.format.collate(self.store, part, np.random.default_rng(0))


class _Lens:
    """A frozen encoder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        backbone = load_backbone(folder, language_model=False)
        self.hidden: int = backbone.config.hidden_size
        self.model = Model(backbone, {}).to(self.device).eval()

    @torch.inference_mode()
    def look(self, sample: _Sample) -> Iterator[tuple[Tensor, Batch]]:
        """Last hidden states [rows, length, hidden] of each batch, and the batch."""
        check_model(self.folder, sample.folders, int(sample.lengths.max(initial=0)))
        for arrays in sample.batches():
            batch = {
                name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()
            }
            yield self.model.encode(batch).float(), batch


def _mixture(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The recipe's tasks: training examples, and share of the steps among them."""
    sizes = []
    for entry in spec["tasks"]:
        metas = [check_file(Path(name), "meta.json").read_text("utf-8") for name in entry["tokens"]]
        sizes.append(sum(json.loads(meta)["splits"]["train"]["examples"] for meta in metas))
    sampling = spec["sampling"]
    weights = mixing_weights(sizes, sampling["exponent"], sampling["cap"]) if sizes else []
    return [
        {
            "name": entry["name"],
            "examples": min(size, sampling["cap"] or size),
            "share": round(weight / sum(weights), 6),
        }
        for entry, size, weight in zip(spec["tasks"], sizes, weights, strict=True)
    ]


def _embedding(
    lens: _Lens, entry: Mapping[str, Any], spec: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Mean over a sample's texts of their mean-pooled last hidden states [hidden]."""
    total, rows = torch.zeros(lens.hidden, dtype=torch.float64), 0
    for hidden, batch in lens.look(_Sample(entry, spec)):
        pooled = pool(hidden, batch["attention_mask"], "mean")
        total += pooled.double().sum(0).cpu()
        rows += len(pooled)
    # Rounding keeps the order of summation out of the written bytes.
    return np.round(total.numpy() / rows, 5).astype(np.float32)


# ---- LogME


def _evidence(lens: _Lens, entry: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    labelled = _LABELLED.get(entry["format"])
    if labelled is None:
        what = "answers in words" if entry["format"] == "prompted" else "pairs"
        return {"logme": None, "why": f"{entry['format']} has {what}, and no labels to explain"}
    sample = _Sample(entry, spec)
    classes = len(sample.store.meta.labels or ())
    parts = (labelled(hidden, batch, classes) for hidden, batch in lens.look(sample))
    moments = _moments(parts, lens)
    content: dict[str, Any] = {"examples": len(sample.units), "rows": moments.rows}
    if classes and int((moments.squares > 0).sum()) < 2:
        return {**content, "logme": None, "why": "all examples of the sample have the same label"}
    value = logme(moments)
    if value is None:
        return {**content, "logme": None, "why": "the sample has no label"}
    return {**content, "logme": round(value, 6)}


def _moments(parts: Iterator[Labelled], lens: _Lens) -> Moments:
    """Sums over all batches, in double precision."""
    rows = 0
    sums: list[Tensor] | None = None
    for features, labels, free in parts:
        f, y = features.double(), labels.double()
        found = [f.T @ f, f.T @ y, (y * y).sum(0)]
        sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
        rows += free
    assert sums is not None  # no training set is empty
    gram, cross, squares = (one.cpu().numpy() for one in sums)
    return Moments(rows, gram, cross, squares)


def _classes(features: Tensor, labels: Tensor, classes: int) -> Labelled:
    """A column of zeros and ones per class."""
    return features, functional.one_hot(labels, classes), len(features)


def _classified(hidden: Tensor, batch: Batch, classes: int) -> Labelled:
    """A row per text: the mean over its sub-words."""
    return _classes(pool(hidden, batch["attention_mask"], "mean"), batch["labels"], classes)


def _tagged(hidden: Tensor, batch: Batch, classes: int) -> Labelled:
    """A row per word: its first sub-word."""
    known = batch["labels"] != _IGNORED
    return _classes(hidden[known], batch["labels"][known], classes)


def _chosen(hidden: Tensor, batch: Batch, classes: int) -> Labelled:
    """A row per choice, less the mean of its question's: a softmax over them sees nothing else.

    Each question loses a degree of freedom: these are the sums of so many orthonormal contrasts.
    """
    pooled = pool(hidden, batch["attention_mask"], "mean").double()
    example, choice = batch["cell"].unbind(1)
    right = (choice == batch["labels"][example]).double()[:, None]
    free = len(pooled) - len(batch["labels"])
    return _centred(pooled, example), _centred(right, example), free


def _centred(values: Tensor, group: Tensor) -> Tensor:
    """Rows less the mean of their group."""
    count = torch.bincount(group).to(values.dtype)[:, None]
    sums = torch.zeros(len(count), values.shape[1], dtype=values.dtype, device=values.device)
    return values - (sums.index_add(0, group, values) / count)[group]


def _answered(hidden: Tensor, batch: Batch, classes: int) -> Labelled:
    """A row per sub-word at which an answer may begin or end, as the head of fine-tuning has it.

    Two columns, like the head's outputs: the answer starts here, it ends here.
    """
    allowed = batch["allowed"].bool()
    place = torch.arange(hidden.shape[1], device=hidden.device)
    columns = [place == batch[side][:, None] for side in ("start", "end")]
    features = hidden[allowed]
    return features, torch.stack(columns, dim=-1)[allowed], len(features)


_LABELLED: Mapping[str, Callable[[Tensor, Batch, int], Labelled]] = {
    "sequence_classification": _classified,
    "token_classification": _tagged,
    "multiple_choice": _chosen,
    "question_answering": _answered,
}
