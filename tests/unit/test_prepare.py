"""Raw files to the canonical schema: what is mapped, what is counted, what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xstilts.artifacts.publish import publishing
from xstilts.data import prepare
from xstilts.data.spans import nearest_occurrence, place_answer
from xstilts.errors import InputError

NLI = ["contradiction", "entailment", "neutral"]
PAIR = {
    "format": "sequence_classification",
    "splits": {"train": "train"},
    "fields": {"text_a": "premise", "text_b": "hypothesis", "label": "label"},
    "labels": NLI,
}
QA = {
    "format": "question_answering",
    "splits": {"train": "train"},
    "fields": {"id": "id", "context": "context", "question": "question", "answers": "answers"},
}
CHOICE = {
    "format": "multiple_choice",
    "splits": {"train": "train"},
    "fields": {"prompt": "p", "choices": {"each": "c"}, "label": "label"},
    "labels": ["0", "1"],
}
TAGS = {
    "format": "token_classification",
    "splits": {"train": "train"},
    "fields": {"tokens": "tokens", "tags": "tags"},
    "labels": ["O", "B-LOC"],
}
LINES = {
    "format": "masked_lm",
    "layout": "lines",
    "splits": {"train": "{code}.txt"},
    "fields": {"text": "text"},
}
BUCC = {
    "format": "sentence_retrieval",
    "layout": "bucc",
    "splits": {"dev": "sample"},
    "fields": {"source": "source", "target": "target"},
}


@pytest.fixture(autouse=True)
def _in_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hub_table(columns: dict[str, Any], names: dict[str, list[str]] | None = None) -> pa.Table:
    """A table with the metadata that the datasets library writes for class names."""
    features = {column: {"names": n, "_type": "ClassLabel"} for column, n in (names or {}).items()}
    table = pa.table(columns)
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def store(files: dict[str, Any]) -> Path:
    """A raw artifact with tables, lists of lines or bytes."""
    raw = Path("data/raw/it")
    with publishing(raw, {"stage": "fetch"}) as draft:
        for name, content in files.items():
            path = draft.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pa.Table):
                pq.write_table(content, path)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    return raw


def run(
    row: dict[str, Any], files: Any, code: str = "en", expected: dict[str, int] | None = None
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Rows by file stem and the report's splits."""
    files = {"train/0.parquet": files} if isinstance(files, pa.Table) else files
    spec = {
        "stage": "prepare",
        "dataset": "it",
        "language": "en",
        "code": code,
        "row": row,
        "expected": expected or {},
        "inputs": {"raw": str(store(files))},
    }
    out = Path("data/prepared/it/en")
    prepare.run(spec, out)
    tables = {path.stem: pq.read_table(path).to_pylist() for path in out.glob("*.parquet")}
    return tables, json.loads((out / "report.json").read_text())["splits"]


def pair_table(**columns: Any) -> pa.Table:
    return hub_table(
        {"premise": ["a", "b", "c"], "hypothesis": ["x", "y", "z"], "label": [0, 1, 2], **columns}
    )


def answers(text: list[str], start: list[int]) -> dict[str, list[Any]]:
    return {"text": text, "answer_start": start}


def qa_table(contexts: list[str], given: list[Any], **columns: Any) -> pa.Table:
    count = len(contexts)
    return pa.table(
        {
            "id": [f"q{i}" for i in range(count)],
            "context": contexts,
            "question": ["Wer?"] * count,
            "answers": given,
            **columns,
        }
    )


# ---------------------------------------------------------------- labels


def test_class_ids_of_the_hub_are_mapped_by_name() -> None:
    order = ["entailment", "neutral", "contradiction"]
    table = hub_table(
        {"premise": ["a", "b"], "hypothesis": ["x", "y"], "label": [0, 2]}, {"label": order}
    )
    tables, _ = run(PAIR, table)
    assert [row["label"] for row in tables["train"]] == [1, 0]
    assert tables["train"][0] == {"id": "train-0", "text_a": "a", "text_b": "x", "label": 1}


