"""XTREME's tagging data, to the letter: its files, what the model is fed, and joining again."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_tokens import XLMR, rows_of, tagged, written, xlmr_raw

from xstilts.data import tokens as stage
from xstilts.data.ragged import Ragged, offsets_of
from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, load_tokenizer
from xstilts.data.token_store import TokenMeta, TokenStore
from xstilts.errors import InputError
from xstilts.formats.token_classification.cuts import cut, is_usable, read_line
from xstilts.formats.token_classification.decode import outputs, predictions
from xstilts.formats.token_classification.head import Format
from xstilts.formats.token_classification.resplit import resplit

SPECIALS = {
    "xlmr": XLMR,
    "bert": {name: f"[{name[:-6].upper()}]" for name in XLMR},
}
ODD = {"panx": "O", "udpos": "X"}
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def letters(words) -> Ragged:
    """A tokenizer's pieces: one for each x."""
    lengths = [word.count("x") for word in words]
    return Ragged(np.zeros(sum(lengths), np.int32), offsets_of(lengths))


# ---------------------------------------------------------------- the rules, by hand


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Ulm\tB-LOC\n", ("Ulm", "B-LOC")),
        (" Ulm\u00a0\tB-LOC \n", ("Ulm", "B-LOC")),
        ("Neu\u00a0Ulm\tB-LOC\n", ("Neu", "O")),
        ("Neu Ulm\n", ("Neu", "Ulm")),  # words only: the label is none, nobody reads it
        ("Ulm\n", ("Ulm", "O")),
        ("\tB-LOC\n", ("B-LOC", "O")),
        ("\u3000\tB-LOC\n", ("B-LOC", "O")),
        ("a\u2028b\x1cc\tB-LOC\n", ("a", "O")),
        ("\u200b\tB-LOC\n", ("\u200b", "B-LOC")),  # of no width, but no white space
        ("\u00a0\t\n", None),
        ("\n", None),
        ("", None),
    ],
)
def test_lines_are_cut_at_any_white_space(line, found):
    assert read_line(line, "O") == found


def test_words_that_fit():
    assert is_usable(np.array([0, 1, 5, 6]), 5).tolist() == [False, True, True, False]


def test_cuts_come_before_the_word_that_is_too_much():
    lengths = np.array([2, 3, 1, 5, 5, 1, 4, 1])
    cuts = cut(lengths, np.array([0, 6, 6, 8, 8]), 5)
    assert cuts.offsets.tolist() == [0, 2, 3, 4, 5, 6, 6, 8, 8]
    assert cuts.example.tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert cuts.example.dtype == np.int32


def test_a_file_by_hand():
    lines = ["xx\tA", "xxx x\tB", "xxxx\tC", "o\tD", "", "", "xx\tE", "xxx\tF", ""]
    texts, numbers = resplit(lines, letters, 3, "?", "O")
    assert texts == ["xx\tA", "", "xxx\tO", "", "?\tC", "?\tD", "", "", "xx\tE", "", "xxx\tF", ""]
    assert numbers == ["0", "", "0", "", "0", "0", "", "", "2", "", "2", ""]
    assert resplit([], letters, 3, "?", "O") == ([], [])
    assert resplit([""], letters, 3, "?", "O") == ([""], [""])


# ---------------------------------------------------------------- the golden files


def lines_of(path: Path) -> list[str]:
    """Lines end at LF, CR and CRLF, and only there."""
    with path.open(encoding="utf-8") as file:
        return [line.removesuffix("\n") for line in file]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    folder = shared / "golden" / "tagging"
    if not folder.is_dir():
        pytest.skip(f"no golden files at {folder}")
    return folder


@pytest.fixture(scope="module")
def tokenizers(golden: Path) -> dict[str, SubwordTokenizer]:
    return {
        kind: SubwordTokenizer(
            load_tokenizer(golden / "tokenizers" / kind / "tokenizer.json"), names, kind
        )
        for kind, names in SPECIALS.items()
    }


def expected_files(golden: Path) -> list[Path]:
    return sorted((golden / "expected").glob("*/*/*/*/*.tsv"))


def split_file(path: Path, tokenizer: SubwordTokenizer, lines) -> tuple[list[str], list[str]]:
    """What `resplit` makes of lines, with the settings of a golden file."""
    task, kind, length = path.parts[-5:-2]
    budget = tokenizer.closed_as_in_pairs().room(1, int(length))
    assert budget == int(length) - {"xlmr": 3, "bert": 2}[kind]
    return resplit(lines, tokenizer.pieces, budget, SPECIALS[kind]["unk_token"], ODD[task])


