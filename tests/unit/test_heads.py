"""Heads and losses of every format, worked out by hand on tiny tensors."""

from math import exp, inf, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiny import CLS, FORMATS, LABELS, MASK, PAD, SEP, VOCAB, meta_of, store_of
from xstilts.data.token_store import TokenMeta, TokenStore
from xstilts.formats.head import trained_format
from xstilts.formats.sentence_retrieval.head import pool

CONFIG = SimpleNamespace(hidden_size=6, model_type="xlm-roberta")
RNG = np.random.default_rng(0)


def batch_of(format_name: str, ids: list[int]) -> dict[str, torch.Tensor]:
    arrays = trained_format(format_name).collate(store_of(format_name), np.array(ids), RNG)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_shapes(name):
    format_, store = trained_format(name), store_of(name)
    ids = np.array([3, 0, 7])
    batch = batch_of(name, ids.tolist())
    rows, length = batch["input_ids"].shape
    assert rows == format_.unit_rows(store)[ids].sum()
    assert length == format_.unit_lengths(store)[ids].max()
    head = format_.make_head(CONFIG, tuple(LABELS.get(name, ())) or None, 0.0)
    outputs = head(torch.randn(rows, length, 6), batch)
    assert (
        outputs.shape
        == {
            "sequence_classification": (3, 3),
            "multiple_choice": (rows, 1),
            "question_answering": (3, length, 2),
            "token_classification": (3, length, 3),
        }[name]
    )
    summed, count = format_.loss(outputs, batch), format_.terms(batch)
    assert summed.shape == ()
    assert count > 0
    assert torch.isfinite(summed)
    assert format_.dev_sums(outputs, batch, tuple(LABELS.get(name, ()))).shape == (2,)


def test_sequence_classification_by_hand():
    format_ = trained_format("sequence_classification")
    outputs = torch.tensor([[0.0, 0.0, 0.0], [log(2.0), 0.0, 0.0], [0.0, 0.0, log(6.0)]])
    batch = {"labels": torch.tensor([1, 0, 0])}
    summed, count = format_.loss(outputs, batch), format_.terms(batch)
    assert float(summed) == pytest.approx(log(3) + log(2) + log(8))
    assert int(count) == 3
    assert format_.dev_sums(outputs, batch, None).tolist() == [1, 3]


def test_multiple_choice_with_two_and_three_choices():
    format_ = trained_format("multiple_choice")
    batch = {
        "cell": torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]),
        "labels": torch.tensor([1, 2]),
    }
    outputs = torch.tensor([[0.0], [log(3.0)], [0.0], [log(5.0)], [log(4.0)]], requires_grad=True)
    assert format_.scores(outputs, batch).tolist() == [
        [0, pytest.approx(log(3)), -inf],
        [0, pytest.approx(log(5)), pytest.approx(log(4))],
    ]
    summed, count = format_.loss(outputs, batch), format_.terms(batch)
    assert summed.item() == pytest.approx(log(4 / 3) + log(10 / 4))
    assert int(count) == 2
    summed.backward()
    wanted = [1 / 4, -1 / 4, 1 / 10, 5 / 10, -6 / 10]
    assert outputs.grad[:, 0].tolist() == pytest.approx(wanted)
    assert format_.dev_sums(outputs, batch, None).tolist() == [1, 2]


def test_multiple_choice_rows_belong_to_their_example():
    store = store_of("multiple_choice")
    offsets = store.arrays["choice_offsets"]
    batch = batch_of("multiple_choice", [4, 1])
    sequences = [*range(*offsets[4:6]), *range(*offsets[1:3])]
    np.testing.assert_array_equal(
        batch["input_ids"], store.padded(np.array(sequences))["input_ids"]
    )
    sizes = np.diff(offsets)
    assert batch["cell"][:, 0].tolist() == [0] * sizes[4] + [1] * sizes[1]
    assert batch["cell"][:, 1].tolist() == [*range(sizes[4]), *range(sizes[1])]
    lengths = trained_format("multiple_choice").unit_lengths(store)
    assert lengths[4] == store.lengths[offsets[4] : offsets[5]].max()


