"""The distances stage: values worked by hand, URIEL's against its own, blanks, bad input."""

import csv
import json
import math
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from xstilts.analysis.languages import uriel
from xstilts.analysis.languages.distances import KNOWN, run
from xstilts.analysis.languages.measures import DISTANCES, MEASURES, read_distances, read_measures
from xstilts.analysis.languages.segmentation import TEXTS, segment
from xstilts.analysis.study import Study
from xstilts.artifacts.publish import publishing
from xstilts.data.subwords import SubwordTokenizer
from xstilts.data.tokenizer import run as learn
from xstilts.errors import InputError
from xstilts.plan import Plan
from xstilts.registry import load_registry
from xstilts.registry.rows import FIELDS
from xstilts.session import Session

OUT = Path("distances/tiny")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "the", "cat", "##s", "sat", "##zen", "ka", "##t", "auf", "中", "国", "##国"]


@pytest.fixture(autouse=True)
def _in_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---- a small world


def tokenizer(out: str = "models/tiny/tokenizer") -> str:
    """Publish a WordPiece tokenizer of few pieces."""
    vocab = {piece: number for number, piece in enumerate(PIECES)}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    config = {f"{name}_token": f"[{name.upper()}]" for name in names}
    with publishing(Path(out), {"stage": "tokenizer"}) as draft:
        made.save(str(draft.folder / "tokenizer.json"))
        (draft.folder / "tokenizer_config.json").write_text(json.dumps(config))
    return out


def prepared(dataset: str, language: str, **tables: dict[str, Any]) -> str:
    """Publish prepared tables by file stem (`test`, or `test_source` and the like)."""
    out = f"data/prepared/{dataset}/{language}"
    with publishing(Path(out), {"stage": "prepare"}) as draft:
        for stem, columns in tables.items():
            name = f"{stem.replace('_', '.')}.parquet"
            pq.write_table(pa.table(columns), draft.folder / name)
    return out


def nli(*texts: str) -> dict[str, Any]:
    return {"text_a": list(texts), "text_b": pa.nulls(len(texts), pa.string())}


def corpus(language: str, tokens: int) -> str:
    out = f"data/tokens/tiny/text/{language}"
    with publishing(Path(out), {"stage": "tokens"}) as draft:
        meta = {"splits": {"train": {"tokens": tokens}}}
        (draft.folder / "meta.json").write_text(json.dumps(meta))
    return out


def language(script: str = "Latn", **changes: Any) -> dict[str, Any]:
    entry = {"script": script, "spaced": True, "lang2vec": None, "planted": None}
    return {**entry, "pretraining": None, **changes}


def spec(texts: dict[str, tuple[str, bool]], languages: dict[str, Any], **changes: Any) -> Any:
    """A spec; texts give the format, and whether their other side is the source's, by folder."""
    entries = [
        {"dataset": folder.split("/")[-2], "language": folder.split("/")[-1]}
        | {"format": name, "against_source": paired}
        for folder, (name, paired) in texts.items()
    ]
    inputs = {"prepared": list(texts), "tokenizer": tokenizer()}
    inputs |= changes.pop("inputs", {})
    return {
        "stage": "distances",
        "source_language": "en",
        "languages": languages,
        "texts": entries,
        "max_rows": 100,
        "corpus": [],
        "pretraining": {"unit": "GiB", "source": "not known"},
        "inputs": inputs,
        **changes,
    }


def made(content: Any) -> dict[str, dict[str, float | None]]:
    run(content, OUT)
    return read_distances(OUT)


def by_dataset() -> dict[tuple[str, str], dict[str, str]]:
    with (OUT / "texts.csv").open(encoding="utf-8", newline="") as file:
        return {(row["dataset"], row["language"]): row for row in csv.DictReader(file)}


NLI, POS, PAIRS = "sequence_classification", "token_classification", "sentence_retrieval"


# ---- what the tokenizer does


def test_words_by_hand() -> None:
    known = SubwordTokenizer.read(Path(tokenizer()))
    # the; cat ##s (twice); ka ##t ##zen; and a word of which nothing is known
    found = segment(Counter({"the": 1, "cats": 2, "katzen": 1, "xyz": 1}), known)
    assert (found.words, found.cut, found.subwords, found.unknown) == (5, 3, 9, 1)
    other = segment(Counter({"cat": 1, "xyz": 1}), known)
    assert found.shared(other) == 2  # `cat` twice, and the unknown token is nobody's
    assert segment(Counter(), known).subwords == 0


