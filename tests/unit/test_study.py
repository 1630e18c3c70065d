"""Dev scores of a study's cells."""

import json
from pathlib import Path

import numpy as np
import pytest

from planted import planted_study
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError
from xstilts.evaluation.dev import dev_score_of

SCORES = {("m", recipe, "t"): np.full((2, 3), 50.0) for recipe in ("none", "a")}
DEV = {("m", "none", "t"): [0.5, 0.25], ("m", "a", "t"): [0.75, 0.125]}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_dev_score_is_the_checkpoints():
    study = planted_study(SCORES, dev=DEV)
    assert [study.dev("m", "a", seed, "t") for seed in (1, 2)] == [75.0, 12.5]
    assert study.dev("m", "a", 3, "t") is None


def _scores(history, select="best", head="t", **inputs):
    with publishing(Path("checkpoint"), {"settings": {"select": select}}) as draft:
        lines = "".join(json.dumps({"dev": entry}) + "\n" for entry in history)
        (draft.folder / "history.jsonl").write_text(lines)
    inputs = {"checkpoint": "checkpoint", **inputs}
    with publishing(Path("predictions"), {"head": head, "inputs": inputs}):
        pass
    with publishing(Path("scores"), {"inputs": {"predictions": "predictions"}}):
        pass
    return Path("scores")


def test_the_dev_score_is_of_the_step_that_was_kept():
    history = [{"t": 0.5}, {"t": 0.75}, {"t": 0.25}]
    assert dev_score_of(_scores(history)) == 75
    assert dev_score_of(_scores(history, select="last")) == 25


def test_retrieval_has_the_f1_of_its_dev_pairs_or_none():
    rows = [{"layer": layer, "f1": 10.0 * layer + n} for layer in (0, 1) for n in (0, 2)]
    with publishing(Path("layers"), {}) as draft:
        (draft.folder / "layers.json").write_text(json.dumps({"layer": 1, "rows": rows}))
    assert dev_score_of(_scores([], head=None, layer="layers")) == 11
    assert dev_score_of(_scores([], head=None)) is None


def test_a_changed_training_record_is_an_error():
    scores = _scores([{"t": 0.5}])
    Path("checkpoint/history.jsonl").write_text('{"dev": {"t": 0.9}}\n')
    with pytest.raises(InputError, match=r"history\.jsonl: has other bytes"):
        dev_score_of(scores)


def test_the_dev_score_of_merged_weights_is_their_adapters():
    scores = _scores([{"t": 0.5}, {"t": 0.75}])
    with publishing(Path("merged"), {"inputs": {"adapter": "checkpoint"}}):
        pass
    inputs = {"checkpoint": "merged"}
    with publishing(Path("predictions"), {"head": "t", "inputs": inputs}):
        pass
    assert dev_score_of(scores) == 75