def test_other_class_names_are_refused_with_both_lists() -> None:
    table = hub_table(
        {"premise": ["a"], "hypothesis": ["x"], "label": [0]}, {"label": ["yes", "no"]}
    )
    with pytest.raises(InputError, match="contradiction, entailment, neutral; found yes, no"):
        run(PAIR, table)


def test_named_values_and_strings_are_mapped() -> None:
    row = {**PAIR, "label_values": {"e": "entailment", "n": "neutral", "c": "contradiction"}}
    tables, _ = run(row, pair_table(label=["n", "c", "e"]))
    assert [item["label"] for item in tables["train"]] == [2, 0, 1]
    tables, _ = run(PAIR, pair_table(label=["neutral", "entailment", "contradiction"]))
    assert [item["label"] for item in tables["train"]] == [2, 1, 0]


def test_digits_are_names_before_they_are_indices() -> None:
    row = {**PAIR, "labels": ["1", "2", "3"]}
    tables, _ = run(row, pair_table(label=["1", "3", "2"]))
    assert [item["label"] for item in tables["train"]] == [0, 2, 1]
    with pytest.raises(InputError, match=r"row 1: the label is unknown.*'1', '2', '3'.*found '0'"):
        run(row, pair_table(label=["1", "0", "2"]))


def test_unlabelled_rows_are_dropped_and_counted() -> None:
    row = {**PAIR, "drop_labels": {"-1": "no gold label"}}
    table = hub_table(
        {"premise": ["a", "b", "c"], "hypothesis": ["x", "y", "z"], "label": [1, -1, 0]},
        {"label": ["entailment", "neutral", "contradiction"]},
    )
    tables, report = run(row, table, expected={"train": 5})
    assert [item["id"] for item in tables["train"]] == ["train-0", "train-2"]
    assert report["train"] == {
        "rows_in": 3,
        "rows": 2,
        "expected": 5,
        "dropped": {"no gold label": 1},
        "notes": {"rows fewer than expected": 2},
    }


def test_unknown_label_names_file_row_value_and_choices() -> None:
    files = {"train/0.parquet": pair_table(), "train/1.parquet": pair_table(label=[0, 7, 1])}
    with pytest.raises(InputError, match=r"1\.parquet: row 1: the label.*'contradiction'.*found 7"):
        run(PAIR, files)


# ---------------------------------------------------------------- columns, ids, empty rows


def test_shards_are_read_in_the_order_of_their_names() -> None:
    files = {
        "train/b.parquet": pair_table(premise=["d", "e", "f"]),
        "train/a.parquet": pair_table(),
    }
    tables, _ = run(PAIR, files)
    assert [row["text_a"] for row in tables["train"]] == list("abcdef")


def test_json_lines_are_read() -> None:
    lines = [json.dumps({"premise": "ä", "hypothesis": "x", "label": 2})]
    tables, _ = run(PAIR, {"train/train.jsonl": lines})
    assert tables["train"] == [{"id": "train-0", "text_a": "ä", "text_b": "x", "label": 2}]


def test_single_sentences_have_no_second_text() -> None:
    row = {**PAIR, "fields": {"text_a": "premise", "label": "label"}}
    tables, _ = run(row, pair_table())
    assert [item["text_b"] for item in tables["train"]] == [None] * 3


def test_templates_reach_into_structs_and_are_filled_per_item() -> None:
    row = {
        **CHOICE,
        "fields": {
            "prompt": "{a}: {q.stem}",
            "choices": {"each": "q.ends", "template": "{b} {each}"},
            "label": "label",
        },
    }
    question = {"stem": "Was?", "ends": ["rot", "blau"]}
    table = pa.table({"a": ["A", "B"], "b": ["er ist", ""], "q": [question] * 2, "label": [1, 0]})
    tables, _ = run(row, table)
    assert tables["train"][0]["prompt"] == "A: Was?"
    assert tables["train"][0]["choices"] == ["er ist rot", "er ist blau"]
    assert tables["train"][1]["choices"] == ["rot", "blau"]  # no blank from the empty column


