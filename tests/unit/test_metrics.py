"""Metrics: hand-worked values, and the values of the official code on golden data."""

import json
from pathlib import Path

import numpy as np
import pytest

from xstilts.errors import InputError
from xstilts.evaluation.metrics import mlqa, squad
from xstilts.evaluation.metrics.table import METRICS, metric_named


def values(name, predictions, gold, language="en"):
    metric = METRICS[name]
    statistics = metric.statistics(predictions, gold, language)
    assert statistics.shape == (len(gold), len(metric.columns))
    assert statistics.dtype == np.float64
    return metric.values(statistics)


# ---- hand-worked


def test_accuracy():
    assert values("accuracy", ["a", "b", "b"], ["a", "b", "a"]) == {
        "accuracy": pytest.approx(200 / 3)
    }
    assert values("tatoeba_accuracy", ["f-1", "f-2"], ["f-1", "f-3"]) == {"accuracy": 50.0}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", {("PER", 0, 1), ("LOC", 3, 3)}),
        ("I-PER I-PER", {("PER", 0, 1)}),
        ("B-PER B-PER", {("PER", 0, 0), ("PER", 1, 1)}),
        ("B-PER I-LOC", {("PER", 0, 0), ("LOC", 1, 1)}),
        ("S-PER I-PER E-PER", {("PER", 0, 0), ("PER", 1, 2)}),
        ("NOUN NOUN VERB", {("NOUN", 0, 1), ("VERB", 2, 2)}),
        ("SYM SYM", {("SYM", 0, 0), ("SYM", 1, 1)}),
        ("CCONJ SCONJ", {("CCONJ", 0, 0), ("SCONJ", 1, 1)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_spans(tags, expected):
    """The same spans, written as IOB2, are all found in it, and no others."""
    written = ["O"] * len(tags.split())
    for kind, first, last in expected:
        written[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
    counts = METRICS["seqeval_f1"].statistics([tags.split()], [written], "en")
    assert counts[0, :3].tolist() == [len(expected)] * 3


def test_span_f1_is_micro_averaged_and_token_accuracy_stands_beside_it():
    gold = [["B-PER", "I-PER", "O"], ["B-LOC"]]
    predictions = [["B-PER", "O", "O"], ["B-LOC"]]
    statistics = METRICS["seqeval_f1"].statistics(predictions, gold, "en")
    assert statistics.tolist() == [[0, 1, 1, 2, 3], [1, 1, 1, 1, 1]]
    assert values("seqeval_f1", predictions, gold) == {
        "f1": 50.0,
        "precision": 50.0,
        "recall": 50.0,
        "token_accuracy": 75.0,
    }


def test_spans_end_with_their_sentence_and_sentences_may_be_empty():
    statistics = METRICS["seqeval_f1"].statistics
    sentences = [[], ["NOUN"], ["NOUN"], []]
    assert statistics(sentences, sentences, "en").tolist() == [[0] * 5, [1] * 5, [1] * 5, [0] * 5]
    assert statistics([], [], "en").shape == (0, 5)
    with pytest.raises(ValueError, match="different numbers of tags"):
        statistics([["NOUN"]], [["NOUN", "NOUN"]], "en")


def test_no_span_at_all_scores_zero():
    assert values("seqeval_f1", [["O"]], [["O"]])["f1"] == 0.0


def test_squad_takes_the_best_answer_and_removes_english_articles_only():
    # "cat sat" against "cat": precision 1/2, recall 1.
    found = values("squad_f1", ["The cat sat.", "der Hund"], [["dog", "cat"], ["Hund"]])
    assert found["f1"] == pytest.approx(100 * (2 / 3 + 2 / 3) / 2)
    assert found["exact_match"] == 0.0
    assert found["mean"] == pytest.approx(found["f1"] / 2)


def test_two_answers_with_nothing_left_match_without_overlap():
    assert values("squad_f1", ["."], [["the"]]) == {"f1": 0.0, "exact_match": 100.0, "mean": 50.0}


def test_a_question_without_prediction_scores_zero():
    found = values("squad_f1", [None, ""], [["the"], ["the"]])
    assert found == {"f1": 0.0, "exact_match": 50.0, "mean": 25.0}


def test_squad_v2_by_hand():
    predictions = ["the cat", "", "a dog", "", "an."]
    gold = [["cat sat", "mat"], ["cat"], [], [], ["the", "a cat"]]
    # 2/3 and nothing with an answer, wrong and right without; of "the" nothing is left to match.
    statistics = METRICS["squad_v2_f1"].statistics(predictions, gold, "en")
    answered, unanswered = statistics[:, :3].tolist(), statistics[:, 3:].tolist()
    assert answered == [[pytest.approx(2 / 3), 0, 1], [0, 0, 1], [0] * 3, [0] * 3, [0, 0, 1]]
    assert unanswered == [[0, 0], [0, 0], [0, 1], [1, 1], [0, 0]]
    assert values("squad_v2_f1", predictions, gold) == {
        "f1": pytest.approx(100 * (2 / 3 + 1) / 5),
        "exact_match": 20.0,
        "mean": pytest.approx(50 * (2 / 3 + 2) / 5),
        "has_answer_f1": pytest.approx(100 * (2 / 3) / 3),
        "has_answer_exact_match": 0.0,
        "no_answer_f1": 50.0,
    }


def test_what_squad_v2_drops_and_squad_does_not():
    """Answers of which nothing is left: no answer in v2.0, one without any token in v1.1."""
    assert values("squad_v2_f1", ["."], [["the"]])["f1"] == 100.0
    assert values("squad_v2_f1", ["."], [["the"]])["has_answer_f1"] == 100.0
    assert values("squad_f1", ["."], [["the"]])["f1"] == 0.0
    assert values("squad_v2_f1", [""], [["the", "cat"]])["exact_match"] == 0.0


def test_normalisation():
    assert squad.normalise("The  U.S. -- a test") == "us test"
    assert squad.normalise("«Das Haus»") == "«das haus»"
    assert mlqa.normalise("«Das Haus»", "de") == "haus"
    assert mlqa.normalise("قال البيت", "ar") == "ق بيت"
    assert mlqa.normalise("今天,ABC 天", "zh") == "今 天 abc 天"


def test_a_part_of_a_chinese_answer_counts_in_mlqa_only():
    assert values("mlqa_f1", ["天气"], [["今天天气"]], "zh")["f1"] == pytest.approx(200 / 3)
    assert values("squad_f1", ["天气"], [["今天天气"]], "zh")["f1"] == 0.0


def test_mined_pairs_are_sets_by_source_sentence():
    gold = [{"e1"}, {"e2"}, set(), {"e4"}]
    found = values("bucc_f1", [{"e1"}, {"e9"}, {"e3"}, set()], gold)
    assert found["precision"] == pytest.approx(100 / 3)
    assert found["recall"] == pytest.approx(100 / 3)
    assert found["f1"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_finish_takes_many_sums_at_once_and_zero_sums(metric):
    sums = np.arange(2 * 3 * len(metric.columns), dtype=float).reshape(2, 3, -1)
    many = metric.finish(sums)
    assert {metric.main, metric.overall} <= set(many)
    for name, array in many.items():
        assert array.shape == (2, 3)
        assert array[1, 2] == metric.finish(sums[1, 2])[name]
        assert metric.finish(np.zeros(len(metric.columns)))[name] == 0.0


def test_unknown_names_are_errors():
    with pytest.raises(InputError, match=r"no metric is called 'acuracy'.*Did you mean 'accuracy'"):
        metric_named("acuracy")
    with pytest.raises(InputError, match=r"MLQA has no rules.*found 'tr'.*squad_f1"):
        values("mlqa_f1", ["x"], [["x"]], "tr")
    with pytest.raises(InputError, match="no gold answer"):
        values("squad_f1", ["x"], [[]])


# ---- the official code's values


def test_answers_score_as_officially(shared: Path):
    path = shared / "golden" / "qa" / "cases.jsonl"
    compared = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        for rules in ("squad", "mlqa"):
            if case[rules] is None:
                with pytest.raises(InputError, match="MLQA has no rules"):
                    values("mlqa_f1", [case["prediction"]], [case["golds"]], case["language"])
                continue
            found = values(f"{rules}_f1", [case["prediction"]], [case["golds"]], case["language"])
            for name, value in case[rules].items():
                assert found[name] == pytest.approx(100 * value, abs=1e-9), (case["id"], rules)
                compared += 1
    assert compared > 1000
