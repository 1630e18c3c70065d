"""Every format's arrays, worked out by hand with a tokenizer of a few pieces."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from xstilts.artifacts.publish import publishing
from xstilts.data import tokens as stage
from xstilts.data.prepare import ANSWERS
from xstilts.data.ragged import Ragged
from xstilts.data.subwords import Encoding, SubwordTokenizer, longest_first
from xstilts.errors import InputError
from xstilts.formats.question_answering.encode import (
    answer_span,
    most_context,
    window_bounds,
)

# Ids 0..3 are <s> <pad> </s> <unk>; then these; <mask> is the last.
PIECES = [
    "▁",
    "▁a",
    "▁b",
    "▁c",
    "▁d",
    "▁e",
    "x",
    "y",
    "z",
    ".",
    "今",
    "天",
    "氣",
    "很",
    "好",
    "。",
    "ส",
    "วั",
    "ดี",
]
XLMR = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
BERT = {
    "cls_token": "[CLS]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


def xlmr_raw() -> Tokenizer:
    vocab = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = Tokenizer(models.Unigram([*vocab, *((p, -1.0) for p in PIECES)], unk_id=3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.add_special_tokens([*list(XLMR.values())[:4], AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


def bert_raw() -> Tokenizer:
    words = [*BERT.values(), *["a", "b", "c", "d", "e", "##x", "##y", "今", "天"]]
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(BERT.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 2)],
    )
    return tokenizer


@pytest.fixture(scope="module")
def xlmr() -> SubwordTokenizer:
    return SubwordTokenizer(xlmr_raw(), XLMR, "tiny")


@pytest.fixture(scope="module")
def bert() -> SubwordTokenizer:
    return SubwordTokenizer(bert_raw(), BERT, "tiny")


def written(tokenizer: SubwordTokenizer, arrays: dict[str, np.ndarray]) -> list[str]:
    """The sequences as text."""
    names = [tokenizer._tokenizer.id_to_token(number) for number in arrays["input_ids"]]
    offsets = arrays["offsets"]
    return [
        " ".join(names[a:b])
        for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ]


def rows_of(arrays: dict[str, np.ndarray], name: str) -> list[list[int]]:
    return [part.tolist() for part in np.split(arrays[name], arrays["offsets"][1:-1])]


# ---------------------------------------------------------------- ragged rows and pairs


def test_ragged_rows() -> None:
    rows = Ragged(np.array([1, 2, 3, 4, 5, 6]), np.array([0, 3, 3, 6]))
    other = Ragged.constant([9], 3)
    assert Ragged.joined([rows, other]).values.tolist() == [1, 2, 3, 9, 9, 4, 5, 6, 9]
    assert Ragged.joined([rows, other]).offsets.tolist() == [0, 4, 5, 9]
    assert rows.first([2, 5, 0]).values.tolist() == [1, 2]
    assert rows.last(1).values.tolist() == [3, 6]
    assert rows.take([2, 0]).values.tolist() == [4, 5, 6, 1, 2, 3]
    assert rows.slices([0, 2, 2], [1, 0, 2], [2, 1, 1]).values.tolist() == [2, 3, 4, 6]
    assert Ragged.stacked([rows, other]).offsets.tolist() == [0, 3, 3, 6, 7, 8, 9]


def test_longest_first_is_the_rule_of_the_slow_tokenizers() -> None:
    def one_by_one(a: int, b: int, room: int) -> tuple[int, int]:
        while a + b > room:
            a, b = (a - 1, b) if a > b else (a, b - 1)
        return a, b

    for room in (1, 2, 7, 8):
        pairs = [(a, b) for a in range(12) for b in range(12)]
        a, b = longest_first(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]), room)
        assert list(zip(a.tolist(), b.tolist(), strict=True)) == [
            one_by_one(*pair, room) for pair in pairs
        ]


def test_chunks_of_texts_change_nothing(
    xlmr: SubwordTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a b", "", "今天  c", "d", "e e e"]
    whole, located = xlmr.pieces(texts), xlmr.located(texts)
    monkeypatch.setattr("xstilts.data.subwords._CHUNK", (2, 4))
    assert xlmr.pieces(texts).values.tolist() == whole.values.tolist()
    assert xlmr.pieces(texts).offsets.tolist() == whole.offsets.tolist() == [0, 2, 2, 6, 7, 10]
    for before, after in zip(located, xlmr.located(texts), strict=True):
        assert before.values.tolist() == after.values.tolist()
    assert len(xlmr.pieces([])) == 0


def test_blanks_do_not_belong_to_pieces() -> None:
    raw = xlmr_raw()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")  # keeps the blanks
    assert raw.encode("a  b", add_special_tokens=False).offsets[1] != (3, 4)
    ids, starts, ends = SubwordTokenizer(raw, XLMR, "tiny").located(["a  b", " c"])
    words = ids.values != 4  # a lone "▁"
    assert starts.values[words].tolist() == [0, 3, 1]
    assert ends.values[words].tolist() == [1, 4, 2]
    assert (starts.values <= ends.values).all()


# ---------------------------------------------------------------- sequence classification


def pairs(text_a: list[str], text_b: list[str] | None) -> pa.Table:
    second = pa.array(text_b or [None] * len(text_a), pa.string())
    labels = pa.array(range(len(text_a)), pa.int32())
    return pa.table({"text_a": text_a, "text_b": second, "label": labels})


def test_pairs_and_their_truncation(xlmr: SubwordTokenizer) -> None:
    table = pairs(["a b", "a b c d e"], ["c", "d"])
    made = stage.encoder("sequence_classification")(table, xlmr, Encoding(8))
    assert written(xlmr, made.arrays) == [
        "<s> ▁a ▁b </s> </s> ▁c </s>",
        "<s> ▁a ▁b ▁c </s> </s> ▁d </s>",
    ]
    assert made.arrays["labels"].tolist() == [0, 1]
    assert made.counts == {"examples": 2, "truncated": 1}
    assert "type_ids" not in made.arrays


def test_segments_of_bert(bert: SubwordTokenizer) -> None:
    made = stage.encoder("sequence_classification")(pairs(["ax b"], ["今天"]), bert, Encoding(16))
    assert written(bert, made.arrays) == ["[CLS] a ##x b [SEP] 今 天 [SEP]"]
    assert made.arrays["type_ids"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert made.arrays["type_ids"].dtype == np.uint8


def test_single_sentences(xlmr: SubwordTokenizer) -> None:
    made = stage.encoder("sequence_classification")(
        pairs(["a b c d", "e"], None), xlmr, Encoding(5)
    )
    assert written(xlmr, made.arrays) == ["<s> ▁a ▁b ▁c </s>", "<s> ▁e </s>"]
    assert made.counts["truncated"] == 1


# ---------------------------------------------------------------- multiple choice


def test_prompts_lose_their_beginning(xlmr: SubwordTokenizer) -> None:
    table = pa.table(
        {
            "prompt": ["a b c", "d"],
            "choices": [["d", "e e e e e"], ["a", "b", "c"]],
            "label": pa.array([1, 2], pa.int32()),
        }
    )
    made = stage.encoder("multiple_choice")(table, xlmr, Encoding(8))
    assert written(xlmr, made.arrays) == [
        "<s> ▁a ▁b ▁c </s> </s> ▁d </s>",
        "<s> </s> </s> ▁e ▁e ▁e ▁e </s>",
        "<s> ▁d </s> </s> ▁a </s>",
        "<s> ▁d </s> </s> ▁b </s>",
        "<s> ▁d </s> </s> ▁c </s>",
    ]
    assert made.arrays["choice_offsets"].tolist() == [0, 2, 5]
    assert made.arrays["labels"].tolist() == [1, 2]
    assert made.counts == {"examples": 2, "truncated": 1}
    cut = stage.encoder("multiple_choice")(table.slice(0, 1), xlmr, Encoding(7))
    assert written(xlmr, cut.arrays)[0] == "<s> ▁b ▁c </s> </s> ▁d </s>"


# ---------------------------------------------------------------- token classification


def tagged(tokens: list[list[str]], tags: list[list[int]]) -> pa.Table:
    return pa.table(
        {
            "tokens": pa.array(tokens, pa.list_(pa.string())),
            "tags": pa.array(tags, pa.list_(pa.int32())),
        }
    )


def test_only_first_pieces_carry_tags(xlmr: SubwordTokenizer) -> None:
    table = tagged([["axy", "b"], ["c"]], [[4, 5], [6]])
    made = stage.encoder("token_classification")(table, xlmr, Encoding(16))
    assert written(xlmr, made.arrays) == ["<s> ▁a x y ▁b </s> </s>", "<s> ▁c </s> </s>"]
    assert rows_of(made.arrays, "labels") == [
        [-100, 4, -100, -100, 5, -100, -100],
        [-100, 6, -100, -100],
    ]
    assert rows_of(made.arrays, "words") == [[-1, 0, -1, -1, 1, -1, -1], [-1, 0, -1, -1]]
    assert made.arrays["example"].tolist() == [0, 1]


def test_tagged_sequences_of_bert_close_with_one_separator(bert: SubwordTokenizer) -> None:
    table = tagged([["ax", "b", "c"]], [[1, 2, 3]])
    made = stage.encoder("token_classification")(table, bert, Encoding(5))
    assert written(bert, made.arrays) == ["[CLS] a ##x b [SEP]", "[CLS] c [SEP]"]
    assert not made.arrays["type_ids"].any()


def test_long_sentences_are_cut_between_words(xlmr: SubwordTokenizer) -> None:
    words = ["ax", "b", "cxyz", "d", "e", "a"]
    table = tagged([words, ["b"]], [[1, 2, 3, 4, 5, 6], [7]])
    made = stage.encoder("token_classification")(table, xlmr, Encoding(7))
    assert written(xlmr, made.arrays) == [
        "<s> ▁a x ▁b </s> </s>",
        "<s> ▁c x y z </s> </s>",
        "<s> ▁d ▁e ▁a </s> </s>",
        "<s> ▁b </s> </s>",
    ]
    assert made.arrays["example"].tolist() == [0, 0, 0, 1]
    kept = made.arrays["words"][made.arrays["words"] >= 0]
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert made.arrays["labels"][made.arrays["words"] >= 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert made.counts["cut sentences"] == 1
    assert made.counts["truncated"] == 0


def test_a_sentence_is_cut_when_one_piece_is_too_much(xlmr: SubwordTokenizer) -> None:
    encode = stage.encoder("token_classification")
    table = tagged([["a", "b", "c", "dx"]], [[1, 2, 3, 4]])
    assert written(xlmr, encode(table, xlmr, Encoding(8)).arrays) == ["<s> ▁a ▁b ▁c ▁d x </s> </s>"]
    assert written(xlmr, encode(table, xlmr, Encoding(7)).arrays) == [
        "<s> ▁a ▁b ▁c </s> </s>",
        "<s> ▁d x </s> </s>",
    ]


@pytest.mark.parametrize("odd", ["\u200b", "", " ", "\u00a0", "axyzxyz"])
def test_words_of_no_piece_or_too_many_become_unknown(xlmr: SubwordTokenizer, odd: str) -> None:
    made = stage.encoder("token_classification")(
        tagged([["a", odd, "b"]], [[1, 2, 3]]), xlmr, Encoding(8)
    )
    assert written(xlmr, made.arrays) == ["<s> ▁a <unk> ▁b </s> </s>"]
    assert made.arrays["labels"].tolist() == [-100, 1, 2, 3, -100, -100]
    assert made.counts["unknown words"] == 1


def test_a_word_with_a_space_inside_stays_one_word(xlmr: SubwordTokenizer) -> None:
    made = stage.encoder("token_classification")(
        tagged([["a b", "c"]], [[1, 2]]), xlmr, Encoding(8)
    )
    assert written(xlmr, made.arrays) == ["<s> ▁a ▁b ▁c </s> </s>"]
    assert made.arrays["labels"].tolist() == [-100, 1, -100, 2, -100, -100]


def test_a_sentence_without_words_keeps_its_place(xlmr: SubwordTokenizer) -> None:
    table = tagged([["a"], [], ["b"]], [[1], [], [2]])
    made = stage.encoder("token_classification")(table, xlmr, Encoding(8))
    assert written(xlmr, made.arrays) == [
        "<s> ▁a </s> </s>",
        "<s> </s> </s>",
        "<s> ▁b </s> </s>",
    ]
    assert made.arrays["example"].tolist() == [0, 1, 2]


# ---------------------------------------------------------------- question answering


def asked(context: str, question: str, answers: list[tuple[str, int]]) -> pa.Table:
    given = [{"text": text, "start": start} for text, start in answers]
    return pa.table(
        {"context": [context], "question": [question], "answers": pa.array([given], ANSWERS)}
    )


def spelled(made: dict[str, np.ndarray], context: str) -> list[str]:
    """Text of the answer in each window."""
    return [
        context[made["char_start"][o + s] : made["char_end"][o + e]] if s else ""
        for o, s, e in zip(made["offsets"][:-1], made["start"], made["end"], strict=True)
    ]


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ("今天天氣很好。", "天氣"),
        ("今天天氣很好。", "今"),  # a lone "▁" claims the first character too
        ("a 今天  天氣 b", "今天  天氣"),
        ("สวัสดี a", "วัส"),
        ("ax  b\u00a0c d", "b\u00a0c"),
        ("a b. c", "b"),
        ("a b c", "b "),
    ],
)
def test_answers_by_characters(xlmr: SubwordTokenizer, context: str, text: str) -> None:
    table = asked(context, "a", [(text, context.index(text))])
    made = stage.encoder("question_answering")(table, xlmr, Encoding(32, 16, 8)).arrays
    assert spelled(made, context) == [text.strip()]


def test_layout_of_a_window(xlmr: SubwordTokenizer) -> None:
    table = asked("b  cx d", "a a", [("cx", 3), ("d", 6)])
    made = stage.encoder("question_answering")(table, xlmr, Encoding(16, 8, 4)).arrays
    assert written(xlmr, made) == ["<s> ▁a ▁a </s> </s> ▁b ▁c x ▁d </s>"]
    assert made["char_start"].tolist() == [-1, -1, -1, -1, -1, 0, 3, 4, 6, -1]
    assert made["char_end"].tolist() == [-1, -1, -1, -1, -1, 1, 4, 5, 7, -1]
    assert made["max_context"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert (made["start"].tolist(), made["end"].tolist()) == ([6], [7])
    assert made["max_context"].dtype == np.uint8


def test_windows_advance_and_hold_the_answer_or_not(xlmr: SubwordTokenizer) -> None:
    context = "a b c d e a b"
    table = asked(context, "e e e", [("d e", 6)])
    # 16 - 4 special tokens - 2 of the question leaves 4 pieces with max_length 10.
    made = stage.encoder("question_answering")(table, xlmr, Encoding(10, 2, 2))
    assert written(xlmr, made.arrays) == [
        "<s> ▁e ▁e </s> </s> ▁a ▁b ▁c ▁d </s>",
        "<s> ▁e ▁e </s> </s> ▁c ▁d ▁e ▁a </s>",
        "<s> ▁e ▁e </s> </s> ▁e ▁a ▁b </s>",
    ]
    assert made.arrays["example"].tolist() == [0, 0, 0]
    assert made.arrays["start"].tolist() == [0, 6, 0]
    assert made.arrays["end"].tolist() == [0, 7, 0]
    inside = [row[5:-1] for row in rows_of(made.arrays, "max_context")]
    # Scores, e.g. c: 1.04 in the first window, 0.04 in the second; e: 1.04 and 0.03.
    assert inside == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1]]
    assert made.counts["truncated"] == 1
    assert made.counts["answers in no window"] == 0


def test_impossible_and_too_long_answers(xlmr: SubwordTokenizer) -> None:
    none = stage.encoder("question_answering")(asked("a b", "c", []), xlmr, Encoding(16, 8, 4))
    assert (none.arrays["start"].tolist(), none.counts["without an answer"]) == ([0], 1)
    table = asked("a b c d e", "a", [("a b c d e", 0)])
    long = stage.encoder("question_answering")(table, xlmr, Encoding(9, 2, 2))
    assert set(long.arrays["start"].tolist()) == {0}
    assert long.counts["answers in no window"] == 1


def test_most_context_is_squads_rule() -> None:
    def squad(begins: list[int], lengths: list[int], position: int) -> int:
        best, winner = -1.0, -1
        for number, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
            if begin <= position < begin + length:
                left, right = position - begin, begin + length - 1 - position
                score = min(left, right) + 0.01 * length
                if score > best:
                    best, winner = score, number
        return winner

    for total, room, stride in ((23, 7, 3), (20, 6, 6), (9, 9, 4), (31, 10, 4)):
        begins, lengths = window_bounds(total, room, stride)
        flags = most_context(begins, lengths)
        for number, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
            places = range(begin, begin + length)
            expected = [squad(begins.tolist(), lengths.tolist(), p) == number for p in places]
            assert flags[number].tolist() == expected


def test_windows_leave_no_gap() -> None:
    for total in range(30):
        begins, lengths = window_bounds(total, 7, 100)
        covered = {p for b, n in zip(begins, lengths, strict=True) for p in range(b, b + n)}
        assert covered == set(range(total))
    assert window_bounds(0, 7, 3)[1].tolist() == [0]
    assert window_bounds(8, 7, 3)[0].tolist() == [0, 3]


def test_an_answer_of_characters_that_are_no_piece() -> None:
    starts, ends = np.array([0, 5]), np.array([2, 7])
    assert answer_span([{"text": "xx", "start": 3}], starts, ends) is None
    assert answer_span([{"text": "xxyy", "start": 3}], starts, ends) == (1, 1)
    assert answer_span([{"text": "yyxx", "start": 0}], starts, ends) == (0, 0)


# ---------------------------------------------------------------- raw text, retrieval


def test_whole_lines_are_packed(xlmr: SubwordTokenizer) -> None:
    table = pa.table({"text": ["a b", "c", "\u200b", "d", "a b c d e a b", "e"]})
    made = stage.encoder("masked_lm")(table, xlmr, Encoding(7))
    assert written(xlmr, made.arrays) == [
        "<s> ▁a ▁b </s> ▁c </s>",
        "<s> ▁d </s>",
        "<s> ▁a ▁b ▁c ▁d ▁e </s>",
        "<s> ▁a ▁b </s> ▁e </s>",
    ]
    assert made.counts == {"examples": 6, "truncated": 0, "empty": 1}


def test_packing_loses_nothing(bert: SubwordTokenizer) -> None:
    texts = ["a " * n for n in (3, 20, 1, 7, 8)]
    made = stage.encoder("masked_lm")(pa.table({"text": texts}), bert, Encoding(9))
    words = " ".join(written(bert, made.arrays)).split()
    assert words.count("a") == 39
    # 3; 20 in parts of 7, 7 and 6; 1; 7; 8 in parts of 7 and 1: all with [CLS] and [SEP].
    assert np.diff(made.arrays["offsets"]).tolist() == [5, 9, 9, 8, 3, 9, 9, 3]
    assert not made.arrays["type_ids"].any()


def test_single_sentences_of_retrieval(xlmr: SubwordTokenizer) -> None:
    made = stage.encoder("sentence_retrieval")(
        pa.table({"text": ["a b c d", "", "e"]}), xlmr, Encoding(5)
    )
    assert written(xlmr, made.arrays) == ["<s> ▁a ▁b ▁c </s>", "<s> </s>", "<s> ▁e </s>"]
    assert made.counts == {"examples": 3, "truncated": 1, "empty": 1}


# ---------------------------------------------------------------- the stage


def publish(folder: str, files: dict[str, Any]) -> str:
    with publishing(Path(folder), {"stage": "x"}) as draft:
        for name, content in files.items():
            if isinstance(content, pa.Table):
                pq.write_table(content, draft.folder / name)
            else:
                (draft.folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    tokenizer = {
        "tokenizer.json": xlmr_raw().to_str(),
        "tokenizer_config.json": json.dumps(XLMR),
    }
    prepared = {
        "train.parquet": pairs(["a b", "c"], ["d", "e"]),
        "dev.parquet": pairs(["a"], ["b"]),
        "report.json": json.dumps({"labels": ["no", "yes"]}),
    }
    return {
        "stage": "tokens",
        "format": "sequence_classification",
        "dataset": "it",
        "language": "en",
        "encoding": {"max_length": 16, "doc_stride": 8, "max_query_length": 4},
        "inputs": {
            "prepared": publish("data/prepared/it/en", prepared),
            "tokenizer": publish("models/tiny/tokenizer", tokenizer),
        },
    }


OUT = Path("data/tokens/tiny/it/en")
STEMS = ("train", "dev", "test")


def test_stage_writes_arrays_and_meta(spec: dict[str, Any]) -> None:
    stage.run(spec, OUT)
    meta = json.loads((OUT / "meta.json").read_text())
    assert meta["splits"]["train"] == {
        "examples": 2,
        "sequences": 2,
        "tokens": 13,
        "truncated": 0,
    }
    del meta["splits"]
    assert meta == {
        "format": "sequence_classification",
        "labels": ["no", "yes"],
        "vocab_size": 4 + len(PIECES) + 1,
        "pad_id": 1,
        "mask_id": 4 + len(PIECES),
        "cls_id": 0,
        "sep_id": 2,
        "max_length": 16,
    }
    arrays = load_file(OUT / "dev.safetensors")
    assert {name: a.dtype for name, a in arrays.items()} == {
        "input_ids": np.int32,
        "offsets": np.int64,
        "labels": np.int32,
    }
    first = (OUT / "train.safetensors").read_bytes()
    stage.run(spec, OUT)
    assert (OUT / "train.safetensors").read_bytes() == first


def test_odd_words_are_read_by_split(spec: dict[str, Any]) -> None:
    rows = tagged([["a b", "c"]], [[1, 0]])
    files = {f"{split}.parquet": rows for split in STEMS}
    report = {"report.json": json.dumps({"labels": ["O", "LOC"]})}
    publish("data/prepared/it/en", files | report)
    change = {"format": "token_classification", "odd_words": "O"}
    stage.run({**spec, **change}, OUT)
    tags = {split: load_file(OUT / f"{split}.safetensors")["labels"] for split in STEMS}
    assert {split: found.tolist()[1:3] for split, found in tags.items()} == {
        "train": [0, 0],
        "dev": [0, 0],
        "test": [1, 0],
    }
    splits = json.loads((OUT / "meta.json").read_text())["splits"]
    assert [splits[split]["words with white space"] for split in STEMS] == [1, 1, 1]


def test_retrieval_sides_are_files_of_their_own(spec: dict[str, Any]) -> None:
    side = pa.table({"id": ["1"], "text": ["a"]})
    files = {f"test.{name}.parquet": side for name in ("source", "target", "gold")}
    publish("data/prepared/it/en", {**files, "report.json": '{"labels": null}'})
    stage.run({**spec, "format": "sentence_retrieval"}, OUT)
    assert sorted(path.name for path in OUT.glob("*.safetensors")) == [
        "test.source.safetensors",
        "test.target.safetensors",
    ]


def test_the_stage_needs_no_heavy_library() -> None:
    import subprocess
    import sys

    code = "import sys, xstilts.data.tokens, xstilts.data.prepare; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "datasets", "pandas"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding": {"max_length": 5}}, "max_length: has no room for text; expected 6 sub-words"),
        (
            {"format": "question_answering", "encoding": {"max_length": 16}},
            "max_query_length: leaves no room for the context; expected less than 12 with",
        ),
    ],
)
def test_lengths_without_room(spec: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        stage.run({**spec, **change}, OUT)
    assert not OUT.exists()


def test_a_tokenizer_without_template_is_refused() -> None:
    raw = xlmr_raw()
    raw.post_processor = processors.Sequence([])
    with pytest.raises(InputError, match="puts no special tokens around its texts"):
        SubwordTokenizer(raw, XLMR, "tiny")


@pytest.mark.parametrize(
    ("ids", "offsets", "message"),
    [
        ([0, 99, 2], [0, 3], "x: has a sub-word outside the vocabulary; expected ids below 24"),
        ([0, 2], [0, 2, 2], "x: has an empty sequence"),
        ([], [0], "x: has an empty sequence"),
        ([0] * 9, [0, 9], "x: has a sequence too long; expected at most 8; found 9"),
    ],
)
def test_arrays_are_checked(ids: list[int], offsets: list[int], message: str) -> None:
    arrays = {"input_ids": np.array(ids, np.int32), "offsets": np.array(offsets)}
    with pytest.raises(InputError, match=message):
        stage.check_arrays(arrays, 24, 8, "x")


@pytest.mark.parametrize("language", ["zh", "th", "ar", "en"])
def test_real_answers_are_found_again(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    from xstilts.data.tokenizer import train_tokenizer

    path = shared / f"hub/google/xtreme/XQuAD.{language}/validation-00000-of-00001.parquet"
    table = pq.read_table(path)
    trained = train_tokenizer(sorted(set(table["context"].to_pylist())), "xlm-roberta", 1500)
    table = table.slice(0, 40)
    monkeypatch.chdir(tmp_path)
    found = []
    for row in table.to_pylist():
        text = row["answers"]["text"][0]
        found.append([{"text": text, "start": row["context"].index(text)}])
    given = table.set_column(3, "answers", pa.array(found, ANSWERS))
    tokenizer = SubwordTokenizer(trained, XLMR, "tiny")
    made = stage.encoder("question_answering")(given, tokenizer, Encoding(128, 48, 32))
    assert made.counts["answers not found"] == made.counts["answers in no window"] == 0
    arrays, exact = made.arrays, 0
    for window in np.flatnonzero(arrays["start"]):
        example = arrays["example"][window]
        first = arrays["offsets"][window]
        begin = arrays["char_start"][first + arrays["start"][window]]
        end = arrays["char_end"][first + arrays["end"][window]]
        text = given["answers"][int(example)].as_py()[0]["text"]
        context = given["context"][int(example)].as_py()
        assert text.strip() in context[begin:end]
        exact += context[begin:end] == text
    assert exact >= 0.8 * (arrays["start"] > 0).sum()
