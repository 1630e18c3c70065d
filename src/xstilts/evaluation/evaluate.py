"""The evaluate stage: one process loads a checkpoint and predicts every language of a target."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.spec import canonical, sha256_text
from xstilts.data.token_store import TokenMeta, read_store
from xstilts.errors import InputError
from xstilts.formats.head import Batch, trained_format
from xstilts.progress import Progress
from xstilts.runtime import runtime
from xstilts.training.batches import micro_batches
from xstilts.training.checks import check_tokenizer
from xstilts.training.model import Model, load_backbone, load_head

Lines = list[dict[str, Any]]


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Predict the test split of every language; only what no earlier run has predicted.

    The spec names the target, its format, the checkpoint's head, the languages, and the tokens and
    prepared rows of each language. The artifact holds one `<language>.jsonl` each.
    """
    progress = Progress("evaluate", out.as_posix(), len(spec["languages"]))
    predictor: _Predictor | None = None
    kept, predicted, seconds = _Kept(spec, out), 0, 0.0
    with publishing(out, spec) as draft:
        for index, language in enumerate(spec["languages"]):
            path = draft.folder / f"{language}.jsonl"
            if not kept.restore(index, path):
                predictor = predictor or _Predictor(spec)
                start = time.monotonic()
                _write(path, predictor.predict(index))
                seconds += time.monotonic() - start
                kept.keep(index, path)
                predicted += 1
            progress.step(index + 1, language)
        draft.record.add(predicted=predicted, seconds=round(seconds, 2))
        kept.forget_others()
    progress.done(f"{predicted} of {len(spec['languages'])} languages predicted")


def _write(path: Path, lines: Lines) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


class _Kept:
    """Predictions of earlier runs, by what decides them; a rerun deletes outputs but not these."""

    def __init__(self, spec: Mapping[str, Any], out: Path) -> None:
        self.spec = spec
        self.folder = runtime().state / out
        self.folder.mkdir(parents=True, exist_ok=True)
        self.names: set[str] = set()

    def _key(self, index: int) -> str:
        inputs = self.spec["inputs"]
        own = {key: value for key, value in self.spec.items() if key not in ("languages", "inputs")}
        read = [inputs["checkpoint"], inputs["tokens"][index], inputs["prepared"][index]]
        read += [inputs["layer"]] if "layer" in inputs else []
        read += [*inputs.get("pool_tokens", ()), *inputs.get("pool_prepared", ())]
        own["read"] = [sha256_file(Path(name) / MANIFEST) for name in read]
        return f"{self.spec['languages'][index]}-{sha256_text(canonical(own))[:32]}"

    def restore(self, index: int, path: Path) -> bool:
        """Put the kept predictions of a language in their place, if there are any, unchanged."""
        name = self._key(index)
        self.names.add(name)
        kept, check = self.folder / f"{name}.jsonl", self.folder / f"{name}.sha256"
        if not (kept.exists() and check.exists()):
            return False
        shutil.copyfile(kept, path)
        return sha256_file(path) == check.read_text(encoding="utf-8")

    def keep(self, index: int, path: Path) -> None:
        """Keep the predictions of a language for later runs."""
        name = self._key(index)
        draft = self.folder / f".{name}.{os.getpid()}.tmp"
        shutil.copyfile(path, draft)
        (self.folder / f"{name}.sha256").write_text(sha256_file(draft), encoding="utf-8")
        draft.rename(self.folder / f"{name}.jsonl")

    def forget_others(self) -> None:
        """Remove what belongs to other checkpoints, tokens or settings."""
        for path in self.folder.iterdir():
            if path.name.rsplit(".", 1)[0] not in self.names:
                path.unlink()


class _Predictor:
    """A checkpoint in memory."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        torch.set_num_threads(runtime().threads or 1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = Path(spec["inputs"]["checkpoint"])
        # Loaded by name: an edit of one format's rules predicts no other format again.
        self.decoder = importlib.import_module(f"xstilts.formats.{spec['format']}.decode")
        language_model = getattr(self.decoder, "LANGUAGE_MODEL", False)
        backbone = load_backbone(folder, language_model=language_model)
        check_tokenizer(folder, Path(spec["inputs"]["tokens"][0]), backbone.config.vocab_size)
        heads, self.head = {}, spec["head"]
        if self.head:
            heads[self.head], self.known = load_head(folder, self.head, backbone.config, 0.0)
        self.model = Model(backbone, heads).to(self.device).eval()
        self.own: Any = None  # a format's own predictor: it may hold what all languages share

    @torch.inference_mode()
    def predict(self, index: int) -> Lines:
        """Prediction lines of one language, in the order of its test split."""
        if hasattr(self.decoder, "Predictor"):
            self.own = self.own or self.decoder.Predictor(self.model, self.spec, self.device)
            made: Lines = self.own.lines(index)
            return made
        if self.head is None:
            lines: Lines = self.decoder.retrieve(self.model, self.spec, index, self.device)
            return lines
        return self._classify(index, self.decoder)

    def _classify(self, index: int, decoder: Any) -> Lines:
        from xstilts.data.tables import read_rows

        spec = self.spec
        store = read_store(Path(spec["inputs"]["tokens"][index]), "test")
        wanted = ["id", "context"] if spec["format"] == "question_answering" else ["id"]
        prepared = Path(spec["inputs"]["prepared"][index])
        rows = read_rows(prepared, "test.parquet", wanted).to_pylist()
        labels = self._labels(Path(spec["inputs"]["tokens"][index]), store.meta)
        format_ = trained_format(spec["format"])
        lengths, units = format_.unit_lengths(store), format_.unit_rows(store)
        found: list[Any] = [None] * len(lengths)
        everything = np.arange(len(lengths))
        for part in micro_batches(everything, lengths, units, runtime().eval_batch_tokens):
            arrays = format_.collate(store, part, np.random.default_rng(0))
            batch: Batch = {
                name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()
            }
            scores = self.model(batch, self.head)
            for unit, value in zip(part, decoder.outputs(scores, batch), strict=True):
                found[int(unit)] = value
        values = decoder.predictions(found, store, rows, labels, spec["decode"])
        return [
            {"id": row["id"], "prediction": value} for row, value in zip(rows, values, strict=True)
        ]

    def _labels(self, folder: Path, meta: TokenMeta) -> tuple[str, ...]:
        """Label names in the order of the head's outputs, which need not be the test set's.

        Raises:
            InputError: If the head is of another format, or has labels that the test set has not.
        """
        format_name, labels = self.known
        if format_name != meta.format or set(labels or ()) - set(meta.labels or ()):
            raise InputError(
                f"{folder / 'meta.json'}: {self.spec['target']}",
                f"the head {self.head!r} does not fit this test set",
                expected=f"{format_name} of {', '.join(labels or ('no labels',))}",
                found=f"{meta.format} of {', '.join(meta.labels or ('no labels',))}",
                hint="Give the target's data set the labels of its training task",
            )
        return labels or ()
