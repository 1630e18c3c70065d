"""Ranking metrics: hand-worked values, and the values of the official code on golden data."""

import json
from statistics import fmean

import numpy as np
import pytest

from xstilts.errors import InputError
from xstilts.evaluation.metrics.ranking import (
    Ranking,
    average_precision,
    ranks_of,
    reciprocal_rank,
)
from xstilts.evaluation.metrics.table import METRICS

LAREQA, MEWSLIX = METRICS["lareqa_map"], METRICS["mewslix_mrr"]


# ---- hand-worked


def test_average_precision_by_hand():
    # Found at ranks 1 and 4: (1/1 + 2/4) / 3.
    assert average_precision({"a", "b", "c"}, ["a", "x", "y", "b"]) == pytest.approx(0.5)
    assert average_precision({"a", "b", "c"}, ["a", "x", "y", "b"], 3) == pytest.approx(1 / 3)
    # No more than k can be found among k.
    assert average_precision({"a", "b", "c"}, ["a", "b"], 2) == 1.0


def test_no_relevant_candidate_is_an_error():
    with pytest.raises(InputError, match="no candidate is relevant"):
        average_precision(set(), ["a"], 20)
    with pytest.raises(InputError, match="no candidate is relevant"):
        LAREQA.statistics([["a"], ["a"]], [{"a"}, set()], "en")


def test_reciprocal_rank_by_hand():
    assert reciprocal_rank({"b"}, ["a", "b", "b"]) == 0.5
    assert reciprocal_rank({"b", "c"}, ["a", "x", "c", "b"]) == pytest.approx(1 / 3)
    assert reciprocal_rank({"b"}, ["a", "b"], 1) == 0.0
    assert reciprocal_rank({"b"}, []) == 0.0


def test_a_head_with_ranks_scores_as_the_whole_ranking():
    ranked = [f"c{number}" for number in range(60)]
    relevant = {"c3", "c19", "c20", "c41"}
    ranks = {id_: ranked.index(id_) + 1 for id_ in relevant}
    short = Ranking(ranked[:20], ranks)
    assert ranks_of(relevant, short) == ranks_of(relevant, ranked) == [4, 20, 21, 42]
    for k in (5, 20, None):
        assert average_precision(relevant, short, k) == average_precision(relevant, ranked, k)
    statistics = LAREQA.statistics([ranked, short], [relevant] * 2, "en")
    assert (statistics[0] == statistics[1]).all()
    assert statistics[0].tolist() == pytest.approx(
        [(1 / 4 + 2 / 20) / 4, (1 / 4 + 2 / 20 + 3 / 21 + 4 / 42) / 4, 1]
    )


def test_values_are_percentages_with_their_names():
    statistics = LAREQA.statistics([["a"], ["x", "a"]], [{"a"}, {"a"}], "en")
    assert statistics.shape == (2, len(LAREQA.columns))
    assert statistics.dtype == np.float64
    assert LAREQA.values(statistics) == {"map@20": 75.0, "map": 75.0}
    statistics = MEWSLIX.statistics([["Q2", "Q1"], []], [{"Q1"}, {"Q2"}], "en")
    assert statistics.shape == (2, len(MEWSLIX.columns))
    assert MEWSLIX.values(statistics) == {"mrr@20": 25.0}


# ---- the official code's values


def test_average_precision_is_the_official_one(shared):
    cases = json.loads((shared / "golden/retrieval_r/average_precision.json").read_text())
    errors = 0
    for case in cases:
        targets, ranked, k = case["targets"], case["ranked"], case["k"]
        if "error" in case:
            assert case["error"] == "ZeroDivisionError"
            errors += 1
            with pytest.raises(InputError, match="no candidate is relevant"):
                average_precision(targets, ranked, k)
        else:
            found = average_precision(targets, ranked, k)
            assert found == pytest.approx(case["expected"], abs=1e-9), case
    assert len(cases) > errors


def test_mewslix_is_the_official_one(shared):
    folder = shared / "golden/retrieval_r/mewslix"
    expected = json.loads((folder / "expected.json").read_text())
    languages = {path.stem.removeprefix("gold-") for path in folder.glob("gold-*.json")}
    assert languages == set(expected["languages"])
    scores = []
    for language, official in expected["languages"].items():
        gold = json.loads((folder / f"gold-{language}.json").read_text())
        path = folder / f"predictions-{language}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        assert len(gold) == official["examples"]
        assert len(gold.keys() - found.keys()) == official["unpredicted"]
        assert len(found.keys() - gold.keys()) == official["unexpected"]
        rankings, relevant = [found.get(id_, []) for id_ in gold], [set(x) for x in gold.values()]
        for k in (20, 5, 1):
            mean = fmean(map(reciprocal_rank, relevant, rankings, [k] * len(gold)))
            assert mean == pytest.approx(official[f"mrr@{k}"], abs=1e-9)
        statistics = MEWSLIX.statistics(rankings, relevant, language)
        scores.append(MEWSLIX.values(statistics)["mrr@20"])
        assert scores[-1] == pytest.approx(100 * official["mrr@20"], abs=1e-7)
    assert fmean(scores) == pytest.approx(100 * expected["macro_average_mrr@20"], abs=1e-7)