def test_the_beginning_of_a_word_alone_is_no_sub_word():
    known = SubwordTokenizer.read(Path(tokenizer()))
    words = Counter({"中国": 2, "cats": 1})
    plain, without = segment(words, known), segment(words, known, PIECES.index("中"))
    assert (plain.cut, plain.subwords) == (3, 6)
    assert (without.cut, without.subwords) == (1, 4)


@pytest.mark.parametrize("architecture", ["xlm-roberta", "bert"])
def test_texts_and_their_words_have_the_same_sub_words(architecture: str) -> None:
    """No sub-word reaches beyond white space, so words may be counted and cut once."""
    lines = ["the cat sat on the mat, the cat sat down.", "das Haus und die Häuser, das Haus!"] * 3
    text = prepared("text", "en", train={"text": lines})
    size = {"vocab_size": 120}
    row = {"name": "tiny", "architecture": architecture, "hub": None, "scratch": size}
    content = {"stage": "tokenizer", "model": {**row, "max_length": 64}, "lock": None}
    learn({**content, "training": {}, "inputs": {"corpus": [text]}}, Path("models/own"))
    known = SubwordTokenizer.read(Path("models/own"))
    for line in (*lines[:2], "  the Haus \u00a0 äh\t中國 "):
        whole = Counter(known.pieces([line]).values.tolist())
        parts = segment(Counter(line.split()), known)
        assert {i: n for i, n in enumerate(parts.types.tolist()) if n} == whole


def test_a_decoders_words_are_cut_with_the_blank_before_them() -> None:
    lines = ["the cat sat on the mat, the cat sat down.", "das Haus und die Häuser, das Haus!"] * 3
    text = prepared("text", "en", train={"text": lines})
    row = {"name": "tiny", "architecture": "llama", "hub": None, "scratch": {"vocab_size": 300}}
    content = {"stage": "tokenizer", "model": {**row, "max_length": 64}, "lock": None}
    learn({**content, "training": {}, "inputs": {"corpus": [text]}}, Path("models/own"))
    known = SubwordTokenizer.read(Path("models/own"))
    for line in (*lines[:2], "the Haus äh 中國"):
        whole = Counter(known.pieces([f" {line}"]).values.tolist())
        parts = segment(Counter(line.split()), known)
        assert {i: n for i, n in enumerate(parts.types.tolist()) if n} == whole
        assert parts.unknown == 0
    # A blank that stands alone before a word of other bytes counts for nothing.
    blank = known.pieces([" "]).values
    assert segment(Counter(["中"]), known, int(blank[0])).subwords == len("中".encode())


def test_table_by_hand() -> None:
    texts = {
        prepared("xnli", "en", test=nli("the cats sat", "the cat")): (NLI, False),
        prepared("xnli", "de", test=nli("the katzen", "auf xyz")): (NLI, False),
        prepared("pos", "en", test={"tokens": [["the", "cats"]], "tags": [[0, 0]]}): (POS, False),
        prepared("pos", "de", test={"tokens": [["auf", "sat"]], "tags": [[0, 0]]}): (POS, False),
    }
    found = made(spec(texts, {"en": language(), "de": language("Grek")}))
    # xnli: the cat##s sat, the cat: 6 of 5 words; pos: the cat ##s: 3 of 2.
    assert found["en"]["fertility"] == pytest.approx((6 / 5 + 3 / 2) / 2)
    assert found["en"]["split"] == pytest.approx((1 / 5 + 1 / 2) / 2)
    assert (found["en"]["shared_subwords"], found["en"]["script"]) == (1, 0)
    # xnli: the, ka ##t ##zen, auf, [UNK]: 6 of 4, of which `the` is shared; pos: auf, sat: none.
    assert found["de"]["fertility"] == pytest.approx((6 / 4 + 2 / 2) / 2)
    assert found["de"]["unknown"] == pytest.approx((1 / 6 + 0) / 2, abs=1e-6)
    assert found["de"]["shared_subwords"] == pytest.approx((1 / 6 + 0) / 2, abs=1e-6)
    assert found["de"]["script"] == 1
    row = by_dataset()["xnli", "de"]
    assert (row["words"], row["subwords"], row["fertility"]) == ("4", "6", "1.5")


