"""The score stage: alignment, its errors, what it writes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError
from xstilts.evaluation.score import run

LABELS = ["contradiction", "entailment", "neutral"]
NLI = {"id": ["test-0", "test-1", "test-2"], "label": [0, 1, 2]}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def publish(out, files):
    """Publish an artifact: tables as parquet, texts and bytes as they are; its path."""
    with publishing(Path(out), {"stage": "test"}) as draft:
        for name, content in files.items():
            if isinstance(content, dict):
                pq.write_table(pa.table(content), draft.folder / name)
            else:
                data = content if isinstance(content, bytes) else content.encode()
                (draft.folder / name).write_bytes(data)
    return out


def prepared(language, labels=None, **tables):
    files = {f"test.{name}.parquet".replace(".rows", ""): table for name, table in tables.items()}
    report = json.dumps({"labels": labels})
    return publish(f"data/prepared/x/{language}", {**files, "report.json": report})


def jsonl(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def score(metric, format_, gold, predictions, out="scores/m/none/seed-1/x"):
    """Score languages; gold and predictions by language, the latter lines or a file's content."""
    files = {
        f"{language}.jsonl": lines if isinstance(lines, str | bytes) else jsonl(lines)
        for language, lines in predictions.items()
    }
    spec = {
        "stage": "score",
        "code": "0",
        "target": "x",
        "metric": metric,
        "format": format_,
        "languages": list(gold),
        "inputs": {
            "predictions": publish("predictions/m/none/seed-1/x", files),
            "gold": list(gold.values()),
        },
    }
    run(spec, Path(out))
    return json.loads((Path(out) / "scores.json").read_text(encoding="utf-8"))


def score_nli(lines):
    gold = {"en": prepared("en", LABELS, rows=NLI)}
    return score("accuracy", "sequence_classification", gold, {"en": lines})


def nli_lines(*predictions):
    return [{"id": f"test-{i}", "prediction": value} for i, value in enumerate(predictions)]


def value(scores, name, language="en"):
    rows = [r for r in scores["rows"] if (r["language"], r["metric"]) == (language, name)]
    assert len(rows) == 1
    return rows[0]["value"]


# ---- what it writes


def test_scores_and_statistics_of_two_languages():
    gold = {
        "en": prepared("en", LABELS, rows=NLI),
        "de": prepared("de", LABELS, rows={"id": ["a"], "label": [2]}),
    }
    predictions = {
        "en": nli_lines("contradiction", "neutral", "neutral"),
        "de": [{"id": "a", "prediction": "neutral"}],
    }
    scores = score("accuracy", "sequence_classification", gold, predictions)
    assert scores == {
        "target": "x",
        "metric": "accuracy",
        "columns": ["correct", "examples"],
        "rows": [
            {
                "language": language,
                "metric": "accuracy",
                "value": pytest.approx(100 * share, abs=1e-9),
                "n": n,
                "split": "test",
                "main": True,
            }
            for language, share, n in (("en", 2 / 3, 3), ("de", 1, 1))
        ],
        "notes": {},
        "layers": {},
    }
    statistics = load_file("scores/m/none/seed-1/x/statistics.safetensors")
    assert statistics["en"].tolist() == [[1, 1], [0, 1], [1, 1]]
    assert statistics["de"].dtype == np.float64


def test_the_same_predictions_give_the_same_bytes():
    gold = {code: prepared(code, LABELS, rows=NLI) for code in ("en", "de", "fr", "sw")}
    predictions = dict.fromkeys(gold, nli_lines("neutral", "neutral", "neutral"))
    manifests = []
    for _ in range(2):
        score("accuracy", "sequence_classification", gold, predictions)
        manifests.append(read_manifest(Path("scores/m/none/seed-1/x")).files)
    assert manifests[0] == manifests[1]
    assert set(manifests[0]) == {"scores.json", "statistics.safetensors"}


