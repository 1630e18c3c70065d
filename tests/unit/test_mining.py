"""Mining: exact neighbours, margins worked by hand, and the official code's pairs."""

import json
from pathlib import Path

import numpy as np
import pytest

from xstilts.errors import InputError
from xstilts.evaluation.mining import (
    Mined,
    Pool,
    best_threshold,
    mine,
    mine_rows,
    mutual_neighbours,
    nearest_rows,
    unit,
)


def _random(rows, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_neighbours_are_exact_whatever_the_block(block):
    x, y = unit(_random(13)), unit(_random(17, seed=1))
    cosine = x @ y.T
    forward, backward = mutual_neighbours(x, y, 4, block)
    for found, wanted in ((forward, cosine), (backward, cosine.T)):
        np.testing.assert_array_equal(found.row, np.argsort(-wanted, axis=1)[:, :4])
        np.testing.assert_allclose(found.similarity, -np.sort(-wanted, axis=1)[:, :4], atol=1e-6)
    np.testing.assert_array_equal(nearest_rows(3 * x, y, 4, block).row, forward.row)


def test_the_first_of_equal_neighbours_wins():
    x = np.array([[1.0, 0.0]])
    y = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0]])
    assert [nearest_rows(x, y, 1, block).row.item() for block in (1, 2, 3)] == [1, 1, 1]


def test_margin_by_hand():
    # Cosines: a-a' 1, a-b' 0, b-a' 0.6, b-b' 0.8; k = 1.
    source = np.array([[1.0, 0.0], [0.6, 0.8]])
    target = np.array([[1.0, 0.0], [0.0, 1.0]])
    pairs = mine_rows(source, target, k=1)
    assert pairs.source.tolist() == [0, 1]
    assert pairs.target.tolist() == [0, 1]
    np.testing.assert_allclose(pairs.score, [1.0, 1.0], atol=1e-6)
    # k = 2: means 1/2, 0.7 | 0.8, 0.4; 1 / 0.65 and 0.8 / 0.55.
    pairs = mine_rows(source, target, k=2)
    assert pairs.source.tolist() == [0, 1]
    np.testing.assert_allclose(pairs.score, [1 / 0.65, 0.8 / 0.55], atol=1e-6)


def test_pairs_are_one_to_one_and_fall():
    pairs = mine_rows(_random(30), _random(25, seed=1))
    assert len(set(pairs.source)) == len(pairs.source) > 5
    assert len(set(pairs.target)) == len(pairs.target)
    assert np.all(np.diff(pairs.score) <= 0)
    assert pairs.score.min() > 0


def test_repeated_sentences_have_no_id_and_zero_vectors_no_pair():
    same = np.eye(3, dtype=np.float32)
    source = Pool(["s0", "s1", "s2"], ["x", "y", "z"], same)
    target = Pool(["t0", "t1", "t2", "t3"], ["x", "y", "y ", "z"], same[[0, 1, 1, 2]])
    mined = mine(source, target, k=1)
    assert sorted(mined.pairs) == [("s0", "t0"), ("s2", "t3")]
    assert mined.ambiguous == 1
    assert len(mine_rows(np.zeros((2, 3)), np.zeros((2, 3))).score) == 0
    assert len(mine_rows(np.zeros((0, 3)), same).score) == 0


def test_the_last_vector_of_a_repeated_sentence_is_compared():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=np.float32)
    source = Pool(["s0", "s1", "s2"], ["twice", "other", "twice"], vectors[[0, 0, 1]])
    mined = mine(source, Pool(["t0", "t1"], ["a", "b"], vectors[:2]), k=1)
    assert mined.pairs == [("s1", "t0")]


def test_vectors_that_are_no_numbers_are_an_error():
    vectors = _random(3)
    vectors[1, 2] = np.nan
    with pytest.raises(InputError, match=r"sentence vector 1: is not finite"):
        nearest_rows(vectors, _random(3))


@pytest.mark.parametrize(
    ("correct", "threshold"),
    [
        ("110", 2.5),  # midway between the scores 3 and 2
        ("011", 2.0),  # best at the end: the last score
        ("101", 2.0),  # 2/3, 1/2, 4/5
        ("000", 0.0),
        ("", 0.0),
    ],
)
def test_threshold(correct, threshold):
    pairs = [(f"s{i}", "t") for i in range(len(correct))]
    gold = {pair for pair, right in zip(pairs, correct, strict=True) if right == "1"}
    mined = Mined(pairs, np.array([4.0, 3.0, 2.0])[: len(correct)], 0)
    found = best_threshold(mined, gold or {("other", "pair")})
    assert found == threshold
    assert gold <= set(mined.at_least(found).pairs)


# ---- the official code's values


def _lines(path):
    lines = path.read_bytes().decode("utf-8").split("\n")
    return lines if lines[-1] else lines[:-1]


def _pool(folder, side):
    vectors = np.load(folder / "embeddings.npz")[side]
    return Pool(_lines(folder / f"{side}.id"), _lines(folder / f"{side}.txt"), vectors)


def _mined(folder):
    gold = {tuple(line.split("\t")) for line in _lines(folder / "gold.txt")}
    return mine(_pool(folder, "source"), _pool(folder, "target")), gold


#: The official reader of text files cuts a last line without newline; ours reads no text files.
_FILE_READING = "no_final_newline"


def test_pairs_are_mined_as_officially(shared: Path):
    cases = [
        path.parent for path in (shared / "golden").glob("mining/bucc/*/expected_scored_pairs.tsv")
    ]
    assert len(cases) > 10
    for folder in cases:
        mined, _ = _mined(folder)
        wanted = [line.split("\t") for line in _lines(folder / "expected_scored_pairs.tsv")]
        pairs = [(source, target) for source, target, _ in wanted]
        if folder.name == _FILE_READING:
            last = {_pool(folder, "source").ids[-1], _pool(folder, "target").ids[-1]}
            assert all(set(pair) & last for pair in set(mined.pairs) - set(pairs))
            continue
        assert mined.pairs == pairs, folder.name
        np.testing.assert_allclose(mined.score, [float(row[2]) for row in wanted], atol=1e-5)


def test_thresholds_and_extraction_are_official(shared: Path):
    compared = 0
    for folder in sorted((shared / "golden" / "mining" / "bucc").iterdir()):
        expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        if "result" not in expected or folder.name == _FILE_READING:
            continue
        mined, gold = _mined(folder)
        threshold = expected.get("threshold_used")
        if threshold is None:
            threshold = best_threshold(mined, gold)
            assert threshold == pytest.approx(expected["result"]["best-threshold"], abs=1e-5)
        wanted = {tuple(line.split("\t")) for line in _lines(folder / "expected_extracted.tsv")}
        assert set(mined.at_least(threshold).pairs) == wanted, folder.name
        compared += 1
    assert compared > 10


def test_all_pairs_are_kept_where_the_official_code_fails(shared: Path):
    mined, gold = _mined(shared / "golden" / "mining" / "bucc" / "separable_all_gold")
    assert set(mined.at_least(best_threshold(mined, gold)).pairs) == gold


def test_nearest_translations_are_official(shared: Path):
    cases = sorted((shared / "golden" / "mining" / "tatoeba").iterdir())
    assert cases
    for folder in cases:
        vectors = np.load(folder / "embeddings.npz")
        found = nearest_rows(vectors["english"], vectors["foreign"], block=64).row[:, 0]
        wanted = [int(line) for line in _lines(folder / "expected_predictions.txt")]
        assert found.tolist() == wanted, folder.name
