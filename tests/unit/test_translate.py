"""The stage `translate`, with a tiny Marian model of random weights."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marian import POSITIONS, sentences, write_m2m100, write_marian
from tiny import settings_of_process
from xstilts.artifacts.manifest import MANIFEST, describe_files, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.data.translate import run
from xstilts.data.translation_cache import Translation, TranslationCache
from xstilts.data.translator import STEP, Translator, batches, cut
from xstilts.errors import InputError
from xstilts.runtime import EXIT_MORE_TIME
from xstilts.training.deadline import Deadline

ROW = {"name": "tiny-en-de", "source": "en", "target": "de", "prefix": ""}
ROW |= {"source_code": None, "target_code": None}
SETTINGS: dict[str, Any] = {
    "num_beams": 3,
    "length_penalty": 1.0,
    "renormalize_logits": True,
    "max_new_tokens": 40,
    "max_length_factor": 1.5,
    "max_source_tokens": None,
}
#: Beams times sub-words: six sentences or fewer a batch.
SMALL = json.dumps({"eval_batch_tokens": 3 * 6 * STEP})
TEXTS = sorted({text.split(" . ")[0] for text in sentences("qaa", 120)})
TRANSLATOR = Path("translators/tiny-en-de")


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_marian(tmp_path_factory.mktemp("marian"), codes=(">>qab<<",))


@pytest.fixture
def here(marian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder with the translator."""
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch, SMALL)
    write_translator(marian)
    return tmp_path


def write_translator(source: Path) -> None:
    with publishing(TRANSLATOR, {"stage": "fetch_translator"}) as draft:
        shutil.copytree(source, draft.folder, dirs_exist_ok=True)


def write_prepared(name: str, splits: dict[str, pa.Table], format_name: str) -> str:
    out = f"data/prepared/{name}/en"
    with publishing(Path(out), {"stage": "prepare", "dataset": name}) as draft:
        for split, table in splits.items():
            pq.write_table(table, draft.folder / f"{split}.parquet")
        report = {"format": format_name, "labels": ["yes", "no"], "splits": {}}
        (draft.folder / "report.json").write_text(json.dumps(report))
    return out


def pairs(texts: list[str]) -> pa.Table:
    second: list[str | None] = [*texts[1:], None]
    label = pa.array([number % 2 for number in range(len(texts))], pa.int32())
    ids = [f"row-{number}" for number in range(len(texts))]
    return pa.table({"id": ids, "text_a": texts, "text_b": second, "label": label})


def spec_of(prepared: str, **changes: Any) -> dict[str, Any]:
    return {
        "stage": "translate",
        "fingerprint": "0",
        "dataset": prepared.split("/")[2],
        "translator": ROW,
        "fields": ["text_a", "text_b"],
        "settings": SETTINGS,
        "inputs": {"prepared": prepared, "translator": TRANSLATOR.as_posix()},
        **changes,
    }


def translated(name: str, texts: list[str], **changes: Any) -> Path:
    """Run the stage on a data set of pairs."""
    spec = spec_of(write_prepared(name, {"train": pairs(texts)}, "sequence_classification"))
    out = Path(f"data/translated/{name}/tiny-en-de")
    run(spec | changes, out)
    return out


def column(out: Path, name: str = "text_a", split: str = "train") -> list[Any]:
    values: list[Any] = pq.read_table(out / f"{split}.parquet")[name].to_pylist()
    return values


def notes(out: Path, split: str = "train") -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "report.json").read_text())["splits"][split]["notes"]
    return found