def test_multiple_choice():
    table = {"id": ["a", "b"], "choices": [["x", "y"], ["x", "y", "z"]], "label": [1, 2]}
    gold = {"en": prepared("en", ["0", "1", "2"], rows=table)}
    lines = [{"id": "a", "prediction": 1}, {"id": "b", "prediction": 0}]
    assert value(score("accuracy", "multiple_choice", gold, {"en": lines}), "accuracy") == 50.0
    with pytest.raises(InputError, match=r"line 1 \(id 'a'\).*an integer from 0 to 1; found 2"):
        score("accuracy", "multiple_choice", gold, {"en": [{**lines[0], "prediction": 2}]})
    with pytest.raises(InputError, match="found True"):
        score("accuracy", "multiple_choice", gold, {"en": [{**lines[0], "prediction": True}]})


def test_tags():
    labels = ["O", "B-PER", "I-PER"]
    gold = {"en": prepared("en", labels, rows={"id": ["a"], "tags": [[1, 2, 0]]})}
    lines = [{"id": "a", "prediction": ["B-PER", "I-PER", "B-PER"]}]
    scores = score("seqeval_f1", "token_classification", gold, {"en": lines})
    assert value(scores, "f1") == pytest.approx(200 / 3)
    assert value(scores, "token_accuracy") == pytest.approx(200 / 3)
    assert [row["metric"] for row in scores["rows"] if row["main"]] == ["f1"]
    for bad, message in ((["O", "O"], "a list of 3 labels"), (["O", "O", "X"], r"a label \(O,")):
        lines = [{"id": "a", "prediction": bad}]
        with pytest.raises(InputError, match=message):
            score("seqeval_f1", "token_classification", gold, {"en": lines})


def test_answers():
    table = {
        "id": ["a", "b"],
        "answers": [[{"text": "cat", "start": 0}], [{"text": "x", "start": 0}]],
    }
    gold = {"en": prepared("en", rows=table)}
    lines = [{"id": "a", "prediction": "the cat"}, {"id": "b", "prediction": ""}]
    scores = score("squad_f1", "question_answering", gold, {"en": lines})
    assert [value(scores, name) for name in ("f1", "exact_match", "mean")] == [50.0] * 3
    lines[0]["prediction"] = None
    with pytest.raises(InputError, match="a text; found None"):
        score("squad_f1", "question_answering", gold, {"en": lines})


def test_a_question_without_gold_answer_is_an_error():
    answers = pa.array([[]], pa.list_(pa.struct({"text": pa.string(), "start": pa.int32()})))
    gold = {"en": prepared("en", rows={"id": ["q-7"], "answers": answers})}
    with pytest.raises(InputError, match=r"test\.parquet: id 'q-7': the question has no gold"):
        score("squad_f1", "question_answering", gold, {"en": [{"id": "q-7", "prediction": ""}]})


def test_questions_of_squad_v2_may_have_no_gold_answer():
    kind = pa.list_(pa.struct({"text": pa.string(), "start": pa.int32()}))
    answers = pa.array([[], [{"text": "cat", "start": 0}], []], kind)
    gold = {"en": prepared("en", rows={"id": ["a", "b", "c"], "answers": answers})}
    lines = [{"id": id_, "prediction": text} for id_, text in (("a", ""), ("b", "cat"), ("c", "x"))]
    scores = score("squad_v2_f1", "question_answering", gold, {"en": lines})
    assert value(scores, "f1") == pytest.approx(200 / 3)
    assert value(scores, "has_answer_f1") == 100.0
    assert value(scores, "no_answer_f1") == 50.0
    assert [row["metric"] for row in scores["rows"] if row["main"]] == ["f1"]


def retrieval(language="de", pairs=(("f1", "e1"), ("f2", "e2"), ("f3", "e3"))):
    return prepared(
        language,
        source={"id": ["f1", "f2", "f3"], "text": ["x"] * 3},
        target={"id": ["e1", "e2", "e3"], "text": ["x"] * 3},
        gold={"source_id": [f for f, _ in pairs], "target_id": [e for _, e in pairs]},
    )