def test_choices_from_fixed_columns() -> None:
    row = {**CHOICE, "fields": {"prompt": "p", "choices": ["{x}", "{y}"], "label": "label"}}
    table = pa.table({"p": ["p", "q"], "x": ["a", "c"], "y": ["b", "d"], "label": [1, 0]})
    tables, _ = run(row, table)
    assert [item["choices"] for item in tables["train"]] == [["a", "b"], ["c", "d"]]


def test_repeated_and_missing_ids_become_row_numbers() -> None:
    row = {**PAIR, "fields": {**PAIR["fields"], "id": "uid"}}
    tables, report = run(row, pair_table(uid=["u", "u", None]))
    assert [item["id"] for item in tables["train"]] == ["u", "train-1", "train-2"]
    assert report["train"]["notes"] == {"repeated ids": 1, "ids missing": 1}


def test_empty_texts_are_dropped_from_training_only() -> None:
    table = pair_table(premise=["a", " \n", "c"])
    tables, report = run(
        {**PAIR, "splits": {"train": "train", "test": "test"}},
        {"train/0.parquet": table, "test/0.parquet": table},
    )
    assert [item["id"] for item in tables["train"]] == ["train-0", "train-2"]
    assert report["train"]["dropped"] == {"empty text_a": 1}
    assert len(tables["test"]) == 3
    assert report["test"]["notes"] == {"empty text_a": 1}


def test_rows_of_one_language_by_prefix() -> None:
    row = {**QA, "where": {"column": "id", "prefix": "{code}-"}}
    given = [answers(["b"], [1])] * 3
    table = qa_table(["abc"] * 3, given, id=["korean-1", "english-1", "korean-2"])
    tables, report = run(row, table, code="korean", expected={"train": 2})
    assert [item["id"] for item in tables["train"]] == ["korean-1", "korean-2"]
    assert report["train"]["rows_in"] == 2
    assert report["train"]["notes"] == {"rows of other languages": 1}
    with pytest.raises(InputError, match="no row's 'id' starts with 'thai-'; found 'korean-1'"):
        run(row, table, code="thai")


def test_holdout_keeps_a_context_on_one_side() -> None:
    contexts = [f"abc {i // 3}" for i in range(300)]
    table = qa_table(contexts, [answers(["b"], [1])] * 300)
    tables, report = run({**QA, "holdout": 0.2}, table)
    sides = [{row["context"] for row in tables[split]} for split in ("train", "dev")]
    assert not sides[0] & sides[1]
    assert 10 <= len(sides[1]) <= 30
    assert report["train"]["notes"]["rows held out for dev"] == report["dev"]["rows"]
    assert report["train"]["rows"] + report["dev"]["rows"] == 300


def test_the_same_input_gives_the_same_bytes() -> None:
    out = Path("data/prepared/it/en/train.parquet")
    run(PAIR, pair_table())
    first = out.read_bytes()
    run(PAIR, pair_table())
    assert out.read_bytes() == first


# ---------------------------------------------------------------- answers


def test_answers_are_kept_refound_or_empty() -> None:
    contexts = ["今天天氣很好", "a cat, a dog, a cat", "nichts"]
    given = [answers(["天氣"], [2]), answers(["cat", "cat"], [16, 0]), answers([], [])]
    tables, report = run(QA, qa_table(contexts, given))
    found = [row["answers"] for row in tables["train"]]
    assert found[0] == [{"text": "天氣", "start": 2}]
    assert found[1] == [{"text": "cat", "start": 16}, {"text": "cat", "start": 2}]
    assert found[2] == []
    assert report["train"]["notes"] == {"answers refound": 1, "questions without an answer": 1}


def test_answers_as_a_list_of_structs() -> None:
    table = qa_table(["abc"], [[{"text": "bc", "start": 1}]])
    tables, _ = run(QA, table)
    assert tables["train"][0]["answers"] == [{"text": "bc", "start": 1}]


