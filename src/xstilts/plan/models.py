"""Jobs of models: fetched, or pretrained from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xstilts.artifacts.fingerprint import fingerprint
from xstilts.errors import InputError
from xstilts.plan.data import DataJobs
from xstilts.plan.jobs import Job
from xstilts.registry.rows import ModelRow
from xstilts.training.settings import Training
from xstilts.validation import parse


class ModelJobs(DataJobs):
    """A model's tokenizer and its weights."""

    def _model(self, model: ModelRow) -> None:
        described = model.model_dump(
            mode="json", include={"name", "architecture", "hub", "scratch", "layers", "max_length"}
        )
        if model.pad_token:
            described["pad_token"] = model.pad_token
        if model.hub is not None:
            self._hub_model(model, described)
        else:
            self._scratch_model(model, described)

    def _hub_model(self, model: ModelRow, described: dict[str, Any]) -> None:
        lock = self.lock.model(model.name)
        known = (lock or {}).get("files", {})
        index = [name for name in known if name == "model.safetensors.index.json"]
        weights = tuple(index or ["model.safetensors"])
        for stage, out, files in (
            ("tokenizer", "tokenizer", ()),
            ("fetch_model", "base", weights),
        ):
            spec = {"stage": stage, "model": described, "lock": lock, "inputs": {}}
            self._add(Job(stage, f"models/{model.name}/{out}", spec, files=files))

    def _scratch_model(self, model: ModelRow, described: dict[str, Any]) -> None:
        settings = self.study.pretraining
        if settings is None:
            raise InputError(
                f"{self.where}: pretraining",
                f"the key is missing, but model {model.name!r} has no weights",
                hint="Say what it is pretrained on, e.g. pretraining: {corpus: [wikipedia]}",
            )
        corpus = self._corpus(settings.corpus, settings.languages, "pretraining")
        texts = [self._prepared(self.registry.datasets[name], code) for name, code in corpus]
        tokenizer_spec = {
            "stage": "tokenizer",
            "fingerprint": fingerprint("xstilts.data.tokenizer"),
            "model": described,
            "lock": None,
            "training": {"max_lines": settings.max_lines},
            "inputs": {"corpus": texts},
        }
        self._add(Job("tokenizer", f"models/{model.name}/tokenizer", tokenizer_spec))
        parse(Training, settings.training, f"{self.where}: pretraining.training")
        training = self._training(model, "pretraining", (), settings.training)
        spec = {
            "stage": "pretrain",
            "fingerprint": training_code([_text_format(model)]),
            "model": described,
            "seed": settings.seed,
            "settings": training.model_dump(mode="json"),
            "mlm": {
                "exponent": settings.exponent,
                "mask": mask_of(model, settings.mask),
                "learning_rate": None,
                "batch_size": training.batch_size,
            },
            "inputs": {
                "tokenizer": f"models/{model.name}/tokenizer",
                "tokens": [self._tokens(model, name, code) for name, code in corpus],
            },
        }
        self._add(
            Job(
                "pretrain",
                f"models/{model.name}/base",
                spec,
                files=("model.safetensors",),
                threads=training.threads,
            )
        )


def _text_format(model: ModelRow) -> str:
    """What a model learns from raw text."""
    return "masked_lm" if model.kind == "encoder" else "causal_lm"


def mask_of(model: ModelRow, share: float) -> float | None:
    """Share of the sub-words that is masked; a decoder reads them all."""
    return share if model.kind == "encoder" else None


def training_code(formats: Iterable[str]) -> str:
    """Fingerprint of the code of a training on tasks of some formats."""
    heads = [f"xstilts.formats.{name}.head" for name in formats]
    return fingerprint("xstilts.training.stages", *heads)