def test_tatoeba_asks_for_the_foreign_id_of_each_english_sentence():
    gold = {"de": retrieval(pairs=[("f2", "e1"), ("f1", "e2"), ("f3", "e3")])}
    lines = [{"id": f"e{i}", "prediction": f"f{i}"} for i in (1, 2, 3)]
    scores = score("tatoeba_accuracy", "sentence_retrieval", gold, {"de": lines})
    assert value(scores, "accuracy", "de") == pytest.approx(100 / 3)
    lines[0]["prediction"] = "e2"
    with pytest.raises(InputError, match="a source sentence's id; found 'e2'"):
        score("tatoeba_accuracy", "sentence_retrieval", gold, {"de": lines})


def test_every_hidden_state_is_scored_beside_the_chosen_one():
    gold = {"de": retrieval()}
    found = (("f1", "f1"), ("f1", "f2"), ("f1", "f3"))
    lines = [
        {"id": f"e{i}", "prediction": layers[1], "layers": list(layers)}
        for i, layers in enumerate(found, start=1)
    ]
    scores = score("tatoeba_accuracy", "sentence_retrieval", gold, {"de": lines})
    assert scores["layers"] == {"de": [pytest.approx(100 / 3), 100.0]}
    assert value(scores, "accuracy", "de") == 100.0
    lines[1]["layers"] = ["f1"]
    with pytest.raises(InputError, match=r"line 2: has another number of layers than line 1"):
        score("tatoeba_accuracy", "sentence_retrieval", gold, {"de": lines})
    lines[1]["layers"] = ["f1", "e1"]
    with pytest.raises(InputError, match="a source sentence's id; found 'e1'"):
        score("tatoeba_accuracy", "sentence_retrieval", gold, {"de": lines})


def test_tatoeba_needs_one_translation_of_each_sentence():
    gold = {"de": retrieval(pairs=[("f2", "e1"), ("f1", "e1"), ("f3", "e3")])}
    with pytest.raises(InputError, match=r"3 target ids, each once; found 3 lines with 2"):
        score("tatoeba_accuracy", "sentence_retrieval", gold, {"de": []})


def test_bucc_counts_repeated_pairs_once_and_says_so():
    gold = {"de": retrieval(pairs=[("f1", "e1"), ("f2", "e2")])}
    pairs = [("f1", "e1"), ("f1", "e1"), ("f3", "e2")]
    lines = [{"source_id": one, "target_id": other, "score": 1.1} for one, other in pairs]
    scores = score("bucc_f1", "sentence_retrieval", gold, {"de": lines})
    assert [value(scores, name, "de") for name in ("f1", "precision", "recall")] == [50.0] * 3
    assert scores["notes"] == {"de": {"repeated pairs": 1}}
    assert scores["rows"][0]["n"] == 3
    statistics = load_file("scores/m/none/seed-1/x/statistics.safetensors")["de"]
    assert statistics.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    nothing = score("bucc_f1", "sentence_retrieval", gold, {"de": []})
    assert value(nothing, "f1", "de") == 0.0
    lines[0]["target_id"] = "f2"
    with pytest.raises(InputError, match=r"line 1: target_id names no sentence.*found 'f2'"):
        score("bucc_f1", "sentence_retrieval", gold, {"de": lines})


# ---- bad predictions


GOOD = nli_lines("neutral", "neutral", "neutral")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD[:2], r"en\.jsonl: has too few lines; expected 3, the next of id 'test-2'; found 2"),
        ([*GOOD, GOOD[0]], r"en\.jsonl: line 4: is one too many; expected 3 lines"),
        ([GOOD[1], GOOD[0], GOOD[2]], r"line 1.*expected id 'test-0'; found id 'test-1'"),
        ([GOOD[0], GOOD[2]], r"line 2.*expected id 'test-1'; found id 'test-2'"),
        (nli_lines("neutral", "maybe", "neutral"), r"line 2 \(id 'test-1'\).*found 'maybe'"),
        (nli_lines("neutral", 2, "neutral"), r"a label \(contradiction, entailment.*found 2"),
        ([{"id": "test-0", "predicton": "neutral"}], r"no key 'prediction'.*mean 'predicton'"),
        ([{"prediction": "neutral"}], r"line 1: has no key 'id'"),
        (jsonl(GOOD[:1]) + "{oops\n", r"line 2: is no JSON"),
        (jsonl(GOOD[:1]) + "\n" + jsonl(GOOD[1:]), r"line 2: is no JSON"),
        ("[1, 2]\n", r"line 1: is no JSON object"),
        (jsonl(GOOD[:1]).encode() + b'{"id": "\xff"}\n', r"line 2: is not UTF-8; found byte 0xff"),
        ("", r"too few lines; expected 3, the next of id 'test-0'; found 0"),
    ],
)
def test_bad_predictions(lines, message):
    with pytest.raises(InputError, match=message):
        score_nli(lines)
    assert not Path("scores/m/none/seed-1/x").exists()


