"""From scores to predictions, worked out by hand."""

import numpy as np
import pytest
import torch

from tiny import meta_of
from xstilts.data.token_store import TokenStore
from xstilts.formats.multiple_choice import decode as multiple_choice
from xstilts.formats.question_answering import decode as question_answering
from xstilts.formats.question_answering.decode import best_span
from xstilts.formats.sequence_classification import decode as sequence_classification
from xstilts.formats.token_classification import decode as token_classification

EMPTY = TokenStore({}, meta_of("sequence_classification"))


def test_classes_become_label_names():
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    found = sequence_classification.outputs(scores, {})
    assert found == [1, 0]
    labels = ("contradiction", "entailment", "neutral")
    assert sequence_classification.predictions(found, EMPTY, [], labels, {}) == [
        "entailment",
        "contradiction",
    ]


def test_the_best_choice_of_each_example():
    batch = {"cell": torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]])}
    scores = torch.tensor([[-5.0], [-4.0], [1.0], [0.0], [3.0]])
    found = multiple_choice.outputs(scores, batch)
    assert found == [1, 2]
    assert multiple_choice.predictions(found, EMPTY, [], (), {}) == [1, 2]


def test_parts_of_a_sentence_are_joined_again():
    labels = ("O", "PER", "LOC")
    scores = torch.eye(3)[torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, 0]])]
    batch = {"labels": torch.tensor([[-100, 5, 5], [-100, 5, -100], [5, -100, -100]])}
    found = token_classification.outputs(scores, batch)
    assert found == [[1, 2], [0], [1]]
    store = TokenStore({"example": np.array([0, 0, 2])}, meta_of("token_classification"))
    rows = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert token_classification.predictions(found, store, rows, labels, {}) == [
        ["PER", "LOC", "O"],
        [],
        ["PER"],
    ]


def span(start, end, inside=None, most=None, n_best=20, longest=30):
    """Best span of a window `<s> q </s> c c c c </s>` whose context is positions 3 to 6."""
    places = np.array([-1, -1, -1, 0, 2, 4, 6, -1] if inside is None else inside)
    most = np.array([1] * 8 if most is None else most, np.uint8)
    return best_span(np.array([start, end], np.float32), places, most, n_best, longest)


def test_the_best_span_by_hand():
    start, end = [9, 9, 9, 1, 4, 0, 2, 9], [9, 9, 9, 5, 1, 3, 2, 9]
    # 4 + 3; the question, the special tokens and an end before its start do not count.
    assert span(start, end) == (7.0, 4, 5)


def test_at_most_so_many_sub_words():
    start, end = [0, 0, 0, 5, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 6, 0]
    assert span(start, end) == (11.0, 3, 6)
    assert span(start, end, longest=4) == (11.0, 3, 6)
    assert span(start, end, longest=3) == (7.0, 4, 6)
    assert span(start, end, longest=1) == (6.0, 6, 6)


def test_a_start_needs_most_context_and_an_end_does_not():
    start, end = [0, 0, 0, 5, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 6, 0]
    assert span(start, end, most=[0, 0, 0, 0, 1, 1, 0, 0]) == (7.0, 4, 6)
    assert span(start, end, most=[0] * 8) is None


def test_no_valid_span():
    falling = [[0, 0, 0, 1, 2, 3, 4, 0], [0, 0, 0, 4, 3.5, 2, 1, 0]]
    # The only start looked at is 6, the only end 3.
    assert span(*falling, n_best=1) is None
    assert span(*falling, n_best=2) is None
    assert span(*falling, n_best=3) == (5.5, 4, 4)
    assert span(*falling, inside=[-1] * 8) is None


def test_padding_is_cut_off():
    scores = np.full((2, 12), 50.0, np.float32)
    scores[:, :8] = 0
    places = np.array([-1, -1, -1, 0, 2, 4, 6, -1])
    assert best_span(scores, places, np.ones(8, np.uint8), 20, 30) == (0.0, 3, 3)


ZH = "今天天氣很好。明天下雨"


def windows(*rows):
    """A store of windows, each given as (example, [(start, end) of each sub-word or None])."""
    spans = [pair or (-1, -1) for _, row in rows for pair in row]
    return TokenStore(
        {
            "offsets": np.cumsum([0, *(len(row) for _, row in rows)]),
            "example": np.array([example for example, _ in rows]),
            "char_start": np.array([pair[0] for pair in spans]),
            "char_end": np.array([pair[1] for pair in spans]),
            "max_context": np.ones(len(spans), np.uint8),
        },
        meta_of("question_answering"),
    )


def scores_at(length, start, end, value=1.0):
    scores = np.zeros((2, length), np.float32)
    scores[0, start] = scores[1, end] = value
    return scores


def answers(store, found, *contexts):
    rows = [{"id": str(n), "context": context} for n, context in enumerate(contexts)]
    decode = {"n_best": 20, "max_answer_length": 30}
    return question_answering.predictions(found, store, rows, (), decode)


def test_a_chinese_answer_is_no_whole_chunk():
    """XTREME's text alignment gives the whole sentence here (R27)."""
    store = windows((0, [None, None, (0, 2), (2, 4), (4, 6), (6, 7), (7, 11), None]))
    assert answers(store, [scores_at(8, 3, 3)], ZH) == ["天氣"]
    assert answers(store, [scores_at(8, 2, 4)], ZH) == ["今天天氣很好"]


def test_offsets_are_code_points():
    text = "𠮷野家 is café 👍🏽 here"
    place = text.index("café")
    store = windows((0, [None, (0, 3), (place, place + 4), (place + 5, place + 7), None]))
    assert answers(store, [scores_at(5, 2, 3)], text) == ["café 👍🏽"]


def test_white_space_around_an_answer_is_no_part_of_it():
    store = windows((0, [None, (0, 3), (3, 6), None]))
    assert answers(store, [scores_at(4, 2, 2)], "one tw") == ["tw"]


def test_the_best_window_of_an_example_wins():
    row = [None, (0, 1), (2, 3), None]
    store = windows((0, row), (1, row), (0, row), (1, [None, None, None, None]))
    found = [
        scores_at(4, 1, 1, 2.0),
        scores_at(4, 2, 2, 1.0),
        scores_at(4, 2, 2, 3.0),
        scores_at(4, 1, 1, 9.0),
    ]
    assert answers(store, found, "a b", "c d") == ["b", "d"]


def test_no_window_with_a_valid_span_gives_the_empty_answer():
    store = windows((0, [None, None, None]))
    assert answers(store, [scores_at(3, 0, 0)], "a b") == [""]


@pytest.mark.parametrize("length", [5, 9])
def test_scores_outside_the_context_are_minus_infinity(length):
    allowed = torch.zeros(1, length, dtype=torch.bool)
    allowed[0, [0, 3]] = True
    (scores,) = question_answering.outputs(torch.ones(1, length, 2), {"allowed": allowed})
    assert scores.shape == (2, length)
    assert np.isfinite(scores).sum() == 4