def test_a_language_is_compared_in_data_that_the_source_language_has_too() -> None:
    texts = {
        prepared("xnli", "en", test=nli("the cat")): (NLI, False),
        prepared("xnli", "de", test=nli("katzen")): (NLI, False),
        prepared("xcopa", "de", test=nli("auf")): (NLI, False),
        prepared("xcopa", "ht", test=nli("auf")): (NLI, False),
    }
    found = made(spec(texts, {code: language() for code in ("en", "de", "ht")}))
    assert found["de"]["fertility"] == 3
    assert found["ht"]["fertility"] is None
    assert by_dataset()["xcopa", "ht"]["fertility"] == "1.0"
    (row,) = (row for row in read_measures(OUT) if row["name"] == "fertility")
    assert (row["known"], row["missing"]) == (2, ["ht"])


def test_without_spaces_only_given_words_count() -> None:
    chinese = {"tokens": [["中国", "中"]], "tags": [[0, 0]]}
    texts = {
        prepared("xnli", "en", test=nli("the cat")): (NLI, False),
        prepared("xnli", "zh", test=nli("中国 中国中国")): (NLI, False),
        prepared("pos", "en", test={"tokens": [["the", " "]], "tags": [[0, 0]]}): (POS, False),
        prepared("pos", "zh", test=chinese): (POS, False),
    }
    found = made(spec(texts, {"en": language(), "zh": language("Hans", spaced=False)}))
    assert (found["zh"]["fertility"], found["zh"]["split"]) == (1.5, 0.5)
    assert (by_dataset()["xnli", "zh"]["words"], by_dataset()["xnli", "zh"]["subwords"]) == (
        "",
        "3",
    )
    assert by_dataset()["pos", "en"]["words"] == "1"  # a blank is no word


def test_the_other_side_of_pairs_is_the_source_languages_text() -> None:
    sides = {"test_source": {"text": ["the katzen"]}, "test_target": {"text": ["the cat"]}}
    pairs = prepared("tatoeba", "de", **sides, test_gold={"source_id": ["0"]})
    languages = {"en": language(), "de": language()}
    found = made(spec({pairs: (PAIRS, True)}, languages))
    assert (found["de"]["shared_subwords"], found["de"]["fertility"]) == (0.25, 2)
    assert found["en"]["fertility"] is None
    # Against another language nothing is said of the source language's texts.
    assert made(spec({pairs: (PAIRS, False)}, languages))["de"]["shared_subwords"] is None


def test_so_many_rows_are_read_and_texts_of_several_rows_once() -> None:
    texts = {prepared("xnli", "en", test=nli("the cat", "the cat", "cats", "sat")): (NLI, False)}
    run(spec(texts, {"en": language()}, max_rows=3), OUT)
    assert by_dataset()["xnli", "en"]["words"] == "3"


def test_nothing_to_read_is_blank() -> None:
    texts = {prepared("xnli", code, test=nli("  ")): (NLI, False) for code in ("en", "de")}
    found = made(spec(texts, {"en": language(), "de": language()}))
    names = ("fertility", "split", "unknown", "shared_subwords", "pretraining", "planted")
    assert {found["de"][name] for name in names} == {None}


def test_every_format_of_a_target_has_texts() -> None:
    assert set(TEXTS) == set(FIELDS) - {"masked_lm"}


# ---- pretraining


def test_size_of_the_pretraining_data() -> None:
    texts = {prepared("xnli", "en", test=nli("the cat")): (NLI, False)}
    languages = {"en": language(pretraining=1000), "de": language(pretraining=0.01)}
    languages["ht"] = language()
    found = made(spec(texts, languages))
    assert [found[code]["pretraining"] for code in languages] == [3, -2, None]


def test_sub_words_of_the_corpora() -> None:
    texts = {prepared("xnli", "en", test=nli("the cat")): (NLI, False)}
    files = [corpus("en", 9000), corpus("de", 100), corpus("fr", 5)]
    content = spec(
        texts,
        {"en": language(), "de": language(), "ht": language()},
        corpus=["en", "de", "fr"],
        pretraining={"unit": "sub-words", "source": "text"},
        inputs={"tokens": files},
    )
    found = made(content)
    assert found["en"]["pretraining"] == pytest.approx(math.log10(9000), abs=1e-6)
    assert (found["de"]["pretraining"], found["ht"]["pretraining"]) == (2, None)
    (row,) = (row for row in read_measures(OUT) if row["name"] == "pretraining")
    assert "in sub-words." in row["meaning"]
    assert (row["source"], row["far"]) == ("text", "low")