def input_of(golden: Path, path: Path) -> Path:
    return golden / "input" / path.parts[-5] / f"{path.stem}-{path.parts[-2]}.tsv"


def test_every_golden_file(golden: Path, tokenizers: dict[str, SubwordTokenizer]):
    files = expected_files(golden)
    assert {path.parts[-4] for path in files} == set(SPECIALS)
    for path in files:
        with input_of(golden, path).open(encoding="utf-8") as lines:
            texts, numbers = split_file(path, tokenizers[path.parts[-4]], lines)
        assert texts == lines_of(path), path
        assert numbers == lines_of(path.with_suffix(".idx")), path


def sentences(lines: list[str]) -> list[list[str]]:
    """Runs of lines that are not blank."""
    return [list(run) for filled, run in groupby(lines, key=lambda x: bool(x.strip())) if filled]


def as_table(lines: list[str], labels: list[str], labelled: bool) -> pa.Table:
    """Rows as our own pipeline has them: words as they are, white space and all."""
    words, tags = list[list[str]](), list[list[int]]()
    for sentence in sentences(lines):
        fields = [line.rpartition("\t") if labelled else (line, "", labels[0]) for line in sentence]
        words.append([word for word, _, _ in fields])
        tags.append([labels.index(tag.strip()) for _, _, tag in fields])
    return tagged(words, tags)


def test_encode_cuts_like_the_golden_files(golden: Path, tokenizers: dict[str, SubwordTokenizer]):
    cut_sentences = odd_words = 0
    for path in expected_files(golden):
        task, kind, length = path.parts[-5:-2]
        tokenizer, labelled = tokenizers[kind], path.stem != "test"
        lines, expected = lines_of(input_of(golden, path)), lines_of(path)
        # Rows of a table always have a word and a tag, which a few hand-made lines have not.
        kept = [x for x in lines if not labelled or not x.strip() or "\t" in x]
        if len(kept) < len(lines):
            expected, _ = split_file(path, tokenizer, kept)
        tags = {x.rpartition("\t")[2].strip() for x in kept if x.strip() and labelled}
        labels = sorted({*tags, ODD[task]})
        encoding = Encoding(int(length), 8, 8, ODD[task], tuple(labels), path.stem)
        made = stage.encoder("token_classification")(
            as_table(kept, labels, labelled), tokenizer, encoding
        )
        assert np.diff(made.arrays["offsets"]).max() <= int(length)
        check_sequences(made, sentences(expected), tokenizer, labels if labelled else None)
        cut_sentences += made.counts["cut sentences"]
        odd_words += made.counts["words with white space"]
    assert cut_sentences > 0 < odd_words


def check_sequences(
    made: Encoded,
    expected: list[list[str]],
    tokenizer: SubwordTokenizer,
    labels: list[str] | None,
) -> None:
    """The same words in the same sequences, between the special tokens of R21."""
    closing = [tokenizer.sep_id] * (1 if tokenizer.uses_type_ids else 2)
    ids, tags = rows_of(made.arrays, "input_ids"), rows_of(made.arrays, "labels")
    assert len(ids) == len(expected)
    for sequence, classes, lines in zip(ids, tags, expected, strict=True):
        words = [line.split("\t")[0] for line in lines]
        pieces = tokenizer.pieces(words).values.tolist()
        assert sequence == [tokenizer.cls_id, *pieces, *closing]
        if labels is not None:
            named = [labels[number] for number in classes if number >= 0]
            assert named == [line.split("\t")[1] for line in lines]


# ---------------------------------------------------------------- what the model is fed


@pytest.fixture(scope="module")
def xlmr() -> SubwordTokenizer:
    return SubwordTokenizer(xlmr_raw(), XLMR, "tiny")


def test_odd_words_of_training_sets(xlmr: SubwordTokenizer) -> None:
    words = ["a b", "c", " d ", "", "\u00a0", "e\u2028x", "\u200b"]
    encoding = Encoding(16, odd_words="O", labels=("a", "O", "b"), split="dev")
    made = stage.encoder("token_classification")(
        tagged([words], [[0, 0, 2, 0, 2, 2, 2]]), xlmr, encoding
    )
    # Blank words are read as the names of their tags, here a and b.
    assert written(xlmr, made.arrays) == ["<s> ▁a ▁c ▁d ▁a ▁b ▁e <unk> </s> </s>"]
    assert made.arrays["labels"].tolist()[1:-2] == [1, 0, 2, 1, 1, 1, 2]
    assert made.counts["words with white space"] == 4
    assert made.counts["unknown words"] == 1


