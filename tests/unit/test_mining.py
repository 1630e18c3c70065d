"""Mining: exact neighbours, margins worked by hand, and the official code's pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from xstilts.errors import InputError
from xstilts.evaluation.mining import (
    Mined,
    Pool,
    best_threshold,
    mine,
    mine_rows,
    nearest_rows,
)


def _random(rows, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)


def _pairs_in_full(source, target, k):
    """The rules again, from one matrix of all cosines."""
    cosine = _unit(source) @ _unit(target).T

    def means(matrix):
        return -np.sort(-matrix, axis=1)[:, :k].mean(axis=1)

    margin = cosine / ((means(cosine)[:, None] + means(cosine.T)[None]) / 2)
    near = np.zeros(cosine.shape, dtype=bool)
    np.put_along_axis(near, np.argsort(-cosine, axis=1)[:, :k], True, axis=1)
    forward = np.where(near, margin, -np.inf).argmax(axis=1)
    near[:] = False
    np.put_along_axis(near, np.argsort(-cosine, axis=0)[:k], True, axis=0)
    backward = np.where(near, margin, -np.inf).argmax(axis=0)
    offers = {(i, int(j)) for i, j in enumerate(forward)}
    offers |= {(int(i), j) for j, i in enumerate(backward)}
    pairs = []
    for i, j in sorted(offers, key=lambda pair: -margin[pair]):
        if margin[i, j] > 0 and all(i != one and j != other for one, other in pairs):
            pairs.append((i, j))
    return pairs, [margin[pair] for pair in pairs]


@pytest.mark.parametrize(("rows", "columns"), [(13, 17), (64, 65), (150, 700), (700, 150)])
@pytest.mark.parametrize("block", [64, 128, 1024])
def test_neighbours_are_exact_whatever_the_block(rows, columns, block):
    x, y = _random(rows), 5 * _random(columns, seed=1)
    cosine = _unit(x) @ _unit(y).T
    found = nearest_rows(x, y, 4, block=block)
    np.testing.assert_array_equal(found.row, np.argsort(-cosine, axis=1)[:, :4])
    np.testing.assert_allclose(found.similarity, -np.sort(-cosine, axis=1)[:, :4], atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 90), (70, 130), (200, 140)])
@pytest.mark.parametrize("block", [64, 1024])
@pytest.mark.parametrize("k", [2, 4, 9])
def test_pairs_are_those_of_all_cosines_whatever_the_block(rows, columns, block, k):
    source, target = _random(rows), _random(columns, seed=1)
    pairs = mine_rows(source, target, k, block=block)
    wanted, scores = _pairs_in_full(source, target, k)
    assert list(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)) == wanted
    np.testing.assert_allclose(pairs.score, scores, rtol=1e-5)


def test_rows_that_rise_in_similarity_are_all_seen():
    # The worst order: every block holds better neighbours than all blocks before it.
    angle = np.linspace(np.pi / 2, 0.0, 500)
    index = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = nearest_rows(np.array([[1.0, 0.0]]), index, 4, block=64)
    assert found.row.tolist() == [[499, 498, 497, 496]]


@pytest.mark.parametrize("block", [64, 128, 1024])
def test_the_first_of_equal_neighbours_wins(block):
    x = _random(90, width=100)
    copies = np.tile(np.arange(90), 5)
    assert nearest_rows(x, x[copies], 1, block=block).row[:, 0].tolist() == list(range(90))
    found = nearest_rows(x, np.repeat(x[:1], 300, axis=0), 4, block=block)
    assert found.row.tolist() == [[0, 1, 2, 3]] * 90
    pairs = mine_rows(x, x[copies], 1, block=block)
    assert dict(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)) == {
        row: row for row in range(90)
    }


@pytest.mark.parametrize("width", [8, 32, 100, 768])
@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (33, 5), (7, 64), (5, 70)])
def test_copies_of_a_vector_have_the_same_cosine(rows, columns, width):
    # Where ends of matrices are multiplied by other kernels, the last bit would differ.
    for seed in range(3):
        vector, other = _random(2, width, seed)
        copies = np.tile(other, (columns, 1))
        found = nearest_rows(np.tile(vector, (rows, 1)), copies, columns, block=64)
        assert len(np.unique(found.similarity)) == 1
        assert found.row.tolist() == [list(range(columns))] * rows


def test_length_does_not_matter_and_zero_vectors_are_unlike_all():
    x, y = _random(20), _random(30, seed=1)
    known = nearest_rows(x, y, 4)
    for scale in (1e-30, 1e30):
        found = nearest_rows(np.float32(scale) * x, y, 4)
        np.testing.assert_array_equal(found.row, known.row)
        np.testing.assert_allclose(found.similarity, known.similarity, atol=1e-6)
    found = nearest_rows(np.zeros((1, 8)), y, 4)
    assert found.row.tolist() == [[0, 1, 2, 3]]
    assert found.similarity.tolist() == [[0.0] * 4]


def test_sides_may_be_small_or_empty():
    x = _random(3)
    assert nearest_rows(x, x[:2], 4).row.shape == (3, 2)
    assert nearest_rows(x[:0], x, 4).row.shape == (0, 3)
    assert len(mine_rows(x, x[:0]).score) == len(mine_rows(x[:0], x).score) == 0
    with pytest.raises(InputError, match="the sentences to search: are none"):
        nearest_rows(x, x[:0])


@pytest.mark.gpu
def test_a_gpu_mines_the_same_pairs():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch sees none")
    source = _random(3000, width=64)
    target = source[::-1] + 0.5 * _random(3000, width=64, seed=1)
    here = mine_rows(source, target, device="cpu")
    for block in (64, 1024):
        there = mine_rows(source, target, device="cuda", block=block)
        np.testing.assert_array_equal(there.source, here.source)
        np.testing.assert_array_equal(there.target, here.target)
        np.testing.assert_allclose(there.score, here.score, rtol=1e-5)
    found = nearest_rows(source, np.tile(source, (3, 1)), device="cuda")
    assert found.row[:, 0].tolist() == list(range(3000))


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
    vectors = _random(2000)
    for value in (np.nan, np.inf):
        vectors[1500, 2] = value
        with pytest.raises(InputError, match=r"sentence vector 1500: is not finite"):
            nearest_rows(_random(3), vectors)
        with pytest.raises(InputError, match=r"sentence vector 1500: is not finite"):
            mine_rows(vectors, _random(3))


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