# ---- URIEL

CODES = dict(en="eng", de="deu", fr="fra", eu="eus", ja="jpn", zh="cmn", sw="swh", none="xxx")


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float | None]]:
    return uriel.distances({**CODES, "toy": None}, "en")


def test_the_source_language_is_nowhere_else(found: Any) -> None:
    assert {name: values["en"] for name, values in found.items()} == dict.fromkeys(uriel.PARTS, 0)


def test_blank_where_uriel_knows_nothing(found: Any) -> None:
    for values in found.values():
        assert values["toy"] is None
        assert values["none"] is None
    assert found["genetic"]["eu"] is None  # an isolate
    assert found["syntactic"]["eu"] > 0


def test_from_a_language_that_uriel_does_not_know_nothing_is_known() -> None:
    found = uriel.distances({"en": "eng", "none": "xxx"}, "none")
    assert found == {name: {"en": None, "none": None} for name in uriel.PARTS}


def test_families_by_hand(found: Any) -> None:
    """English is under nine nodes, German under six, French under twelve."""
    shared = {"de": 4, "fr": 1}  # down to West Germanic; Indo-European alone
    nodes = {"de": 6, "fr": 12}
    for code in shared:
        by_hand = 1 - shared[code] / math.sqrt(9 * nodes[code])
        assert found["genetic"][code] == pytest.approx(by_hand)
    assert found["genetic"]["ja"] == found["genetic"]["sw"] == 1


def test_order_of_languages_is_plausible(found: Any) -> None:
    for name in ("syntactic", "genetic", "geographic"):
        assert found[name]["de"] < found[name]["ja"]
    assert found["syntactic"]["fr"] < found["syntactic"]["sw"]


#: Latitude and longitude by Glottolog.
PLACES = {"eng": (53.0, -1.0), "deu": (48.65, 12.47), "jpn": (35.0, 135.0), "cmn": (40.02, 116.23)}


@pytest.mark.parametrize("code", PLACES)
def test_places_are_those_of_glottolog(code: str) -> None:
    place = uriel.place(uriel.read_table("geocoord_features.npz").of("GC_"), code)
    assert place is not None
    latitude, longitude = math.asin(place[2]), math.atan2(place[1], place[0])
    assert np.degrees([latitude, longitude]) == pytest.approx(PLACES[code], abs=0.1)


def test_great_circle_by_hand(found: Any) -> None:
    """England to Japan by the law of cosines, over half of the circumference."""
    a, b, turn = np.radians([53.0, 35.0, 136.0])
    angle = math.acos(
        math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(turn),
    )
    assert found["geographic"]["ja"] == pytest.approx(angle / math.pi, abs=0.001)


@pytest.mark.slow
def test_vectors_are_those_of_lang2vec_itself(found: Any, monkeypatch: Any) -> None:
    # Its package puts a script of the same name beside the command that runs the tests.
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != scripts])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("pkg_resources")
        import lang2vec.lang2vec as l2v

    sets = {"syntactic": "syntax", "phonological": "phonology", "inventory": "inventory"}
    for name, named in sets.items():
        vectors = l2v.get_features(["eng", "deu", "cmn"], f"{named}_knn")
        for code, other in (("de", "deu"), ("zh", "cmn")):
            a, b = np.array(vectors["eng"]), np.array(vectors[other])
            by_hand = 1 - (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
            assert found[name][code] == pytest.approx(by_hand)


def test_cosine_by_hand() -> None:
    rows = {"one": 0, "two": 1, "none": 2}
    values = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    table = uriel.Table(("S_A", "S_B", "P_C"), rows, values)
    assert uriel.cosine(table, "one", "two") == pytest.approx(1 - 1 / math.sqrt(2))
    assert uriel.cosine(table, "one", "none") is None
    assert uriel.cosine(table.of("P_"), "one", "one") is None
    assert uriel.great_circle(uriel.Table(("GC_0_0",), rows, values[:, 2:]), "one", "two") is None


def test_synthetic_languages_need_no_lang2vec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uriel, "SHA256", {})
    found = uriel.distances({"qaa": None, "qab": None}, "qaa")
    assert found == {name: {"qaa": None, "qab": None} for name in uriel.PARTS}