def test_question_answering_by_hand():
    format_ = trained_format("question_answering")
    allowed = torch.tensor([[True, False, True, True], [True, False, True, False]])
    batch = {
        "start": torch.tensor([2, 0]),
        "end": torch.tensor([3, 0]),
        "allowed": allowed,
    }
    # The question's position has the highest score of all, and does not count.
    start = torch.tensor([[0.0, 99.0, log(2.0), 0.0], [0.0, 99.0, 0.0, 99.0]])
    end = torch.tensor([[0.0, 99.0, 0.0, log(6.0)], [log(3.0), 99.0, 0.0, 99.0]])
    outputs = torch.stack([start, end], dim=-1)
    summed, count = format_.loss(outputs, batch), format_.terms(batch)
    assert float(summed) == pytest.approx((log(2) + log(8 / 6) + log(2) + log(4 / 3)) / 2)
    assert int(count) == 2
    # Both right: the argmax of equal scores is the first.
    assert format_.dev_sums(outputs, batch, None).tolist() == [2, 2]


def test_question_answering_half_a_span():
    format_ = trained_format("question_answering")
    outputs = torch.zeros(3, 5, 2)
    for row, (start, end) in enumerate([(2, 2), (4, 2), (0, 0)]):
        outputs[row, start, 0] = outputs[row, end, 1] = 1
    batch = {
        "start": torch.tensor([2, 2, 2]),
        "end": torch.tensor([3, 3, 3]),
        "allowed": torch.ones(3, 5, dtype=torch.bool),
    }
    # One of two words: F1 2/3, no exact match; an end before its start, and another place: 0.
    assert format_.dev_sums(outputs, batch, None).tolist() == pytest.approx([1 / 3, 3])


def test_question_answering_allows_the_context_and_the_first_token():
    store = store_of("question_answering")
    batch = batch_of("question_answering", [0, 1])
    for row in (0, 1):
        length = int(store.lengths[row])
        wanted = [True, False, *[True] * (length - 3), False]
        assert batch["allowed"][row].tolist()[:length] == wanted
        assert not batch["allowed"][row, length:].any()


def test_token_classification_by_hand():
    format_ = trained_format("token_classification")
    outputs = torch.zeros(2, 3, 3)
    outputs[0, 1, 1], outputs[1, 1, 2], outputs[1, 2, 1] = log(2.0), log(6.0), 50.0
    batch = {"labels": torch.tensor([[-100, 1, 0], [-100, 2, -100]])}
    summed, count = format_.loss(outputs, batch), format_.terms(batch)
    assert float(summed) == pytest.approx(log(2) + log(3) + log(8 / 6))
    assert int(count) == 3
    # Without a label O: accuracy. With it: 2 x right / (predicted + gold) of the other labels.
    assert format_.dev_sums(outputs, batch, ("A", "B", "C")).tolist() == [3, 3]
    assert format_.dev_sums(outputs, batch, ("O", "B", "I")).tolist() == [4, 4]
    outputs[0, 1, 2] = 9.0
    assert format_.dev_sums(outputs, batch, ("O", "B", "I")).tolist() == [2, 4]
    outputs[0, 1, 0] = outputs[1, 1, 0] = 99.0
    assert format_.dev_sums(outputs, batch, ("O", "B", "I")).tolist() == [0, 2]


def test_token_classification_padding_has_no_label():
    store = store_of("token_classification")
    ids = np.argsort(store.lengths)[[0, -1]]
    batch = batch_of("token_classification", ids.tolist())
    short = int(store.lengths[ids[0]])
    assert (batch["labels"][0, short:] == -100).all()
    assert (batch["labels"][:, 0] == -100).all()


