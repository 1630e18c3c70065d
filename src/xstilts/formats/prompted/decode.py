"""Predictions of a decoder that is asked in words: the likeliest choice, or what it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.data.ragged import Ragged
from xstilts.data.tables import read_rows
from xstilts.data.token_store import TokenStore, read_store
from xstilts.errors import InputError
from xstilts.evaluation.generation import Writer
from xstilts.evaluation.likelihood import Answers, Decoder
from xstilts.runtime import runtime
from xstilts.training.model import Model

Lines = list[dict[str, Any]]
Floats = NDArray[np.float64]

#: The model is loaded with its language-model head.
LANGUAGE_MODEL = True
#: Decimals of a log-likelihood in a line, as many as single precision has in a sum of some tens.
_DECIMALS = 5


class Predictor:
    """A decoder that is asked one language's questions after the other.

    Args:
        model: The whole language model.
        spec: The evaluation's spec; `decode` holds `kind`: `choice`, with `main`, the likelihood
            that decides (`sum`, `token`, `byte` or `pmi`), or `answer`, with `max_new_tokens`.
        device: Where the model is.
    """

    def __init__(self, model: Model, spec: Mapping[str, Any], device: torch.device) -> None:
        self.model, self.spec, self.device = model, spec, device

    def lines(self, index: int) -> Lines:
        """Prediction lines of one language: `id` and `prediction`.

        Where choices are compared also what each likelihood would choose (`by`), and by choice its
        log-likelihood in nats after the context (`loglikelihood`) and without it (`free`), its
        sub-words and its bytes.

        Raises:
            InputError: If prompts and prepared rows are not of the same examples.
        """
        inputs = self.spec["inputs"]
        tokens, prepared = Path(inputs["tokens"][index]), Path(inputs["prepared"][index])
        store = read_store(tokens, "test")
        ids = read_rows(prepared, "test.parquet", ["id"])["id"].to_pylist()
        if self.spec["decode"]["kind"] == "answer":
            texts = self._written(store, tokens)
            _check_number(tokens, len(ids), len(texts))
            return [{"id": id_, "prediction": text} for id_, text in zip(ids, texts, strict=True)]
        chosen = self._chosen(store, _names(tokens))
        _check_number(tokens, len(ids), len(chosen))
        return [{"id": id_, **line} for id_, line in zip(ids, chosen, strict=True)]

    def _written(self, store: TokenStore, tokens: Path) -> list[str]:
        """An answer to each question."""
        tokenizer = Path(read_manifest(tokens).spec["inputs"]["tokenizer"])
        budget = runtime().eval_batch_tokens
        writer = Writer(self.model.backbone, tokenizer, store.meta.pad_id, self.device, budget)
        return writer.written(_rows(store, ""), self.spec["decode"]["max_new_tokens"])

    def _chosen(self, store: TokenStore, names: list[str] | None) -> Lines:
        """What is found of each question, without its id."""
        budget = runtime().eval_batch_tokens
        decoder = Decoder(self.model.backbone, store.meta.pad_id, self.device, budget)
        asked = _answers(store, "")
        both = decoder.loglikelihoods(Answers.stacked([asked, _answers(store, "free_")]))
        sums, free = np.split(both, 2)
        tokens, sizes = asked.tokens, store.arrays["bytes"].astype(np.int64)
        values = {"sum": sums, "token": sums / tokens, "byte": sums / sizes, "pmi": sums - free}
        found: Lines = []
        for first, stop in pairwise(asked.questions.tolist()):
            # Of equal values the first choice's counts.
            best = {by: int(value[first:stop].argmax()) for by, value in values.items()}
            by = {name: names[place] if names else place for name, place in best.items()}
            line: dict[str, Any] = {"prediction": by[self.spec["decode"]["main"]], "by": by}
            line |= {"loglikelihood": _rounded(sums[first:stop])}
            line |= {"tokens": tokens[first:stop].tolist(), "bytes": sizes[first:stop].tolist()}
            found.append({**line, "free": _rounded(free[first:stop])})
        return found


def _rows(store: TokenStore, prefix: str) -> Ragged:
    ids = store.arrays["input_ids" if not prefix else f"{prefix}ids"]
    return Ragged(ids, store.arrays[f"{prefix}offsets"])


def _answers(store: TokenStore, prefix: str) -> Answers:
    """The choices of all questions, after their context or (`free_`) after none."""
    starts = store.arrays[f"{prefix}starts"].astype(np.int64)
    return Answers(_rows(store, prefix), starts, store.arrays["choice_offsets"])


def _names(tokens: Path) -> list[str] | None:
    """Names of the choices where they are labels: predictions are names then, numbers otherwise."""
    if read_manifest(tokens).spec["format"] != "sequence_classification":
        return None
    meta = json.loads(check_file(tokens, "meta.json").read_text(encoding="utf-8"))
    return list(meta["labels"])


def _rounded(values: Floats) -> list[float]:
    rounded: list[float] = values.round(_DECIMALS).tolist()
    return rounded


def _check_number(tokens: Path, wanted: int, found: int) -> None:
    if wanted != found:
        raise InputError(
            str(tokens),
            "the prompts are of other examples than the prepared test split",
            expected=f"{wanted} examples",
            found=str(found),
            hint="Delete the folder and run snakemake again",
        )