def alone(marian: Path, text: str, limit: int, **more: Any) -> tuple[str, bool]:
    """What transformers makes of a text by itself, and whether it reached the limit.

    A forced first token names the language and is not part of the text.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(marian)
    model = AutoModelForSeq2SeqLM.from_pretrained(marian).eval()
    inputs = tokenizer(text, return_tensors="pt")
    (ids,) = model.generate(
        **inputs,
        do_sample=False,
        num_beams=3,
        renormalize_logits=True,
        max_new_tokens=limit,
        **more,
    )
    # One start token, and the end that is forced at the limit.
    text = tokenizer.decode(ids[2:] if more else ids, skip_special_tokens=True)
    return text, 0 not in ids[1:limit].tolist()


def limit_of(length: int) -> int:
    """1.5 times the length rounded up to 16, at most 40 and what the model can write."""
    return min(int(1.5 * 16 * -(-length // 16)), 40, POSITIONS - 1)


# ---- what is translated


def test_translations_are_those_of_transformers(here: Path, marian: Path) -> None:
    """Batched by length and padded, each text gets what `generate` gives for it alone."""
    from transformers import AutoTokenizer

    texts = TEXTS[:40]
    out = translated("pairs", texts)
    tokenizer = AutoTokenizer.from_pretrained(marian)
    limits = [limit_of(len(tokenizer(text)["input_ids"])) for text in texts]
    assert len(set(limits)) > 1
    expected = [alone(marian, text, limit) for text, limit in zip(texts, limits, strict=True)]
    assert column(out) == [text.strip() for text, _ in expected]
    assert len({text for text, _ in expected}) > 30
    is_cut = [cut for _, cut in expected]
    assert 0 < sum(is_cut) < len(texts)
    # Every text but the first stands in two columns.
    assert notes(out)["translations cut at the length limit"] == 2 * sum(is_cut) - is_cut[0]


def test_it_looks_like_prepared_rows(here: Path) -> None:
    tables = {"train": pairs(TEXTS[:9]), "dev": pairs(TEXTS[5:12]), "test": pairs(TEXTS[:2])}
    prepared = write_prepared("pairs", tables, "sequence_classification")
    out = Path("data/translated/pairs/tiny-en-de")
    run(spec_of(prepared), out)
    assert sorted(read_manifest(out).files) == ["dev.parquet", "report.json", "train.parquet"]
    for split in ("train", "dev"):
        made = pq.read_table(out / f"{split}.parquet")
        assert made.schema.equals(tables[split].schema)
        for name in ("id", "label"):
            assert made[name].to_pylist() == tables[split][name].to_pylist()
        assert made["text_b"].to_pylist()[-1] is None
        assert made["text_b"].to_pylist()[:-1] == made["text_a"].to_pylist()[1:]
    report = json.loads((out / "report.json").read_text())
    assert (report["format"], report["labels"]) == ("sequence_classification", ["yes", "no"])
    assert report["splits"]["dev"]["rows"] == report["splits"]["dev"]["rows_in"] == 7
    # What both splits hold is translated once.
    provenance = json.loads((out / "provenance.json").read_text())
    assert (provenance["sentences"], provenance["from_cache"]) == (12, 0)


def test_choices(here: Path) -> None:
    choices = pa.array([TEXTS[1:4], TEXTS[2:4]], pa.list_(pa.string()))
    label = pa.array([0, 1], pa.int32())
    table = pa.table({"id": ["a", "b"], "prompt": TEXTS[:2], "choices": choices, "label": label})
    prepared = write_prepared("choice", {"train": table}, "multiple_choice")
    out = Path("data/translated/choice/tiny-en-de")
    run(spec_of(prepared, fields=["prompt", "choices"]), out)
    known = dict(zip(TEXTS[:4], column(translated("pairs", TEXTS[:4])), strict=True))
    assert column(out, "prompt") == [known[text] for text in TEXTS[:2]]
    expected = [[known[text] for text in found] for found in (TEXTS[1:4], TEXTS[2:4])]
    assert column(out, "choices") == expected
    assert column(out, "label") == [0, 1]


def test_empty_texts_stay_and_count(here: Path) -> None:
    out = translated("pairs", ["", TEXTS[0], "  ", TEXTS[1]])
    assert column(out)[0] == ""
    assert column(out)[2] == "  "
    assert column(out)[1] not in ("", TEXTS[0])
    assert notes(out)["empty texts"] == 3
    assert notes(out)["texts"] == 7


def test_empty_translations_keep_their_source(here: Path) -> None:
    """Put into the cache, because a text of which this model makes nothing is hard to find."""
    translated("first", TEXTS[:40])
    (lines,) = list(Path("state/translations").iterdir())
    cache = TranslationCache(lines)
    cache.add({"one of many": Translation("", False)})
    out = translated("second", [*TEXTS[:40], "one of many"])
    assert column(out)[-1] == "one of many"
    assert notes(out)["empty translations, source kept"] == 2
    for number in range(9):
        cache.add({f"more {number}": Translation("", False)})
    with pytest.raises(InputError, match=r"tiny-en-de: 10 of 50 translations of third are empty"):
        translated("third", [*TEXTS[:40], "one of many", *(f"more {n}" for n in range(9))])
    assert not Path("data/translated/third").joinpath("tiny-en-de").exists()


def test_a_prefix_stands_before_every_text(here: Path, marian: Path) -> None:
    text = TEXTS[0]
    out = translated("pairs", [text], translator=ROW | {"prefix": ">>qab<<"})
    limit = limit_of(
        Translator(TRANSLATOR, ROW | {"prefix": ">>qab<<"}, SETTINGS).lengths([text])[0]
    )
    assert column(out) == [alone(marian, f">>qab<< {text}", limit)[0].strip()]
    assert column(out) != column(translated("plain", [text]))


def test_a_language_code_begins_every_output(here: Path, marian: Path) -> None:
    """As NLLB and M2M100 have it; any token of the vocabulary does here."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(marian)
    text, code = TEXTS[0], ">>qab<<"
    row = ROW | {"source_code": code, "target_code": code}
    out = translated("pairs", [text], translator=row)
    limit = limit_of(len(tokenizer(text)["input_ids"]))
    number = tokenizer.convert_tokens_to_ids(code)
    assert column(out) == [alone(marian, text, limit, forced_bos_token_id=number)[0].strip()]
    assert column(out) != column(translated("plain", [text]))