def text_store(special: tuple[int, ...], mask: int, vocab: int) -> TokenStore:
    """Every id of the vocabulary in turn, specials too, in rows of unequal length."""
    ids = np.tile(np.arange(vocab), 600).astype(np.int32)
    offsets = np.append(np.arange(0, len(ids), 97), len(ids))
    meta = TokenMeta("masked_lm", None, special[0], mask, special, vocab)
    return TokenStore({"input_ids": ids, "offsets": offsets}, meta)


# XLM-R's mask is the last id and 3 is an ordinary one; BERT's specials stand together, but 0.
@pytest.mark.parametrize(
    ("special", "mask"), [((0, 1, 2, VOCAB - 1), VOCAB - 1), ((0, 21, 22, 23), 23)]
)
def test_masking_rates_and_special_tokens(special, mask):
    store = text_store(special, mask, VOCAB)
    format_ = trained_format("masked_lm", mask=0.15)
    ids = np.arange(store.sequences)
    plain = store.padded(ids)
    batch = format_.collate(store, ids, np.random.default_rng(1))
    before, after, labels = plain["input_ids"], batch["input_ids"], batch["labels"]
    is_special = np.isin(before, special) | (plain["attention_mask"] == 0)
    chosen = labels != -100
    assert not (chosen & is_special).any()
    assert (after[is_special] == before[is_special]).all()
    assert (after[~chosen] == before[~chosen]).all()
    assert (labels[chosen] == before[chosen]).all()
    count = chosen.sum()
    assert abs(count / (~is_special).sum() - 0.15) < 0.01
    masked = (after == mask) & chosen
    kept = (after == before) & chosen
    changed = chosen & ~masked & ~kept
    assert abs(masked.sum() / count - 0.8) < 0.02
    # One random id in 36 is the old one.
    assert abs(kept.sum() / count - (0.1 + 0.1 / 36)) < 0.02
    assert abs(changed.sum() / count - (0.1 - 0.1 / 36)) < 0.02
    ordinary = set(range(VOCAB)) - set(special)
    assert set(after[changed]) == ordinary