def test_lang2vec_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match=r"not installed.*pip install lang2vec==1\.1\.2"):
        uriel.distances({"en": "eng"}, "en")


@pytest.mark.parametrize(("content", "said"), [(b"other", "found [0-9a-f]{64}"), (None, "no file")])
def test_other_data_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    (tmp_path / "lang2vec-9.dist-info").mkdir()
    (tmp_path / "lang2vec-9.dist-info/METADATA").write_text("Name: lang2vec\nVersion: 9\n")
    if content:
        (tmp_path / "lang2vec/data").mkdir(parents=True)
        (tmp_path / "lang2vec/data/feature_predictions.npz").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=f"feature_predictions.npz: .*lang2vec 1.1.2.*{said}"):
        uriel.distances({"en": "eng"}, "en")


# ---- the artifact


@pytest.fixture
def small() -> Any:
    texts = {prepared("xnli", code, test=nli("the katzen")): (NLI, False) for code in ("en", "eu")}
    return spec(texts, {"en": language(), "eu": language()})


def test_the_same_bytes_again(small: Any) -> None:
    run(small, OUT)
    before = {path.name: path.read_bytes() for path in OUT.iterdir()}
    run(small, OUT)
    for name in (DISTANCES, MEASURES, "texts.csv", "manifest.json"):
        assert (OUT / name).read_bytes() == before[name]


def test_every_measure_is_a_column_and_says_what_it_is(small: Any) -> None:
    small["languages"] = {code: language(lang2vec=CODES[code]) for code in ("en", "eu")}
    found, measures = made(small), read_measures(OUT)
    names = [row["name"] for row in measures]
    assert names == list(found["eu"]) == [measure.name for measure in KNOWN]
    for row in measures:
        assert row["title"]
        assert row["meaning"].endswith(".")
        assert row["source"]
        assert "{" not in row["meaning"] + row["source"]
        assert row["far"] in ("high", "low")
        assert row["known"] == 2 - len(row["missing"])
    genetic = measures[names.index("genetic")]
    assert genetic["missing"] == ["eu"]
    assert f"lang2vec 1.1.2, family_features.npz, sha256 {'e814e058'}" in genetic["source"]