def test_m2m100_is_told_both_languages(here: Path, tmp_path: Path) -> None:
    """Its codes are of the tokenizer's own, and no tokens of the vocabulary."""
    from transformers import AutoTokenizer, M2M100ForConditionalGeneration

    folder = write_m2m100(tmp_path / "m2m100")
    write_translator(folder)
    row = ROW | {"source_code": "en", "target_code": "de"}
    short = SETTINGS | {"max_new_tokens": 24}
    out = translated("pairs", TEXTS[:4], translator=row, settings=short)
    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang="en")
    model = M2M100ForConditionalGeneration.from_pretrained(folder).eval()
    for text, made in zip(TEXTS[:4], column(out), strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        (ids,) = model.generate(
            **inputs,
            forced_bos_token_id=tokenizer.get_lang_id("de"),
            num_beams=3,
            renormalize_logits=True,
            max_new_tokens=24,
        )
        assert made == tokenizer.decode(ids[2:], skip_special_tokens=True).strip()
    assert len(set(column(out))) == 4
    with pytest.raises(InputError, match=r"has no token 'deu_Latn'"):
        translated("wrong", TEXTS[:4], translator=row | {"target_code": "deu_Latn"})


# ---- long texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three four. Five", ["One two.", "Three four.", "Five"]),
        ("One. Two. Three four! Five", ["One. Two.", "Three four!", "Five"]),
        ("one two three four five six", ["one two", "three four", "five six"]),
        ("Yes. abcdefghijklmnopqrst no", ["Yes.", "abcdefghijkl", "mnopqrst", "no"]),
        ('He said "no." Then left', ["He said", '"no."', "Then left"]),
        ("今天天氣很好。明天下雨。後天晴。", ["今天天氣很好。明天下雨。", "後天晴。"]),
        ("short", ["short"]),
    ],
)
def test_a_text_is_cut_at_sentences_then_words_then_anywhere(
    text: str, expected: list[str]
) -> None:
    assert cut(text, lambda part: len(part) <= 12) == expected