@pytest.mark.parametrize(
    ("context", "text", "start", "expected"),
    [
        ("Cafe\u0301 au lait", "Café", 0, {"text": "Cafe\u0301", "start": 0}),
        ("im  Jahr\n1918", "Jahr 1918", 3, {"text": "Jahr\n1918", "start": 4}),
        (
            "\u1112\u1161\u11ab\u1100\u1173\u11af",
            "글",
            0,
            {"text": "\u1100\u1173\u11af", "start": 3},
        ),
    ],
)
def test_answers_that_only_match_normalised(
    context: str, text: str, start: int, expected: dict[str, Any]
) -> None:
    notes = prepare.Counter()
    assert place_answer(context, text, start, notes, "here") == expected
    assert notes == {"answers normalised": 1}
    assert context[expected["start"] :].startswith(expected["text"])


@pytest.mark.parametrize(
    ("start", "expected"), [(0, 0), (3, 4), (1, 0), (7, 8), (99, 8), (-5, 0), (2, 0)]
)
def test_nearest_occurrence(start: int, expected: int) -> None:
    assert nearest_occurrence("ab, ab, ab", "ab", start) == expected


def test_missing_answer_names_row_and_text() -> None:
    table = qa_table(["abc", "abc"], [answers(["b"], [1]), answers(["xyz"], [0])])
    with pytest.raises(InputError, match=r"0\.parquet: row 1: the answer is not .* found 'xyz'"):
        run(QA, table)


# ---------------------------------------------------------------- other layouts


def test_ccg_layout_takes_labels_in_the_order_of_their_ids() -> None:
    row = {
        **TAGS,
        "layout": "ccg",
        "labels": None,
        "labels_file": "tags_to_id.json",
        "splits": {"train": "ccg.train"},
    }
    files = {
        "files/ccg.train": ["the cat\tNP/N N", "cats\tN"],
        "files/tags_to_id.json": ['{"N": "1", "NP/N": "0"}'],
    }
    tables, _ = run(row, files)
    assert tables["train"][0] == {"id": "train-0", "tokens": ["the", "cat"], "tags": [0, 1]}
    files["files/ccg.train"] = ["the cat\tNP/N N", "cats\tN N"]
    with pytest.raises(InputError, match=r"ccg\.train: line 2: .*unequal.*1 tokens, 2 tags"):
        run(row, files)
    files["files/ccg.train"] = ["the cat\tNP/N X"]
    with pytest.raises(InputError, match=r"ccg\.train: line 1: the label is unknown.* found 'X'"):
        run(row, files)
    files["files/ccg.train"] = ["the cat"]
    with pytest.raises(InputError, match=r"line 1: has another form; expected text, TAB"):
        run(row, files)
    files["files/tags_to_id.json"] = ['{"N": "2", "NP/N": "0"}']
    with pytest.raises(InputError, match="label ids have gaps"):
        run(row, files)


def test_lines_layout_counts_repeats_and_drops_empty_lines() -> None:
    tables, report = run(LINES, {"files/de.txt": ["eins", "", "zwei", "eins"]}, code="de")
    assert [row["text"] for row in tables["train"]] == ["eins", "zwei", "eins"]
    assert report["train"]["dropped"] == {"empty text": 1}
    assert report["train"]["notes"] == {"repeated texts": 1}


def test_aligned_sentences_are_stripped_and_counted() -> None:
    row = {
        "format": "sentence_retrieval",
        "splits": {"test": "validation"},
        "fields": {"source": "s", "target": "t"},
        "strip": True,
    }
    table = pa.table({"s": ["ja\n", "nein\n", "ja\n"], "t": ["yes\n", "no", "\n"]})
    tables, report = run(row, {"validation/0.parquet": table})
    assert tables["test.source"][0] == {"id": "test-0", "text": "ja"}
    assert tables["test.gold"][2] == {"source_id": "test-2", "target_id": "test-2"}
    assert report["test"]["rows"] == 3
    assert report["test"]["notes"] == {
        "texts stripped of white space": 5,
        "source sentences": 3,
        "target sentences": 3,
        "repeated source texts": 1,
        "empty target texts": 1,
    }