def test_masking_is_a_function_of_its_generator_and_changes_no_store():
    store = text_store((0, 1, 2, 39), 39, VOCAB)
    format_, ids, original = trained_format("masked_lm"), np.arange(9), store.arrays["input_ids"]
    before = original.copy()
    one, two, three = (format_.collate(store, ids, np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(one["input_ids"], two["input_ids"])
    assert (one["input_ids"] != three["input_ids"]).any()
    np.testing.assert_array_equal(original, before)


def test_masking_always_asks_something_where_it_can():
    store = TokenStore(
        {"input_ids": np.array([0, 9, 2], np.int32), "offsets": np.array([0, 3])},
        meta_of("masked_lm"),
    )
    for seed in range(20):
        batch = trained_format("masked_lm").collate(
            store, np.array([0]), np.random.default_rng(seed)
        )
        assert batch["labels"].tolist() == [[-100, 9, -100]]
    only_specials = TokenStore(
        {"input_ids": np.array([CLS, PAD, SEP, MASK], np.int32), "offsets": np.array([0, 4])},
        meta_of("masked_lm"),
    )
    batch = trained_format("masked_lm").collate(only_specials, np.array([0]), RNG)
    assert (batch["labels"] == -100).all()


def test_masked_lm_loss_by_hand():
    format_ = trained_format("masked_lm")
    batch = {"labels": torch.tensor([[-100, 1, -100], [0, -100, -100]])}
    outputs = torch.tensor([[0.0, log(3.0)], [0.0, 0.0]])
    summed, count = format_.loss(outputs, batch), format_.terms(batch)
    assert float(summed) == pytest.approx(log(4 / 3) + log(2))
    assert int(count) == 2
    assert format_.dev_sums(outputs, batch, None).tolist() == pytest.approx([-float(summed), 2])
    with pytest.raises(TypeError):
        format_.make_head(CONFIG, None, 0.0)


def test_dropout_only_while_training():
    head = trained_format("sequence_classification").make_head(CONFIG, ("a", "b"), 0.5)
    hidden = torch.randn(4, 3, 6)
    assert (head(hidden, {}) != head(hidden, {})).any()
    head.eval()
    torch.testing.assert_close(head(hidden, {}), head(hidden, {}))
    # tanh of the first token alone decides.
    changed = hidden.clone()
    changed[:, 1:] = 0
    torch.testing.assert_close(head(hidden, {}), head(changed, {}))


def test_pooling_by_hand():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 4.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]


def test_an_unlucky_softmax_is_stable():
    """Half precision of the model does not reach the loss."""
    outputs = torch.tensor([[1000.0, -1000.0]], dtype=torch.bfloat16)
    batch = {"labels": torch.tensor([1])}
    summed = trained_format("sequence_classification").loss(outputs, batch)
    assert summed.dtype == torch.float32
    assert float(summed) == pytest.approx(2000, rel=1e-2)
    assert exp(-float(summed)) == 0


# ---- what the collapse guard asks


def test_losses_of_a_blind_guess_by_hand():
    def loss(name: str, group: int | None = None, **arrays) -> float:
        store = TokenStore({key: np.array(value) for key, value in arrays.items()}, meta_of(name))
        return trained_format(name).chance_loss(store, group)

    half = np.log(2)
    assert loss("sequence_classification", labels=[0, 1, 1, 0]) == pytest.approx(half)
    assert loss("sequence_classification", labels=[2, 2]) == 0
    shares = 0.75 * np.log(4 / 3) + 0.25 * np.log(4)
    assert loss("token_classification", labels=[-100, 0, 0, 0, 2, -100]) == pytest.approx(shares)
    # Two choices and eight: a mean of logarithms.
    assert loss("multiple_choice", choice_offsets=[0, 2, 10]) == pytest.approx(2 * half)
    # Windows with 3 and 7 places in the context, and "no answer here" in both.
    char_start = [-1, -1, 0, 4, 8, -1, 0, 1, 2, 3, 4, 5, 6]
    found = loss("question_answering", char_start=char_start, offsets=[0, 5, 13])
    assert found == pytest.approx((np.log(4) + np.log(8)) / 2)
    ids = [0, 7, 7, 9, 9, 2]  # 0 and 2 are never masked
    assert loss("masked_lm", input_ids=ids) == pytest.approx(half)
    assert loss("answer_retrieval", 8, offsets=[0]) == pytest.approx(np.log(8))
    assert loss("answer_retrieval", offsets=range(9)) == pytest.approx(np.log(4))


@pytest.mark.parametrize("name", FORMATS)
def test_answers_are_those_behind_the_dev_score(name):
    format_, store = trained_format(name), store_of(name, 12)
    arrays = format_.collate(store, np.arange(12), np.random.default_rng(1))
    batch = {key: torch.from_numpy(value) for key, value in arrays.items()}
    labels = tuple(LABELS.get(name, ())) or None
    torch.manual_seed(1)
    rows, length = arrays["input_ids"].shape
    outputs = format_.make_head(CONFIG, labels, 0.0)(torch.randn(rows, length, 6), batch)
    found, gold = format_.answers(outputs, batch)
    assert found.shape == gold.shape
    if name in ("sequence_classification", "multiple_choice"):
        assert gold.tolist() == store.arrays["labels"].tolist()
        right = int((found == gold).sum())
        assert format_.dev_sums(outputs, batch, labels).tolist() == [right, 12]
    elif name == "question_answering":
        assert gold.tolist() == store.arrays["start"].tolist()
        assert all(batch["allowed"][row, place] for row, place in enumerate(found.tolist()))
    else:
        known = store.arrays["labels"]
        assert gold.tolist() == known[known >= 0].tolist()
