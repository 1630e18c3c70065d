"""From scores to predictions, worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from tiny import meta_of
from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import TokenStore
from xstilts.formats.multiple_choice import decode as multiple_choice
from xstilts.formats.question_answering import decode as question_answering
from xstilts.formats.question_answering.decode import best_spans, n_best_answers
from xstilts.formats.question_answering.white_space import aligned, basic_words
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
    return best_of(best_spans(np.array([start, end], np.float32), places, most, n_best, longest))


def best_of(spans):
    if not len(spans.scores):
        return None
    best = spans.scores.argmax()
    return tuple(float(column[best]) for column in spans)


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
    spans = best_spans(scores, places, np.ones(8, np.uint8), 20, 30)
    assert best_of(spans) == (0.0, 3, 3)
    assert len(spans.scores) == 10


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


DECODE = {"n_best": 20, "max_answer_length": 30}


def answers(store, found, *contexts, **decode):
    rows = [{"id": str(n), "context": context} for n, context in enumerate(contexts)]
    return question_answering.predictions(found, store, rows, (), DECODE | decode)


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


def test_thai_and_japanese_answers_are_characters():
    thai, japanese = "สะพานสร้างในปี1932", "タワーは１９５８年に完成"
    store = windows((0, [None, (0, 5), (5, 10), (10, 14), (14, 18), None]))
    assert answers(store, [scores_at(6, 4, 4)], thai) == ["1932"]
    assert answers(store, [scores_at(6, 1, 2)], thai) == ["สะพานสร้าง"]
    store = windows((0, [None, (0, 3), (3, 4), (4, 9), (9, 10), (10, 12), None]))
    assert answers(store, [scores_at(7, 3, 3)], japanese) == ["１９５８年"]


def test_an_accent_belongs_to_its_letter():
    """XLM-R's tokenizer composes letters and counts the first character only."""
    text = "cafe\u0301 vie\u0323\u0302t"
    accents = windows((0, [None, (0, 4), (6, 9), (11, 12), None]))
    assert answers(accents, [scores_at(5, 1, 1)], text) == ["cafe\u0301"]
    assert answers(accents, [scores_at(5, 2, 2)], text) == ["vie\u0323\u0302"]
    # A mark that is a sub-word of its own can be left out, and one at the very end is no end.
    marks = windows((0, [None, (0, 4), (4, 5), None]))
    assert answers(marks, [scores_at(4, 1, 1)], text) == ["cafe"]
    assert answers(windows((0, [None, (0, 4)])), [scores_at(2, 1, 1)], text[:5]) == [text[:5]]


def ranked(store, found, *contexts, **decode):
    return [
        [(answer.text, answer.score) for answer in best]
        for best in n_best_answers(found, store, contexts, DECODE | decode)
    ]


def test_answers_are_ranked_over_windows_and_equal_texts_are_one():
    row = [None, (0, 1), (2, 3), (4, 5), None]
    store = windows((0, row), (1, row), (0, row))
    found = [
        np.array([[0, 3, 1, 0, 0], [0, 1, 0, 0, 0]], np.float32),
        np.array([[0, 0, 0, 9, 0], [0, 0, 0, 9, 0]], np.float32),
        np.array([[0, 0, 0, 5, 0], [0, 0, 0, -1, 0]], np.float32),
    ]
    # "a" stands at both ends: 3 + 1 in the first window, 5 - 1 in the last.
    assert ranked(store, found, "a b a", "c d e")[0] == [
        ("a", 4.0),
        ("a b", 3.0),
        ("a b a", 3.0),
        ("b", 1.0),
        ("b a", 1.0),
    ]
    assert ranked(store, found, "a b a", "c d e", n_best=2)[0] == [("a", 4.0), ("a b", 3.0)]
    assert ranked(store, found, "a b a", "c d e")[1][0] == ("e", 18.0)


def test_a_span_without_text_is_no_answer():
    store = windows((0, [None, (1, 1), (1, 2), None]))
    found = [scores_at(4, 1, 1, 5.0)]
    assert ranked(store, found, " b") == [[("b", 5.0)]]
    assert answers(store, found, " b") == ["b"]
    assert answers(store, found, " b", max_answer_length=1) == ["b"]