def test_cutting_loses_nothing_but_white_space() -> None:
    text = " ".join(sentences("qaa", 30)) + "\n" + "x" * 50
    parts = cut(text, lambda part: len(part) <= 30)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert max(map(len, parts)) <= 30


def test_a_long_text_is_translated_in_parts(here: Path) -> None:
    long = " . ".join(TEXTS[:8]) + " ."
    out = translated("long", [long, TEXTS[9]])
    translator = Translator(TRANSLATOR, ROW, SETTINGS)
    parts = translator.parts([long])[long]
    assert len(parts) > 2
    assert max(translator.lengths(parts)) <= POSITIONS
    assert " ".join(parts) == long
    assert column(out)[0] == " ".join(column(translated("parts", parts)))
    assert notes(out)["texts translated in parts"] == 1


def test_the_study_may_cut_earlier(here: Path) -> None:
    translator = Translator(TRANSLATOR, ROW, SETTINGS | {"max_source_tokens": 16})
    parts = translator.parts([" . ".join(TEXTS[:3])])
    assert max(translator.lengths(*parts.values())) <= 16


# ---- batches


def test_batches_are_of_one_rounded_length_and_within_budget() -> None:
    lengths = [5, 40, 16, 17, 33, 3, 16, 90, 2]
    texts = [f"text {number}" for number in range(len(lengths))]
    found = list(batches(lengths, texts, 48))
    assert found == [[7], [1], [4], [3], [2, 6, 0], [5, 8]]
    order = [8, 3, 1, 0, 7, 6, 2, 5, 4]
    other = batches([lengths[i] for i in order], [texts[i] for i in order], 48)
    assert [[order[place] for place in batch] for batch in other] == found


# ---- stopped and resumed


def _child(folder: Path, spec: dict[str, Any], out: str, number: int, sign: int) -> None:
    """A process that gets a signal right after so many batches were kept."""
    os.chdir(folder)
    sys.stderr = open(folder / "said", "w")  # noqa: SIM115
    add, done = TranslationCache.add, [0]

    def counting(self: TranslationCache, batch: Any) -> None:
        add(self, batch)
        done[0] += 1
        if done[0] == number:
            os.kill(os.getpid(), sign)

    TranslationCache.add = counting  # type: ignore[method-assign]
    run(spec, Path(out))


def stopped(here: Path, spec: dict[str, Any], out: str, number: int, sign: int) -> int | None:
    process = multiprocessing.get_context("spawn").Process(
        target=_child, args=(here, spec, out, number, sign)
    )
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_and_resumed_gives_the_same_bytes(here: Path, sign: int) -> None:
    texts = TEXTS[:50]
    out = translated("pairs", texts)
    expected = describe_files(out) | {"provenance.json": {}}
    manifest = (out / MANIFEST).read_bytes()
    shutil.rmtree("state")
    shutil.rmtree(out)
    spec = spec_of("data/prepared/pairs/en")
    status = stopped(here, spec, out.as_posix(), 3, sign)
    assert status == (-signal.SIGKILL if sign == signal.SIGKILL else EXIT_MORE_TIME)
    assert not out.exists()
    (kept,) = Path("state/translations").glob("*/*.jsonl")
    assert len(kept.read_text().splitlines()) == 3
    # Once more, with its last line torn as a power cut leaves it.
    kept.write_bytes(kept.read_bytes()[:-20])
    run(spec, out)
    assert describe_files(out) | {"provenance.json": {}} == expected
    assert (out / MANIFEST).read_bytes() == manifest
    assert 0 < json.loads((out / "provenance.json").read_text())["from_cache"] < 50
    if sign == signal.SIGTERM:
        assert "needs more time" in (here / "said").read_text()


def test_a_time_limit_ends_it_in_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The third batch comes too late.
    times = iter([False, False, True])
    monkeypatch.setattr(Deadline, "due", lambda _: next(times))
    with pytest.raises(SystemExit) as stopped:
        translated("pairs", TEXTS[:30])
    assert stopped.value.code == EXIT_MORE_TIME == 75
    assert not Path("data/translated/pairs/tiny-en-de").exists()
    (kept,) = Path("state/translations").glob("*/*.jsonl")
    assert len(kept.read_text().splitlines()) == 2