def test_a_last_line_without_newline_is_a_line():
    assert value(score_nli(jsonl(GOOD).rstrip("\n")), "accuracy") == pytest.approx(100 / 3)


def test_an_empty_test_split_is_an_error():
    table = {"id": pa.array([], pa.string()), "label": pa.array([], pa.int32())}
    gold = {"en": prepared("en", LABELS, rows=table)}
    with pytest.raises(InputError, match=r"test\.parquet: has no rows"):
        score("accuracy", "sequence_classification", gold, {"en": []})


def test_changed_and_missing_files_are_errors():
    gold = {"en": prepared("en", LABELS, rows=NLI)}
    with pytest.raises(InputError, match=r"lists no file 'en\.jsonl'"):
        score("accuracy", "sequence_classification", gold, {"de": GOOD})
    (Path(gold["en"]) / "report.json").write_text('{"labels": ["a"]}')
    with pytest.raises(InputError, match="has another size"):
        score("accuracy", "sequence_classification", gold, {"en": GOOD})


def test_a_metric_of_another_format_is_an_error():
    gold = {"en": prepared("en", LABELS, rows=NLI)}
    with pytest.raises(InputError, match="cannot score this format; expected token_classification"):
        score("seqeval_f1", "sequence_classification", gold, {"en": GOOD})


def test_the_stage_imports_nothing_slow():
    code = "import xstilts.evaluation.score, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "pandas", "transformers", "datasets"} & set(loaded.stdout.split())


# ---- a decoder's choices by several likelihoods


def by_lines(**by):
    """Three NLI lines, the sum of the likelihoods being the main one."""
    names = list(by)
    return [
        {"id": f"test-{row}", "prediction": values[0], "by": dict(zip(names, values, strict=True))}
        for row, values in enumerate(zip(*by.values(), strict=True))
    ]


def test_each_likelihood_has_a_value_beside_the_main_one():
    lines = by_lines(sum=LABELS, token=["neutral"] * 3, pmi=LABELS[::-1])
    scores = score_nli(lines)
    assert value(scores, "accuracy") == value(scores, "accuracy_sum") == 100
    assert (
        value(scores, "accuracy_token") == value(scores, "accuracy_pmi") == pytest.approx(100 / 3)
    )
    assert [row["metric"] for row in scores["rows"] if row["main"]] == ["accuracy"]
    statistics = load_file("scores/m/none/seed-1/x/statistics.safetensors")
    assert statistics["en"].tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": {"sum": "neutral", "token": "maybe"}}, "holds no prediction of this target"),
        ({"by": {"token": "neutral"}}, "the choices by each likelihood do not fit"),
        ({"by": ["neutral"]}, "the choices by each likelihood do not fit"),
        ({"prediction": "contradiction"}, "the choices by each likelihood do not fit"),
        ({"by": {}}, "the choices by each likelihood do not fit"),
    ],
)
def test_broken_choices_are_named(change, message):
    lines = by_lines(sum=["neutral"] * 3, token=LABELS)
    lines[1] |= change
    with pytest.raises(InputError, match=message) as error:
        score_nli(lines)
    assert "line 2" in str(error.value)
    lines = [{**line, "by": {"best": line["prediction"]}} for line in by_lines(sum=LABELS)]
    with pytest.raises(InputError, match="the choices by each likelihood do not fit"):
        score_nli(lines)
