"""Training is deterministic, the special tokens are where each architecture has them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xstilts.artifacts.publish import publishing
from xstilts.data import tokenizer as stage
from xstilts.data.subwords import SubwordTokenizer
from xstilts.errors import InputError

LINES = [
    "the cat sat on the mat, the cat sat down.",
    "das Haus und die Häuser, das Haus!",
    "今天天氣很好。明天下雨",
    "วันนี้อากาศดีมาก",
] * 3
OUT = Path("models/tiny/tokenizer")


@pytest.fixture(autouse=True)
def _in_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def corpus(name: str, lines: list[str]) -> str:
    folder = Path("data/prepared") / name
    with publishing(folder, {"stage": "prepare"}) as draft:
        pq.write_table(pa.table({"text": lines}), draft.folder / "train.parquet")
    return str(folder)


def spec(architecture: str, corpora: list[str], **training: Any) -> dict[str, Any]:
    return {
        "stage": "tokenizer",
        "model": {
            "name": "tiny",
            "architecture": architecture,
            "hub": None,
            "scratch": {"vocab_size": 200},
            "max_length": 64,
        },
        "lock": None,
        "training": training,
        "inputs": {"corpus": corpora},
    }


@pytest.fixture(params=["xlm-roberta", "bert"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("architecture", ["xlm-roberta", "bert", "llama"])
def test_training_twice_gives_identical_bytes(architecture: str) -> None:
    code = (
        "import sys; from xstilts.data.tokenizer import train_tokenizer as t;"
        "sys.stdout.write(t(sys.argv[3:], sys.argv[1], int(sys.argv[2])).to_str())"
    )
    # Other processes: the library's hash maps are seeded once per process.
    command = [sys.executable, "-c", code, architecture, "300", *LINES]
    made = {
        subprocess.run(
            command,
            capture_output=True,
            check=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": parallel, "PYTHONHASHSEED": seed},
        ).stdout
        for parallel, seed in (("true", "1"), ("false", "2"), ("true", "3"))
    }
    assert len(made) == 1


def test_special_tokens_of_xlm_r() -> None:
    trained = stage.train_tokenizer(LINES, "xlm-roberta", 150)
    size = trained.get_vocab_size()
    ids = [trained.token_to_id(t) for t in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    assert ids == [0, 1, 2, 3, size - 1]
    assert size <= 150
    pair = trained.encode("the cat", "das Haus")
    assert " ".join(pair.tokens).startswith("<s> ▁the ▁cat </s> </s> ▁das")
    assert pair.tokens[-1] == "</s>"
    assert set(pair.type_ids) == {0}


def test_special_tokens_of_bert() -> None:
    trained = stage.train_tokenizer(LINES, "bert", 150)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [trained.token_to_id(token) for token in specials] == [0, 1, 2, 3, 4]
    pair = trained.encode("the Cat", "天氣")
    assert pair.tokens[0] == "[CLS]"
    assert pair.tokens[-4:] == ["[SEP]", "天", "氣", "[SEP]"]
    assert pair.type_ids[-4:] == [0, 1, 1, 1]
    assert trained.encode("The").ids != trained.encode("the").ids  # cased


def test_text_of_the_corpus_survives_the_round_trip() -> None:
    trained = stage.train_tokenizer(LINES, "xlm-roberta", 200)
    for line in LINES[:4]:
        made = trained.encode(line)
        assert trained.token_to_id("<unk>") not in made.ids
        assert trained.decode(made.ids) == line
    # Full-width forms and double blanks are normalised, punctuation stands alone.
    assert trained.encode("ｔｈｅ  cat,").tokens == ["<s>", "▁the", "▁cat", ",", "</s>"]


def test_a_full_alphabet_keeps_its_most_frequent_characters() -> None:
    words = {"aab": 2, "bc": 1, "d": 1}
    assert stage.alphabet(words, 2) == {"a", "b"}
    assert stage.alphabet(words, 3) == {"a", "b", "c"}  # c before d: equal counts by code point


def test_stage_writes_what_the_other_stages_read(architecture: str) -> None:
    request = spec(architecture, [corpus("a", LINES[:6]), corpus("b", LINES[6:])])
    stage.run(request, OUT)
    read = SubwordTokenizer.read(OUT)
    config = json.loads((OUT / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 64
    assert read.vocab_size <= 200
    assert read.uses_type_ids == (architecture == "bert")
    assert read.pad_id == (1 if architecture == "xlm-roberta" else 0)


def test_loads_in_transformers(architecture: str) -> None:
    auto = pytest.importorskip("transformers").AutoTokenizer
    stage.run(spec(architecture, [corpus("a", LINES)]), OUT)
    loaded, read = auto.from_pretrained(str(OUT)), SubwordTokenizer.read(OUT)
    assert (loaded.pad_token_id, loaded.mask_token_id) == (read.pad_id, read.mask_id)
    assert (loaded.cls_token_id, loaded.sep_token_id) == (read.cls_id, read.sep_id)
    assert (loaded.unk_token_id, loaded.model_max_length) == (read.unk_id, 64)
    pair = ("the cat, 天氣", "das Haus")
    mine = read.sequences(*(read.pieces([text]) for text in pair))
    theirs = loaded(*pair, return_token_type_ids=True)
    assert mine["input_ids"].tolist() == theirs["input_ids"]
    if read.uses_type_ids:
        assert mine["type_ids"].tolist() == theirs["token_type_ids"]


def test_lines_are_thinned_out_evenly_per_corpus() -> None:
    folders = [Path(corpus("a", [f"a{i}" for i in range(10)])), Path(corpus("b", ["b0", "b1"]))]
    assert stage.corpus_lines(folders, 5) == ["a0", "a2", "a4", "a6", "a8", "b0", "b1"]
    assert len(stage.corpus_lines(folders, None)) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"corpus": []}}, "there is no text to train on"),
        ({"model": {"architecture": "xlm-robert"}}, "unknown; found 'xlm-robert'.*'xlm-roberta'"),
    ],
)
def test_bad_specs(change: dict[str, Any], message: str) -> None:
    request = spec("xlm-roberta", [corpus("a", LINES)])
    for key, value in change.items():
        request[key] = {**request[key], **value}
    with pytest.raises(InputError, match=message):
        stage.run(request, OUT)
    assert not OUT.exists()


# ---------------------------------------------------------------- from the Hub


def fetched(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    from xstilts.data import fetch

    def fetch_model_files(hub: str, lock: Any, folder: Path, patterns: Any) -> list[str]:
        for name, content in files.items():
            (folder / name).write_text(content)
        return sorted(files)

    monkeypatch.setattr(fetch, "fetch_model_files", fetch_model_files)


def hub_spec() -> dict[str, Any]:
    request = spec("xlm-roberta", [])
    request["model"] |= {"hub": "FacebookAI/xlm-roberta-base", "scratch": None, "max_length": 512}
    return request | {"inputs": {}, "lock": {"files": {}}}


def test_hub_config_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = stage.train_tokenizer(LINES, "xlm-roberta", 150).to_str()
    fetched(monkeypatch, {"tokenizer.json": text, "tokenizer_config.json": '{"x": 1}'})
    stage.run(hub_spec(), OUT)
    assert (OUT / "tokenizer.json").read_text() == text
    config = json.loads((OUT / "tokenizer_config.json").read_text())
    assert config["mask_token"] == "<mask>"
    assert config["model_max_length"] == 512
    assert SubwordTokenizer.read(OUT).mask_id == json.loads(text)["added_tokens"][-1]["id"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config.json": "{}"}, "has no tokenizer.json.*found tokenizer_config.json"),
        ({"tokenizer.json": '{"version": 1}'}, "is no tokenizer.json"),
    ],
)
def test_models_without_a_fast_tokenizer(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], message: str
) -> None:
    fetched(monkeypatch, files)
    with pytest.raises(InputError, match=message):
        stage.run(hub_spec(), OUT)


def test_special_token_outside_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    text = stage.train_tokenizer(LINES, "xlm-roberta", 150).to_str()
    config = '{"mask_token": {"content": "[MASK]"}}'
    fetched(monkeypatch, {"tokenizer.json": text, "tokenizer_config.json": config})
    with pytest.raises(InputError, match=r"mask_token: .*no such special token.*found '\[MASK\]'"):
        stage.run(hub_spec(), OUT)


# ---------------------------------------------------------------- decoders


def test_a_decoders_bytes_lose_nothing() -> None:
    trained = stage.train_tokenizer(LINES, "llama", 320)
    assert [trained.token_to_id(token) for token in ("<pad>", "<s>", "</s>")] == [0, 1, 2]
    assert 262 <= trained.get_vocab_size() <= 320
    for text in (*LINES[:4], "two  blanks\nand a line", "ｗｉｄｅ ★ 😀", " before"):
        made = trained.encode(text)
        assert made.ids[0] == 1
        assert 2 not in made.ids
        assert trained.decode(made.ids) == text
    assert len(trained.encode("the cat", add_special_tokens=False).ids) == 2
    assert trained.encode("a", "b").ids[1:] == [trained.encode(t).ids[1] for t in ("a", "b")]


def test_a_small_vocabulary_has_all_bytes() -> None:
    assert stage.train_tokenizer(["a b"], "llama", 10).get_vocab_size() == 256 + 3


def test_a_decoders_tokenizer_is_read_and_loads_in_transformers() -> None:
    auto = pytest.importorskip("transformers").AutoTokenizer
    stage.run(spec("llama", [corpus("a", LINES)], vocab_size=300), OUT)
    loaded, read = auto.from_pretrained(str(OUT)), SubwordTokenizer.read(OUT)
    assert (read.pad_id, read.cls_id, read.sep_id) == (0, 1, 2)
    assert (read.mask_id, read.unk_id) == (-1, 2)
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    assert not read.uses_type_ids
    text = "the cat, 天氣"
    assert loaded(text)["input_ids"] == [1, *read.pieces([text]).values.tolist()]


def decoder_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], opening: str = "", **row: Any
) -> SubwordTokenizer:
    """A tokenizer as Llama's or Qwen's, which begins a text with something or with nothing."""
    made = stage.train_tokenizer(LINES, "llama", 300)
    made.add_special_tokens(["<reserved>"])
    content = json.loads(made.to_str())
    content["post_processor"] = None
    if opening:
        single = [{"SpecialToken": {"id": opening, "type_id": 0}}]
        single += [{"Sequence": {"id": "A", "type_id": 0}}]
        known = {"id": opening, "ids": [made.token_to_id(opening)], "tokens": [opening]}
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {opening: known},
        }
    files = {"tokenizer.json": json.dumps(content), "tokenizer_config.json": json.dumps(config)}
    fetched(monkeypatch, files)
    request = hub_spec()
    request["model"] |= {"architecture": "qwen3", "hub": "made/up"} | row
    stage.run(request, OUT)
    return SubwordTokenizer.read(OUT)


@pytest.mark.parametrize("opening", ["", "<s>"])
def test_sequences_of_a_decoder(monkeypatch: pytest.MonkeyPatch, opening: str) -> None:
    """What begins a text is the tokenizer's own; each text ends with the end-of-text token."""
    config = {"eos_token": {"content": "</s>"}, "pad_token": "</s>", "bos_token": None}
    read = decoder_of_the_hub(monkeypatch, config, opening)
    first = [1] if opening else []
    a, b = read.pieces(["the cat"]), read.pieces(["das"])
    one, two = read.sequences(a), read.sequences(a, b)
    assert one["input_ids"].tolist() == [*first, *a.values, 2]
    assert two["input_ids"].tolist() == [*first, *a.values, 2, *b.values, 2]
    assert read.alongside([a, b], -1)[len(first) + len(a.values)] == -1
    assert read.room(2, 10) == 8 - len(first)
    assert (read.pad_id, read.sep_id, read.cls_id) == (2, 2, 1 if opening else -1)