def null_scores(start, end, at_first):
    """Scores of a window of two sub-words, with those of its first position."""
    return np.array([[at_first, *start, 0], [at_first, *end, 0]], np.float32)


@pytest.mark.parametrize(
    ("first", "second", "threshold", "expected"),
    [
        # Null scores 2 x 2 and 2 x 6, the best answer 3 + 2: the lower null score counts.
        (2, 6, 0.0, "a"),
        (6, 2, 0.0, "a"),
        (2, 6, -1.0, "a"),
        (2, 6, -1.5, ""),
        (3, 6, 0.0, ""),
        (3, 6, 1.0, "a"),
        (3, 6, 0.5, ""),
        (3, 6, None, "a"),
    ],
)
def test_no_answer_where_every_window_denies_one(first, second, threshold, expected):
    row = [None, (0, 1), (2, 3), None]
    store = windows((0, row), (0, row))
    found = [null_scores([3, 0], [2, 0], first), null_scores([1, 0], [1, 0], second)]
    assert answers(store, found, "a b", null_threshold=threshold) == [expected]


def test_the_first_position_scores_no_answer_through_the_heads_mask():
    """The mask of positions outside the context leaves the first one, which stands for none."""
    store = windows((0, [None, None, (0, 1), None]))
    scores = torch.tensor([[[2.0, 1.0], [9.0, 9.0], [1.0, 1.5], [9.0, 9.0]]])
    allowed = torch.tensor([[True, False, True, False]])
    found = question_answering.outputs(scores, {"allowed": allowed})
    assert question_answering.null_score(found, [0]) == 3.0
    assert answers(store, found, "a", null_threshold=0.0) == [""]
    assert answers(store, found, "a", null_threshold=0.5) == ["a"]


# ---- white-space chunks, as the reference has them


CASES = json.loads(
    (Path(__file__).parent / "data" / "white_space_cases.json").read_text(encoding="utf-8")
)


def tokenizer_of(kind, pieces):
    """A tokenizer artifact that knows these sub-words."""
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(["?", *pieces]))}
    kinds = {"xlmr": models.WordLevel, "bert": models.WordPiece}
    tokenizer = Tokenizer(kinds[kind](vocabulary, unk_token="?"))
    with publishing(Path("tokenizer"), {"stage": "test"}) as draft:
        tokenizer.save(str(draft.folder / "tokenizer.json"))
    return [vocabulary[piece] for piece in pieces]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}: {case['context'][:20]}")
def test_white_space_answers_are_the_references(case, tmp_path, monkeypatch):
    """Expected by transformers 4.57.6; golden/make_white_space_cases.py made the file."""
    monkeypatch.chdir(tmp_path)
    ids = tokenizer_of(case["kind"], case["pieces"])
    store = windows((0, [None, *zip(case["starts"], case["ends"], strict=True), None]))
    store.arrays["input_ids"] = np.array([0, *ids, 0])
    for answer in case["answers"]:
        first, last = answer["span"]
        found = [scores_at(len(ids) + 2, first + 1, last + 1)]
        assert answers(store, found, case["context"], tokenizer="tokenizer") == [
            answer["white_space"]
        ]


def test_basic_words():
    assert basic_words("Go,(now)\u00a0今天\u200b!  e\u0301") == "Go , ( now ) 今 天 ! \u00e9"


@pytest.mark.parametrize(
    ("pieces", "chunks", "expected"),
    [
        ("1911", "(built 1911)", "1911"),
        ("( built", "(built 1911)", "(built"),
        ("天氣", "今天天氣很好。", "今天天氣很好。"),
        ("天 氣", "今天天氣很好。", "天氣"),
        ("", "a b", "a b"),
        # Basic tokens have one character less: nothing can be laid over them.
        ("a", "a\u00adb a", "a\u00adb a"),
    ],
)
def test_joined_sub_words_are_looked_for_in_their_chunks(pieces, chunks, expected):
    assert aligned(pieces, chunks) == expected


@pytest.mark.parametrize("length", [5, 9])
def test_scores_outside_the_context_are_minus_infinity(length):
    allowed = torch.zeros(1, length, dtype=torch.bool)
    allowed[0, [0, 3]] = True
    (scores,) = question_answering.outputs(torch.ones(1, length, 2), {"allowed": allowed})
    assert scores.shape == (2, length)
    assert np.isfinite(scores).sum() == 4
