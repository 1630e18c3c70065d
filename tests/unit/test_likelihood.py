"""Likelihoods of answers: those of the plain forward pass, whatever is read together."""

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from xstilts.data.ragged import Ragged, offsets_of
from xstilts.errors import InputError
from xstilts.evaluation import likelihood
from xstilts.evaluation.likelihood import Answers, Decoder

VOCAB, PAD = 50, 0
CPU = torch.device("cpu")
#: What each architecture needs beside the sizes.
ARCHITECTURES = {
    "apertus": {},
    "bloom": {},
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "smollm3": {"no_rope_layers": [1, 0]},
}


def model_of(architecture: str, seed: int = 0):
    """A decoder of two layers; its weights are large, so that a wrong mask or position shows."""
    torch.manual_seed(seed)
    transformers.logging.set_verbosity_error()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "num_key_value_heads": 2, "vocab_size": VOCAB}
    sizes |= {"max_position_embeddings": 128, "pad_token_id": PAD, "initializer_range": 0.2}
    if architecture == "bloom":
        sizes = {key: value for key, value in sizes.items() if key != "num_key_value_heads"}
    config = AutoConfig.for_model(architecture, **sizes, **ARCHITECTURES[architecture])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def answers_of(questions: list[list[tuple[list[int], int]]]) -> Answers:
    """Questions, each with rows and where their answers start."""
    rows = [row for question in questions for row in question]
    lengths = [len(ids) for ids, _ in rows]
    values = np.concatenate([np.array(ids, dtype=np.int32) for ids, _ in rows])
    starts = np.array([start for _, start in rows], dtype=np.int32)
    return Answers(
        Ragged(values, offsets_of(lengths)), starts, offsets_of(list(map(len, questions)))
    )


def random_questions(count: int, seed: int = 0) -> list[list[tuple[list[int], int]]]:
    """Questions of every kind: long and short contexts, answers that begin before the ends differ,
    choices of one sub-word, equal rows, choices that are the beginning of another one."""
    rng = np.random.default_rng(seed)

    def some(low: int, high: int) -> list[int]:
        return rng.integers(1, VOCAB, rng.integers(low, high)).tolist()

    found = []
    for number in range(count):
        context = some(1, 25)
        kind = number % 5
        ends = [some(1, 2) if kind == 1 else some(1, 9) for _ in range(rng.integers(1, 5))]
        if kind == 2:
            ends.append(ends[0])
        if kind == 3:
            ends.append([*ends[0], 7, 8])
        start = 1 if kind == 4 else len(context)
        found.append([(context + end, start) for end in ends])
    return found


@torch.no_grad()
def plain(model, answers: Answers) -> np.ndarray:
    """The same by one forward pass a row, without padding, cache or sharing."""
    found = []
    for row, start in enumerate(answers.starts):
        ids = answers.rows.values[answers.rows.offsets[row] : answers.rows.offsets[row + 1]]
        tokens = torch.from_numpy(ids.astype(np.int64))
        logs = model(tokens[None]).logits[0].double().log_softmax(-1)
        places = torch.arange(int(start), len(tokens))
        found.append(float(logs[places - 1, tokens[places]].sum()))
    return np.array(found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_as_the_plain_forward_pass(architecture):
    model = model_of(architecture)
    answers = answers_of(random_questions(40))
    wanted = plain(model, answers)
    for budget in (1, 60, 400, 10**6):
        found = Decoder(model, PAD, CPU, budget).loglikelihoods(answers)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5)
    assert len(np.unique(wanted.round(3))) > 60


def counted(decoder: Decoder, monkeypatch) -> dict[str, list[int]]:
    """Sub-words that go through the model, and hidden states that meet the vocabulary."""
    seen: dict[str, list[int]] = {"tokens": [], "logits": []}

    def read(module, inputs, keywords):
        seen["tokens"].append(keywords["input_ids"].numel())

    def scored(module, inputs, logits):
        seen["logits"].append(logits.shape[0])

    decoder.backbone.base_model.register_forward_pre_hook(read, with_kwargs=True)
    decoder.backbone.get_output_embeddings().register_forward_hook(scored)
    return seen


def test_what_choices_share_is_read_once(monkeypatch):
    decoder = Decoder(model_of("llama"), PAD, CPU, 10**6)
    seen = counted(decoder, monkeypatch)
    context = list(range(1, 21))
    ends = [[30, 31, 32], [33, 34, 35], [30, 36, 37]]
    decoder.loglikelihoods(answers_of([[(context + end, 20) for end in ends]]))
    # 20 shared; of each end the last sub-word predicts nothing.
    assert seen == {"tokens": [20, 3 * 2], "logits": [1, 3 * 2]}


def test_choices_of_one_subword_need_one_pass(monkeypatch):
    decoder = Decoder(model_of("llama"), PAD, CPU, 10**6)
    seen = counted(decoder, monkeypatch)
    decoder.loglikelihoods(answers_of([[([*range(1, 11), end], 10) for end in (20, 21, 22)]]))
    assert seen == {"tokens": [10], "logits": [1]}


def test_an_answer_that_begins_before_the_ends_differ_is_scored_once(monkeypatch):
    decoder = Decoder(model_of("llama"), PAD, CPU, 10**6)
    seen = counted(decoder, monkeypatch)
    decoder.loglikelihoods(answers_of([[([*range(1, 11), end, 40], 1) for end in (20, 21)]]))
    assert seen == {"tokens": [10, 2], "logits": [10, 2]}


def test_equal_rows_are_read_once(monkeypatch):
    decoder = Decoder(model_of("llama"), PAD, CPU, 10**6)
    seen = counted(decoder, monkeypatch)
    question = [([1, 2, 3], 1), ([1, 4, 5], 1)]
    found = decoder.loglikelihoods(answers_of([question, question, question[::-1]]))
    assert sum(seen["tokens"]) == 4
    assert found[:2].tolist() == found[2:4].tolist() == found[:3:-1].tolist()
    # The same sub-words with another answer are another row.
    assert len(set(decoder.loglikelihoods(answers_of([[([1, 2, 3], 1)], [([1, 2, 3], 2)]])))) == 2


def test_few_logits_at_a_time_change_nothing(monkeypatch):
    decoder = Decoder(model_of("qwen3"), PAD, CPU, 200)
    answers = answers_of(random_questions(10))
    whole = decoder.loglikelihoods(answers)
    monkeypatch.setitem(likelihood.LOGITS, "cpu", 3 * VOCAB)
    seen = counted(decoder, monkeypatch)
    np.testing.assert_allclose(decoder.loglikelihoods(answers), whole, rtol=1e-6, atol=1e-5)
    assert max(seen["logits"]) == 3


def test_no_batch_exceeds_its_budget(monkeypatch):
    decoder = Decoder(model_of("llama"), PAD, CPU, 100)
    seen = counted(decoder, monkeypatch)
    first = decoder.loglikelihoods(answers_of(random_questions(40)))
    assert max(seen["tokens"]) <= 100
    assert first.tolist() == decoder.loglikelihoods(answers_of(random_questions(40))).tolist()


def test_a_diverged_model_is_named():
    model = model_of("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="row 0 of the answers: its likelihood is not finite"):
        Decoder(model, PAD, CPU, 100).loglikelihoods(answers_of([[([1, 2], 1)]]))