def test_damaged_input(small: Any) -> None:
    Path("data/prepared/xnli/eu/test.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"xnli/eu/test.parquet: has another size"):
        run(small, OUT)
    assert not OUT.exists()


def test_a_value_that_is_no_number() -> None:
    with publishing(OUT, {"stage": "distances"}) as draft:
        (draft.folder / DISTANCES).write_text("language,script\nde,far\n")
    with pytest.raises(InputError, match=r"distances.csv: de: holds what is no number .*'far'"):
        read_distances(OUT)


def test_a_study_reads_it_by_model(small: Any) -> None:
    run(small, OUT)
    content = {
        "study": "s",
        "source_language": "en",
        "models": ["tiny"],
        "recipes": ["none"],
        "targets": [],
        "languages": [],
        "cells": [],
        "bootstrap": {"samples": 1, "seed": 1},
        "inputs": {"layers": [], "distances": [OUT.as_posix()]},
    }
    study = Study(content)
    assert study.distances["tiny"]["eu"]["fertility"] == 2
    assert study.distances["tiny"]["eu"]["syntactic"] is None
    assert study.measures == read_measures(OUT)
    without = Study({**content, "inputs": {"layers": []}})
    assert (without.distances, without.measures) == ({}, [])


# ---- the plan

STUDY: dict[str, Any] = {
    "study": "small",
    "models": ["toy-xlmr"],
    "recipes": ["none"],
    "targets": ["toy_nli", "toy_retrieval"],
    "languages": ["qaa", "qab"],
    "source_language": "qaa",
    "toyworld": {
        "sizes": {
            "corpus": {"train": 9},
            "nli": {"train": 9, "dev": 9, "test": 9},
            "parallel": {"test": 9},
        },
    },
    "pretraining": {"corpus": "toy_corpus", "languages": ["qaa", "qab"]},
}
TOY = "distances/toy-xlmr"


def plan_of(**changes: Any) -> Plan:
    return Session.of_config(STUDY | changes, "s.yaml", Path(), main=False).plan


def test_spec_of_a_model_made_here() -> None:
    job = plan_of().jobs[TOY]
    assert job.spec["inputs"] == {
        "prepared": [
            "data/prepared/toy_nli/qaa",
            "data/prepared/toy_nli/qab",
            "data/prepared/toy_parallel/qab",
        ],
        "tokenizer": "models/toy-xlmr/tokenizer",
        "tokens": [f"data/tokens/toy-xlmr/toy_corpus/{code}" for code in ("qaa", "qab")],
    }
    assert [entry["against_source"] for entry in job.spec["texts"]] == [False, False, True]
    assert job.spec["corpus"] == ["qaa", "qab"]
    assert job.spec["pretraining"] == {"unit": "sub-words", "source": "toy_corpus, as encoded"}
    planted = {code: entry["planted"] for code, entry in job.spec["languages"].items()}
    assert planted == {"qaa": 0, "qab": 0.17}


def test_the_source_language_is_there_where_no_target_has_it() -> None:
    spec = plan_of(targets=["toy_retrieval"], languages="all").jobs[TOY].spec
    assert list(spec["languages"]) == ["qaa", "qab", "qac", "qad", "qae", "qaf"]


def test_spec_of_published_models(repository: Path) -> None:
    plan = Session.of_file(repository / "studies/paper.yaml", repository).plan
    spec = plan.jobs["distances/xlm-roberta-large"].spec
    assert spec["inputs"]["tokens"] == spec["corpus"] == []
    sizes = {code: entry["pretraining"] for code, entry in spec["languages"].items()}
    assert (sizes["en"], sizes["sw"], sizes["yo"]) == (300.8, 1.6, None)
    assert "1911.02116" in spec["pretraining"]["source"]
    spaced = {code for code, entry in spec["languages"].items() if not entry["spaced"]}
    assert spaced == {"ja", "my", "th", "zh"}


def test_another_language_is_measured_and_nothing_is_trained(tmp_path: Path) -> None:
    for job in plan_of().jobs.values():
        with publishing(Path(job.out), job.spec) as draft:
            for name in job.files:
                path = draft.folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_text("")
    for out, bundle in plan_of().bundles.items():
        with publishing(Path(out), bundle.index):
            pass
    assert not plan_of().is_stale(TOY, tmp_path)
    larger = plan_of(languages=["qaa", "qab", "qac"])
    stale = {job.stage for out, job in larger.jobs.items() if larger.is_stale(out, tmp_path)}
    assert {"tokens", "distances", "evaluate", "score", "aggregate"} <= stale
    assert not stale & {"tokenizer", "pretrain", "intermediate", "finetune"}
    # Another recipe, seed or hyper-parameter measures nothing again.
    other = plan_of(recipes=["none", "toy_nli"], seeds=[1, 2], training={"default": {"epochs": 9}})
    assert not other.is_stale(TOY, tmp_path)


# ---- the registry


def rows(tmp_path: Path, content: Any) -> list[Path]:
    path = tmp_path / "rows.yaml"
    path.write_text(json.dumps(content))
    return [path]


def test_pretraining_data_of_an_unknown_language(tmp_path: Path) -> None:
    row = load_registry([]).models["xlm-roberta-base"].model_dump(mode="json", exclude={"name"})
    row["pretraining"]["gib"]["xq"] = 1
    with pytest.raises(InputError, match=r"models\.xlm-roberta-base: pretraining\.gib.*'xq'"):
        load_registry(rows(tmp_path, {"models": {"xlm-roberta-base": row}}))


def test_pretraining_data_of_a_model_made_here(tmp_path: Path) -> None:
    row = load_registry([]).models["toy-bert"].model_dump(mode="json", exclude={"name"})
    row["pretraining"] = {"source": "me", "gib": {"qaa": 1}}
    with pytest.raises(InputError, match=r"pretraining is of published models"):
        load_registry(rows(tmp_path, {"models": {"toy-bert": row}}))


def test_pivot_of_an_unknown_language(tmp_path: Path) -> None:
    row = load_registry([]).datasets["toy_parallel"].model_dump(mode="json", exclude={"name"})
    with pytest.raises(InputError, match=r"datasets\.toy_parallel: pivot.*'xq'"):
        load_registry(rows(tmp_path, {"datasets": {"toy_parallel": row | {"pivot": "xq"}}}))