def test_comparable_sentences_lack_a_side() -> None:
    row = {
        "format": "sentence_retrieval",
        "layout": "comparable",
        "splits": {"test": "validation"},
        "fields": {"id": "id", "source": "s", "target": "t"},
    }
    table = pa.table(
        {"id": ["a", "b", "c"], "s": ["eins", None, "drei"], "t": ["one", "two", None]}
    )
    tables, report = run(row, {"validation/0.parquet": table})
    assert tables["test.source"] == [{"id": "a", "text": "eins"}, {"id": "c", "text": "drei"}]
    assert tables["test.target"] == [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]
    assert tables["test.gold"] == [{"source_id": "a", "target_id": "a"}]
    assert report["test"]["rows"] == 1
    with pytest.raises(InputError, match="row 1"):
        run(row | {"layout": "parquet"}, {"validation/0.parquet": table})


BUCC_FILES = {
    "files/de-en.sample.de": ["de-1\tEins", "de-2\tZwei", "de-3\tDrei"],
    "files/de-en.sample.en": ["en-1\tTwo", "en-2\tFour"],
    "files/de-en.sample.gold": ["de-2\ten-1"],
}


@pytest.mark.parametrize("prefix", ["files/de-en.sample.", "files/sample."])
def test_bucc_layout(prefix: str) -> None:
    files = {name.replace("files/de-en.sample.", prefix): v for name, v in BUCC_FILES.items()}
    tables, report = run(BUCC, files, code="de", expected={"dev": 1})
    assert tables["dev.source"][1] == {"id": "de-2", "text": "Zwei"}
    assert tables["dev.gold"] == [{"source_id": "de-2", "target_id": "en-1"}]
    assert report["dev"]["notes"] == {"source sentences": 3, "target sentences": 2}
    assert report["dev"]["rows"] == 1