def test_odd_words_of_test_sets(xlmr: SubwordTokenizer) -> None:
    encoding = Encoding(16, odd_words="O", labels=("a", "O", "b"), split="test")
    table = tagged([["a b", "c", "", "d", "\u00a0"], ["e"]], [[0, 2, 2, 2, 2], [0]])
    made = stage.encoder("token_classification")(table, xlmr, encoding)
    # A blank line ends a sentence, and there is no tag's name in the file that could be fed.
    assert written(xlmr, made.arrays) == [
        "<s> ▁a ▁c </s> </s>",
        "<s> <unk> </s> </s>",
        "<s> ▁d </s> </s>",
        "<s> <unk> </s> </s>",
        "<s> ▁e </s> </s>",
    ]
    labels = made.arrays["labels"]
    assert labels[labels >= 0].tolist() == [0, 2, 2, 2, 2, 0]
    assert made.arrays["example"].tolist() == [0, 0, 0, 0, 1]
    assert made.counts["words with white space"] == 3


def test_the_label_of_odd_words_must_be_one(xlmr: SubwordTokenizer) -> None:
    encoding = Encoding(16, odd_words="o", labels=("O", "X"))
    with pytest.raises(InputError, match=r"odd_words: 'o': is no label"):
        stage.encoder("token_classification")(tagged([["a"]], [[0]]), xlmr, encoding)


@pytest.mark.parametrize("kind", ["xlmr", "bert"])
def test_long_sentences_come_back_whole(tokenizers: dict[str, SubwordTokenizer], kind: str) -> None:
    rng = np.random.default_rng(7)
    odd = ["\u200b", "Neu\u00a0Ulm", "zxq" * 80, "", "\u3000", " a", "b\u2028c d"]
    plain = ["Ulm", "president", "Weltall", "a", "of"]
    words = [rng.choice(plain * 4 + odd, size).tolist() for size in (400, 3, 0, 151)]
    tags = [rng.integers(0, len(LABELS), len(sentence)).tolist() for sentence in words]
    tokenizer = tokenizers[kind]
    encoding = Encoding(128, odd_words="O", labels=LABELS, split="test")
    made = stage.encoder("token_classification")(tagged(words, tags), tokenizer, encoding)
    assert made.counts["unknown words"] > 0 < made.counts["words with white space"]
    sizes = np.bincount(made.arrays["example"])
    assert sizes[0] > 3 < sizes[3]
    meta = TokenMeta("token_classification", LABELS, tokenizer.pad_id, 0, (), 9)
    store = TokenStore(made.arrays, meta)
    # A model that says of each word its number, whatever its gold tag is.
    numbers = tuple(str(number) for number in range(400))
    batch = {
        name: torch.from_numpy(array)
        for name, array in Format().collate(store, np.arange(store.sequences), rng).items()
    }
    places = torch.from_numpy(store.gather("words", np.arange(store.sequences), 0)).clamp(min=0)
    scores = torch.nn.functional.one_hot(places, len(numbers)).float()
    rows = [{"id": str(number)} for number in range(4)]
    found = predictions(outputs(scores, batch), store, rows, numbers, {})
    assert found == [list(numbers[: len(sentence)]) for sentence in words]
    # And the gold tags, which no rule has touched, in the same places.
    named = [rows_of(made.arrays, "labels")[i] for i in range(store.sequences)]
    joined = [[] for _ in words]
    for example, sequence in zip(made.arrays["example"], named, strict=True):
        joined[example] += [tag for tag in sequence if tag >= 0]
    assert joined == tags


def test_only_tagging_closes_with_two_separators(xlmr: SubwordTokenizer) -> None:
    closed = xlmr.closed_as_in_pairs()
    assert (closed.room(1, 128), xlmr.room(1, 128), closed.room(2, 128)) == (125, 126, 124)
    assert closed.closed_as_in_pairs().room(1, 128) == 125
    made = stage.encoder("sentence_retrieval")(pa.table({"text": ["a"]}), xlmr, Encoding(8))
    assert written(xlmr, made.arrays) == ["<s> ▁a </s>"]
