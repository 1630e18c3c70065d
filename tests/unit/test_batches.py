"""Batches: a pure function of seed and step that sees every example once per epoch."""

from collections import Counter

import numpy as np
import pytest

from xstilts.training.batches import (
    POOL,
    LanguageBatches,
    ShuffledBatches,
    draw_tasks,
    micro_batches,
    mixing_weights,
)

LENGTHS = np.random.default_rng(0).integers(3, 60, 1003)


def epoch(batches: ShuffledBatches, number: int) -> list[list[int]]:
    first = number * batches.per_epoch
    return [batches[first + index].tolist() for index in range(batches.per_epoch)]


@pytest.mark.parametrize("size", [1, 4, 7, 1003, 2000])
def test_every_example_once_per_epoch(size):
    batches = ShuffledBatches(LENGTHS, size, [1])
    for number in (0, 1, 5):
        found = epoch(batches, number)
        assert sorted(unit for batch in found for unit in batch) == list(range(1003))
        sizes = [*[size] * (1003 // size), 1003 % size]
        assert sorted(map(len, found)) == sorted(filter(None, sizes))


def test_it_is_a_function_of_seed_and_step_in_whatever_order():
    one, two = ShuffledBatches(LENGTHS, 8, [1]), ShuffledBatches(LENGTHS, 8, [1])
    steps = [300, 2, 126, 125, 0, 299]
    expected = {step: one[step].tolist() for step in sorted(steps)}
    assert {step: two[step].tolist() for step in steps} == {step: expected[step] for step in steps}


def test_epochs_and_seeds_differ():
    batches = ShuffledBatches(LENGTHS, 8, [1])
    assert epoch(batches, 0) != epoch(batches, 1)
    assert epoch(batches, 0) != epoch(ShuffledBatches(LENGTHS, 8, [2]), 0)
    assert epoch(batches, 0) != epoch(ShuffledBatches(LENGTHS, 8, [1, 1]), 0)


def test_batches_hold_similar_lengths_in_no_order_of_length():
    batches = epoch(ShuffledBatches(LENGTHS, 8, [1]), 0)
    spread = np.mean([np.ptp(LENGTHS[batch]) for batch in batches])
    random = np.mean([np.ptp(LENGTHS[start : start + 8]) for start in range(0, 1000, 8)])
    assert spread < random / 4
    longest = [LENGTHS[batch].max() for batch in batches]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.3
    assert len(batches) > POOL


def test_languages_are_drawn_by_size_to_the_exponent():
    sizes = [1000, 10]
    batches = LanguageBatches(sizes, 50, 0.3, [1], 400)
    units = np.concatenate([batches[step] for step in range(400)])
    share = 1000**0.3 / (1000**0.3 + 10**0.3)  # 0.799
    assert abs((units < 1000).mean() - share) < 0.01
    assert units.min() >= 0
    assert units.max() < 1010


@pytest.mark.parametrize(("exponent", "share"), [(1.0, 0.75), (0.0, 0.5)])
def test_exponents_at_the_ends(exponent, share):
    batches = LanguageBatches([300, 100], 50, exponent, [1], 400)
    units = np.concatenate([batches[step] for step in range(400)])
    assert abs((units < 300).mean() - share) < 0.015


def test_a_language_s_text_is_used_up_before_it_comes_again():
    batches = LanguageBatches([7, 5], 6, 0.5, [1], 40)
    units = np.concatenate([batches[step] for step in range(40)])
    for own in (units[units < 7], units[units >= 7]):
        counts = Counter(own.tolist()).values()
        assert max(counts) - min(counts) <= 1


def test_a_language_without_text_is_never_drawn():
    batches = LanguageBatches([4, 0, 4], 6, 0.0, [1], 40)
    units = np.concatenate([batches[step] for step in range(40)])
    assert set(units.tolist()) == set(range(8))


def test_tasks_are_drawn_by_weight_and_seed():
    order = draw_tasks([3.0, 1.0], 20000, 1)
    assert abs((order == 0).mean() - 0.75) < 0.01
    assert order.tolist() == draw_tasks([3.0, 1.0], 20000, 1).tolist()
    assert order.tolist() != draw_tasks([3.0, 1.0], 20000, 2).tolist()
    assert set(draw_tasks([0.0, 1.0], 100, 1)) == {1}


@pytest.mark.parametrize("budget", [1, 60, 100, 500, 10**6])
def test_micro_batches_keep_the_budget_and_lose_nothing(budget):
    rng = np.random.default_rng(1)
    rows, ids = rng.integers(1, 5, len(LENGTHS)), rng.permutation(len(LENGTHS))[:200]
    parts = micro_batches(ids, LENGTHS, rows, budget)
    assert sorted(np.concatenate(parts)) == sorted(ids)
    for part in parts:
        assert len(part) == 1 or rows[part].sum() * LENGTHS[part].max() <= budget
    if budget == 10**6:
        assert len(parts) == 1


def test_micro_batches_by_hand():
    lengths, rows = np.array([4, 9, 4, 5]), np.array([1, 1, 2, 1])
    parts = micro_batches(np.array([0, 1, 2, 3]), lengths, rows, 12)
    # 1 x 4 and 2 x 4 fill twelve; 5 and 9 together would be 18.
    assert [part.tolist() for part in parts] == [[0, 2], [3], [1]]
    assert micro_batches(np.array([], dtype=int), lengths, rows, 12) == []


@pytest.mark.parametrize(
    ("exponent", "cap", "weights"),
    [
        (1.0, None, [100, 10_000, 1]),
        (0.0, None, [1, 1, 1]),
        (0.5, None, [10, 100, 1]),
        (1.0, 400, [100, 400, 1]),
        (0.5, 400, [10, 20, 1]),
    ],
)
def test_mixing_weights_by_hand(exponent, cap, weights):
    assert mixing_weights([100, 10_000, 1], exponent, cap) == weights