def test_a_second_data_set_finds_what_it_shares(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = translated("first", TEXTS[:20])

    def refuse(*_: Any) -> None:
        raise AssertionError("translated again")

    monkeypatch.setattr(Translator, "translate", refuse)
    second = translated("second", TEXTS[5:15])
    assert column(second) == column(first)[5:15]
    assert json.loads((second / "provenance.json").read_text())["from_cache"] == 10
    # Other settings have other translations.
    with pytest.raises(AssertionError, match="translated again"):
        translated("third", TEXTS[5:15], settings=SETTINGS | {"num_beams": 1})


def test_two_writers_have_a_file_each(tmp_path: Path) -> None:
    one, two = TranslationCache(tmp_path), TranslationCache(tmp_path)
    for number in range(20):
        one.add({f"a {number}\n": Translation(f"A {number}\u2028", False)})
        two.add({f"b {number}": Translation(f"B {number}", True)})
    assert len(list(tmp_path.iterdir())) == 2
    known = TranslationCache(tmp_path).known
    assert known == one.known | two.known
    assert known["b 7"] == Translation("B 7", True)


def test_damaged_lines_are_not_used(tmp_path: Path) -> None:
    cache = TranslationCache(tmp_path)
    for number in range(3):
        cache.add({f"source {number}": Translation(f"made {number}", False)})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes().replace(b"made 1", b"maze 1"))
    assert sorted(TranslationCache(tmp_path).known) == ["source 0", "source 2"]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    cache = TranslationCache(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match=r"cache/.*jsonl: cannot be written \(No such file"):
        cache.add({"a": Translation("b", False)})


# ---- what is refused


def test_a_prefix_that_the_model_does_not_know(here: Path) -> None:
    with pytest.raises(InputError, match=r"tiny-en-de: its vocabulary has no token '>>xyz<<'"):
        translated("pairs", TEXTS[:2], translator=ROW | {"prefix": ">>xyz<<"})
    codes = {"source_code": ">>qab<<", "target_code": "deu_Latn"}
    with pytest.raises(InputError, match=r"its vocabulary has no token 'deu_Latn'"):
        translated("pairs", TEXTS[:2], translator=ROW | codes)


def test_damaged_weights(here: Path) -> None:
    with (TRANSLATOR / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"model\.safetensors: has another size"):
        translated("pairs", TEXTS[:2])


def test_missing_weights(here: Path, tmp_path: Path, marian: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(marian, broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.decoder.layers.0.fc1.weight"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    write_translator(broken)
    with pytest.raises(InputError, match=r"no weights for model\.decoder\.layers\.0\.fc1\.weight"):
        translated("pairs", TEXTS[:2])


def test_weights_as_old_repositories_have_them(here: Path, tmp_path: Path, marian: Path) -> None:
    """Without the positions, which are computed, and with one of the tied embeddings only."""
    from safetensors.torch import load_file, save_file

    expected = column(translated("pairs", TEXTS[:5]))
    old = tmp_path / "old"
    shutil.copytree(marian, old)
    tensors = load_file(old / "model.safetensors")
    tied = ("embed_positions.weight", "embed_tokens.weight", "lm_head.weight")
    kept = {name: value for name, value in tensors.items() if not name.endswith(tied)}
    assert "model.shared.weight" in kept
    save_file(kept, old / "model.safetensors", {"format": "pt"})
    write_translator(old)
    assert column(translated("again", TEXTS[:5])) == expected


def test_no_tokenizer(here: Path, tmp_path: Path, marian: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(marian, broken)
    (broken / "source.spm").unlink()
    write_translator(broken)
    with pytest.raises(InputError, match=r"cannot be loaded as a tokenizer.*tiny-en-de"):
        translated("pairs", TEXTS[:2])
