"""Decoders that are asked in words: the likeliest choice, what is written, pooled hidden states."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from test_likelihood import CPU, PAD, answers_of, model_of, plain
from tokenizers import Tokenizer, decoders, models

from tiny import settings_of_process
from xstilts.artifacts.publish import publishing
from xstilts.data.ragged import Ragged, offsets_of
from xstilts.data.token_store import TokenMeta, TokenStore
from xstilts.errors import InputError
from xstilts.evaluation.generation import Writer
from xstilts.formats.prompted.decode import Predictor
from xstilts.formats.sentence_retrieval.vectors import all_layers, embed
from xstilts.runtime import runtime
from xstilts.training.model import Model

EOS = 2
#: A vocabulary of bytes, as byte-level tokenizers write them: Ġ is a space, Ċ a line break.
WORDS = ["<pad>", "<s>", "</s>", "Ċ", "Ġa", "aĊb", *(f"Ġw{n}" for n in range(44))]
LABELS = ["contradiction", "entailment", "neutral"]
#: Two questions of three choices: ids of a row, start of its answer.
QUESTIONS = [
    [([1, 10, 11, 12, 13, 20], 5), ([1, 10, 11, 12, 13, 21, 22], 5), ([1, 10, 11, 12, 13, 23], 5)],
    [([1, 14, 15, 30, 31], 3), ([1, 14, 15, 32], 3), ([1, 14, 15, 33, 34, 35], 3)],
]
FREE = [[([1, *ids[start:]], 1) for ids, start in question] for question in QUESTIONS]
BYTES = [3, 6, 2, 9, 1, 4]


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    yield
    runtime.cache_clear()


def write_tokenizer(out="models/m/tokenizer", **config) -> str:
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(WORDS)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(WORDS[:3])
    with publishing(Path(out), {"stage": "tokenizer"}) as draft:
        tokenizer.save(str(draft.folder / "tokenizer.json"))
        named = {"eos_token": {"content": "</s>"}} | config
        (draft.folder / "tokenizer_config.json").write_text(json.dumps(named))
    return out


def write_prompts(out: str, kind: str, format_: str, questions=QUESTIONS, free=FREE) -> str:
    asked, bare = answers_of(questions), answers_of(free)
    arrays = {"input_ids": asked.rows.values, "offsets": asked.rows.offsets}
    arrays |= {"starts": asked.starts}
    if kind == "choice":
        arrays |= {"choice_offsets": asked.questions, "bytes": np.array(BYTES, dtype=np.int32)}
        arrays |= {"free_ids": bare.rows.values, "free_offsets": bare.rows.offsets}
        arrays |= {"free_starts": bare.starts}
    meta = {"format": "prompted", "kind": kind, "labels": LABELS, "vocab_size": len(WORDS)}
    meta |= {"pad_id": PAD, "mask_id": -1, "cls_id": 1, "sep_id": EOS, "max_length": 64}
    spec = {"stage": "prompts", "format": format_, "inputs": {"tokenizer": write_tokenizer()}}
    with publishing(Path(out), spec) as draft:
        save_file(arrays, draft.folder / "test.safetensors")
        (draft.folder / "meta.json").write_text(json.dumps(meta))
    return out


def write_rows(out: str, number: int) -> str:
    with publishing(Path(out), {"stage": "prepare"}) as draft:
        ids = [f"test-{row}" for row in range(number)]
        pq.write_table(pa.table({"id": ids}), draft.folder / "test.parquet")
    return out


def predicted(model, decode, format_, number=2, **changes):
    tokens = write_prompts("questions/en", decode["kind"], format_, **changes)
    inputs = {"tokens": [tokens], "prepared": [write_rows("prepared/en", number)]}
    spec = {"format": "prompted", "decode": decode, "inputs": inputs}
    return Predictor(Model(model, {}), spec, CPU).lines(0)


# ---- choices


@pytest.mark.parametrize("main", ["sum", "token", "byte", "pmi"])
def test_a_choice_by_each_likelihood(main):
    model = model_of("llama")
    lines = predicted(model, {"kind": "choice", "main": main}, "multiple_choice")
    sums, free = plain(model, answers_of(QUESTIONS)), plain(model, answers_of(FREE))
    tokens = np.array([1, 2, 1, 2, 1, 3])
    values = {"sum": sums, "token": sums / tokens, "byte": sums / BYTES, "pmi": sums - free}
    for number, line in enumerate(lines):
        own = slice(3 * number, 3 * number + 3)
        assert line["id"] == f"test-{number}"
        assert line["by"] == {name: int(value[own].argmax()) for name, value in values.items()}
        assert line["prediction"] == line["by"][main]
        assert line["loglikelihood"] == pytest.approx(sums[own], abs=2e-5)
        assert line["free"] == pytest.approx(free[own], abs=2e-5)
        assert (line["tokens"], line["bytes"]) == (tokens[own].tolist(), BYTES[own])
    # Otherwise the four would not be told apart.
    assert len({json.dumps([line["by"][name] for line in lines]) for name in values}) > 1


def test_labels_are_predicted_by_name():
    numbers = predicted(model_of("qwen3"), {"kind": "choice", "main": "sum"}, "multiple_choice")
    for out in ("questions/en", "prepared/en"):
        for path in Path(out).iterdir():
            path.unlink()
        Path(out).rmdir()
    decode = {"kind": "choice", "main": "sum"}
    names = predicted(model_of("qwen3"), decode, "sequence_classification")
    assert [line["prediction"] for line in names] == [
        LABELS[line["prediction"]] for line in numbers
    ]


def test_prompts_of_other_examples_are_named():
    with pytest.raises(InputError, match="of other examples than the prepared test split"):
        predicted(model_of("llama"), {"kind": "choice", "main": "sum"}, "multiple_choice", number=3)


# ---- writing


def rows_of(*rows: list[int]) -> Ragged:
    return Ragged(np.concatenate(rows).astype(np.int32), offsets_of([len(row) for row in rows]))


def taught(*answers: list[int]):
    """A llama without attention that writes each answer after its first sub-word, then repeats."""
    model = model_of("llama")
    head = torch.zeros(len(WORDS), len(WORDS))
    for answer in answers:
        for before, after in pairwise(answer):
            head[after, before] = 1.0
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    model.lm_head = torch.nn.Linear(32, len(WORDS), bias=False)
    vectors = torch.nn.functional.normalize(torch.randn(len(WORDS), 32), dim=1) * math.sqrt(32)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(vectors)
        model.lm_head.weight.copy_(head @ vectors)
    return model


def writer(model, budget=10**6) -> Writer:
    return Writer(model, Path(write_tokenizer()), PAD, CPU, budget)


def test_writing_stops_at_the_end_of_the_text_or_the_line():
    ends, breaks, joined = [10, 11, 12, EOS, 13], [14, 15, 3, 16, 17], [18, 19, 5, 20]
    model = taught(ends, breaks, joined, [21, 22, 23, 24, 25, 26], [30, EOS], [31, 3, 32])
    rows = rows_of(*([1, 40, first] for first in (10, 14, 18, 21)), [30], [31])
    # "Ċ" ends the line; what stands before the line break of "aĊb" belongs to the answer.
    assert writer(model).written(rows, 3) == ["w5 w6", "w9", "w13a", "w16 w17 w18", "", ""]


@pytest.mark.parametrize("architecture", ["llama", "bloom", "gemma3_text"])
def test_the_batch_changes_no_answer(architecture):
    model = model_of(architecture)
    rng = np.random.default_rng(0)
    rows = rows_of(*(rng.integers(6, 50, rng.integers(1, 20)).tolist() for _ in range(12)))
    model.generation_config.repetition_penalty = 5.0  # a checkpoint's own settings do not count
    alone = writer(model, 1).written(rows, 6)
    assert writer(model).written(rows, 6) == writer(model, 70).written(rows, 6) == alone
    assert len(set(alone)) > 3
    with torch.no_grad():
        ids = rows.values[: rows.offsets[1]].astype(np.int64).tolist()
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in (EOS, 3, 5):
                break
    told = Tokenizer.from_file("models/m/tokenizer/tokenizer.json").decode(ids[rows.offsets[1] :])
    assert alone[0] == told.split("\n")[0].strip()


def test_lines_of_written_answers():
    rows = [[([1, 40, 10], 3)], [([1, 14], 2)]]
    decode = {"kind": "answer", "max_new_tokens": 3}
    model = taught([10, 11, EOS], [14, 15, 16, 17])
    lines = predicted(model, decode, "question_answering", questions=rows)
    assert lines == [
        {"id": "test-0", "prediction": "w5"},
        {"id": "test-1", "prediction": "w9 w10 w11"},
    ]


def test_questions_without_room_for_an_answer_are_named():
    model = model_of("llama")
    assert model.config.max_position_embeddings == 128
    with pytest.raises(InputError, match="leaves no room for an answer") as error:
        writer(model).written(rows_of([5] * 10, [5] * 121), 8)
    assert "row 1" in str(error.value)


def test_a_tokenizer_without_an_end_is_named():
    write_tokenizer("models/m/endless", eos_token=None)
    with pytest.raises(InputError, match="no token ends a text"):
        Writer(model_of("llama"), Path("models/m/endless"), PAD, CPU, 100)


# ---- retrieval


def test_pooled_hidden_states_of_all_layers(monkeypatch):
    settings_of_process(monkeypatch, json.dumps({"eval_batch_tokens": 30}))
    rng = np.random.default_rng(1)
    rows = rows_of(*(rng.integers(3, 50, length).tolist() for length in (4, 9, 2, 7, 12)))
    meta = TokenMeta("sentence_retrieval", None, PAD, -1, (PAD, 1, EOS), len(WORDS))
    store = TokenStore({"input_ids": rows.values, "offsets": rows.offsets}, meta)
    model = Model(model_of("llama"), {})
    vectors = embed(model, store, all_layers(model), "mean", CPU)
    assert vectors.shape == (3, 5, 32)  # embeddings and two layers
    for row in range(5):
        ids = rows.values[rows.offsets[row] : rows.offsets[row + 1]].astype(np.int64)
        with torch.no_grad():
            states = model.encoder(torch.from_numpy(ids)[None], output_hidden_states=True)
        for layer, state in enumerate(states.hidden_states):
            np.testing.assert_allclose(vectors[layer, row], state[0].mean(0), atol=2e-5)