def test_text_is_packed_for_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    from xstilts.data.subwords import Encoding
    from xstilts.data.tokens import encoder

    for opening, first in (("", []), ("<s>", [1])):
        read = decoder_of_the_hub(monkeypatch, {"eos_token": "</s>", "pad_token": "<pad>"}, opening)
        table = pa.table({"text": ["the", "cat", "the cat sat"]})
        encode = encoder("causal_lm")
        packed = encode(table, read, Encoding(max_length=7)).arrays
        lines = [[*read.pieces([text]).values, 2] for text in table["text"].to_pylist()]
        rows = [[*first, *lines[0], *lines[1]], [*first, *lines[2]]]
        assert packed["input_ids"].tolist() == [*rows[0], *rows[1]]
        assert packed["offsets"].tolist() == [0, len(rows[0]), len(rows[0]) + len(rows[1])]


def test_the_rows_padding_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken where the tokenizer names none; the tokenizer's own goes first."""
    for found, wanted in (({}, "<reserved>"), ({"pad_token": None}, "<reserved>"), ({}, "<pad>")):
        read = decoder_of_the_hub(monkeypatch, {"eos_token": "</s>", **found}, pad_token=wanted)
        made = json.loads((OUT / "tokenizer_config.json").read_text())
        assert made["pad_token"] == wanted
        assert read.pad_id == read._tokenizer.token_to_id(wanted)
    own = {"eos_token": "</s>", "pad_token": "<pad>"}
    assert decoder_of_the_hub(monkeypatch, own, pad_token="<reserved>").pad_id == 0


@pytest.mark.parametrize(
    ("config", "row", "message"),
    [
        ({"eos_token": "</s>"}, {}, r"model tiny: pad_token: .*no padding token.*found eos_token"),
        ({"eos_token": "</s>"}, {"pad_token": "<|pad|>"}, r"pad_token: .*found '<\|pad\|>'"),
        ({"pad_token": "<pad>"}, {}, r"eos_token: .*no such special token.*found None"),
    ],
)
def test_decoders_without_special_tokens(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], row: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        decoder_of_the_hub(monkeypatch, config, **row)
    assert not OUT.exists()


def test_a_decoder_that_nobody_trains_a_tokenizer_for() -> None:
    with pytest.raises(InputError, match=r"no tokenizer can be trained for it.*found 'qwen3'"):
        stage.run(spec("qwen3", [corpus("a", LINES)]), OUT)