@pytest.mark.parametrize(
    ("suffix", "lines", "message"),
    [
        ("gold", ["de-2\ten-9"], r"gold: line 1: the gold id is in no sentence file.*found en-9"),
        ("de", ["de-2\tA", "de-2\tB"], r"\.de: line 2: the sentence id is not unique; found de-2"),
        ("en", ["en-1 Two"], r"\.en: line 1: has another form; expected id, TAB, sentence"),
    ],
)
def test_bad_bucc_files(suffix: str, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(BUCC, {**BUCC_FILES, f"files/de-en.sample.{suffix}": lines}, code="de")


def test_missing_bucc_file() -> None:
    files = {k: v for k, v in BUCC_FILES.items() if not k.endswith("gold")}
    with pytest.raises(InputError, match=r"one file of split 'sample' that ends in \.gold"):
        run(BUCC, files, code="de")


# ---------------------------------------------------------------- bad input

CHOICES = {"p": ["p"], "c": [["a", "b"]], "label": [0]}
TOKENS = {"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [0]]}


@pytest.mark.parametrize(
    ("row", "table", "message"),
    [
        (
            PAIR,
            pa.table({"premise": ["a"], "hypotesis": ["b"], "label": [0]}),
            "no column 'hypothesis'.*found columns premise, hypotesis, label.*mean 'hypotesis'",
        ),
        (PAIR, pair_table(premise=[1, 2, 3]), "'premise' has the wrong type; expected text.*int64"),
        (PAIR, pair_table(premise=["a", None, "c"]), "row 1: column 'premise' is null"),
        (PAIR, pair_table(label=[0, None, 1]), "row 1: the label is unknown.*found None"),
        (PAIR, pair_table().slice(0, 0), "no row is left for train.parquet"),
        (CHOICE, pa.table({**CHOICES, "c": [["a"]]}), "row 0: a question needs two choices"),
        (
            {**CHOICE, "labels": ["0", "1", "2"]},
            pa.table({**CHOICES, "label": [2]}),
            "row 0: the label is not one of the choices; found 2 choices, label '2'",
        ),
        (CHOICE, pa.table({**CHOICES, "c": [["a", None]]}), "row 0: column 'c' is null"),
        (CHOICE, pa.table({**CHOICES, "c": ["a b"]}), "'c' has the wrong type; expected a list"),
        (
            {**CHOICE, "fields": {**CHOICE["fields"], "prompt": "{p.stem}"}},
            pa.table({**CHOICES, "p": [{"stam": "x"}]}),
            "there is no 'stem' inside.*mean 'stam'",
        ),
        (
            TAGS,
            pa.table({**TOKENS, "tags": [[0, 1], [0, 0]]}),
            "row 1: tokens and tags are of unequal length; found 1 tokens, 2 tags",
        ),
        (TAGS, pa.table({**TOKENS, "tags": [[0, 1], [5]]}), "row 1: the label is unknown.*found 5"),
        (QA, qa_table(["abc"], ["b"]), "column 'answers' holds no answers; expected text and"),
        (QA, qa_table(["abc"], [answers(["b", "c"], [1])]), "column 'answers' holds no answers"),
        ({**PAIR, "splits": {"train": "trian"}}, pair_table(), "no split 'trian'.*mean 'train'"),
    ],
)
def test_bad_input_is_named(row: dict[str, Any], table: pa.Table, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(row, table)
    assert not Path("data/prepared/it/en").exists()


def test_parquet_that_is_cut_short() -> None:
    pq.write_table(pair_table(), "whole.parquet")
    whole = Path("whole.parquet").read_bytes()
    for part in (whole[:-20], whole[: len(whole) // 2]):
        with pytest.raises(InputError, match=r"0\.parquet: is no whole parquet file.*fetch"):
            run(PAIR, {"train/0.parquet": part})


def test_text_that_is_not_utf8_names_the_line() -> None:
    with pytest.raises(InputError, match=r"de\.txt: line 2: is no UTF-8 text.*byte 2 of the line"):
        run(LINES, {"files/de.txt": b"gut\nna\xefve\n"}, code="de")
    with pytest.raises(InputError, match=r"t\.jsonl: line 1: is no UTF-8 text"):
        run(PAIR, {"train/t.jsonl": b'{"premise": "\xff"}\n'})


def test_parquet_with_bytes_that_are_not_utf8() -> None:
    bad = pa.array([b"ok", b"na\xefve", b"x"]).cast(pa.string(), safe=False)
    with pytest.raises(InputError, match="no whole parquet file with UTF-8 text"):
        run(PAIR, pair_table(premise=bad))


def test_changed_raw_bytes_are_noticed() -> None:
    raw = store({"train/0.parquet": pair_table()})
    pq.write_table(pair_table(premise=["A", "b", "c"]), raw / "train/0.parquet")
    spec = {"dataset": "it", "language": "en", "code": "en", "row": PAIR}
    with pytest.raises(InputError, match="other bytes than in its manifest"):
        prepare.run({**spec, "inputs": {"raw": str(raw)}}, Path("data/prepared/it/en"))


def test_unknown_kind_of_file_and_two_dev_sets() -> None:
    with pytest.raises(InputError, match=r"is of an unknown kind; expected \.parquet"):
        run(PAIR, {"train/train.csv": ["a,b"]})
    row = {**PAIR, "splits": {"train": "train", "dev": "dev"}, "holdout": 0.1}
    with pytest.raises(InputError, match="both a holdout and a dev split"):
        run(row, pair_table())


# ---------------------------------------------------------------- real slices


def from_registry(
    shared: Path, name: str, language: str = "en"
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    from xstilts.registry import load_registry

    row = load_registry().datasets[name]
    folder = shared / "hub" / row.source.hub / row.config(language)  # type: ignore[union-attr]
    reading = row.reading(language)
    files = {
        f"{split}/{path.name}": path.read_bytes()
        for split in reading["splits"].values()
        for path in folder.glob(f"{split}-*.parquet")
    }
    assert files, folder
    return run(reading, files, row.languages[language])


def test_snli_has_one_row_without_gold_label(shared: Path) -> None:
    _, report = from_registry(shared, "snli")
    assert report["train"]["dropped"] == {"no gold label": 1}
    assert report["dev"]["dropped"] == {}


@pytest.mark.parametrize(
    ("name", "language", "refound"),
    [("tydiqa", "ko", 54), ("tydiqa", "sw", 27), ("xquad", "ar", 14), ("xquad", "el", None)],
)
def test_shifted_answers_are_refound(
    shared: Path, name: str, language: str, refound: int | None
) -> None:
    tables, report = from_registry(shared, name, language)
    assert report["test"]["notes"].get("answers refound") == refound
    for row in tables["test"]:
        for answer in row["answers"]:
            start = answer["start"]
            assert row["context"][start : start + len(answer["text"])] == answer["text"]


def test_tydiqa_dev_is_held_out_of_english_training(shared: Path) -> None:
    tables, report = from_registry(shared, "tydiqa")
    assert report["dev"]["rows"] + report["train"]["rows"] == report["train"]["rows_in"]
    assert not {r["context"] for r in tables["dev"]} & {r["context"] for r in tables["train"]}


def test_tatoeba_newlines_are_stripped(shared: Path) -> None:
    tables, report = from_registry(shared, "tatoeba", "af")
    assert tables["test.source"][0]["text"] == "Haar Engels is uitstekend."
    assert report["test"]["notes"]["texts stripped of white space"] == 600


def test_udpos_tags_are_mapped_by_name(shared: Path) -> None:
    from xstilts.registry import load_registry

    tables, _ = from_registry(shared, "udpos_hub", "af")
    labels = load_registry().datasets["udpos_hub"].labels
    assert labels is not None
    first = tables["test"][0]
    assert first["tokens"][:4] == ["Nóg", "die", "GCIS", "of"]
    assert [labels[tag] for tag in first["tags"][:4]] == ["SCONJ", "DET", "X", "CCONJ"]


@pytest.mark.parametrize(
    ("name", "language", "prompt", "chosen", "choices"),
    [
        ("hellaswag", "en", "A man is sitting on a roof.", "he starts pulling up roofing", 4),
        ("commonsense_qa", "en", "A revolving door is convenient", "bank", 5),
        ("siqa", "en", "Tracy didn't go home", "Find somewhere to go", 3),
        ("copa", "en", "My body cast a shadow", "The sun was rising.", 2),
        ("cosmos_qa", "en", "Do i need to go for a legal", "He wants to get married", 4),
        ("xcopa", "et", "Ese oli mullikilesse", "See oli õrn.", 2),
    ],
)
def test_choices_of_real_data(
    shared: Path, name: str, language: str, prompt: str, chosen: str, choices: int
) -> None:
    tables, _ = from_registry(shared, name, language)
    row = tables.get("train", tables.get("test", []))[0]
    assert row["prompt"].startswith(prompt)
    assert row["choices"][row["label"]].startswith(chosen)
    assert len(row["choices"]) == choices


def test_premise_and_question_stand_apart_too(shared: Path) -> None:
    for name, language in (("copa", "en"), ("xcopa", "et")):
        tables, _ = from_registry(shared, name, language)
        for row in [row for rows in tables.values() for row in rows]:
            assert row["prompt"] == f"{row['premise']} What was the {row['question']}?"
            assert row["question"] in ("cause", "effect")
    tables, _ = from_registry(shared, "siqa")
    assert {"premise", "question"}.isdisjoint(tables["train"][0])


def test_ccg_of_the_real_layout(shared: Path) -> None:
    folder = shared / "files/ccg/jiant_layout"
    names = ("ccg.train", "ccg.dev", "tags_to_id.json")
    row = {
        **TAGS,
        "layout": "ccg",
        "labels": None,
        "labels_file": "tags_to_id.json",
        "splits": {"train": "ccg.train", "dev": "ccg.dev"},
    }
    tables, _ = run(row, {f"files/{name}": (folder / name).read_bytes() for name in names})
    first = tables["dev"][2]
    assert first["tokens"] == ["Some", "cheerleaders", "are", "relaxing"]
    label_of = {int(v): k for k, v in json.loads((folder / names[2]).read_text()).items()}
    assert [label_of[tag] for tag in first["tags"]][:2] == ["NP[nb]/N", "N"]


def test_bucc_of_the_real_layout(shared: Path) -> None:
    folder = shared / "files/bucc2018"
    files = {f"files/{p.name}": p.read_bytes() for p in folder.glob("zh-en.dev.*")}
    tables, report = run({**BUCC, "splits": {"dev": "dev"}}, files, code="zh")
    assert report["dev"]["rows"] == 257
    assert len(tables["dev.source"]) == 8624
    assert len(tables["dev.target"]) == 13589
