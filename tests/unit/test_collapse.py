"""The collapse guard, by hand."""

import json
import math

import numpy as np
import pytest

from xstilts.training.collapse import ENOUGH, EVALUATIONS, STEPS, Answers, Collapsed, Guard

CHANCE = math.log(3)


def guard(grace: int = 0, watches: list | None = None) -> Guard:
    return Guard(["nli", "text"], [CHANCE, 5.0], grace, [] if watches is None else watches)


def answers(found: list[int], gold: list[int], labels: tuple | None = ("no", "yes")) -> Answers:
    return Answers(np.array(found), np.array(gold), labels)


GOOD = answers([0, 1] * 10, [0, 1] * 10)
ONE = answers([1] * 20, [0, 1] * 10)


def steps(watching: Guard, loss: float, count: int = ENOUGH, norm: float = 1.0) -> list[Collapsed]:
    return [found for step in range(count) for found in watching.step(0, step, loss, norm)]


# ---- not a number


@pytest.mark.parametrize("values", [(math.nan, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_what_is_no_number_stops_at_once(values):
    with pytest.raises(Collapsed, match="not a number at step 7: loss") as found:
        guard(grace=100).step(0, 7, *values)
    assert found.value.finding["task"] == "nli"


# ---- explosion


def test_exploding_gradients_by_hand():
    watching = guard()
    assert steps(watching, 1.0, 30, norm=2.0) == []
    found = [watching.step(0, 30 + n, 1.0, 201.0) for n in range(STEPS)]
    assert [len(entry) for entry in found] == [0] * (STEPS - 1) + [1]
    expected = "norm of the gradient 201 after a median of 2"
    assert found[-1][0].finding == {
        "task": "nli",
        "step": 30 + STEPS - 1,
        "reason": "explosion",
        "evidence": expected,
    }
    assert watching.step(0, 99, 1.0, 201.0) == []  # it has been said


def test_a_spike_is_none():
    watching = guard()
    steps(watching, 1.0, 30, norm=2.0)
    for _ in range(5):
        assert steps(watching, 1.0, STEPS - 1, norm=1e6) == []
        assert steps(watching, 1.0, 1, norm=2.0) == []


def test_two_hundred_times_little_is_judged_only_after_enough_steps():
    watching = guard()
    steps(watching, 1.0, ENOUGH // 2 - 1, norm=1e-3)
    assert steps(watching, 1.0, 5 * STEPS, norm=1.0) == []


def test_tasks_have_gradients_of_their_own():
    watching = guard()
    steps(watching, 1.0, 30, norm=0.01)
    assert [watching.step(1, step, 1.0, 50.0) for step in range(50)] == [[]] * 50


# ---- one answer


def test_one_answer_three_times_in_a_row():
    watching = guard()
    found = [
        watching.evaluation(step, {"nli": entry}, published=False)
        for step, entry in enumerate([ONE, ONE, GOOD, ONE, ONE, ONE, ONE])
    ]
    assert [len(entry) for entry in found] == [0, 0, 0, 0, 0, 1, 0]
    (seen,) = found[5]
    assert seen.reason == "one answer"
    assert seen.finding["evidence"] == (
        "all 20 predictions on dev are yes; right are 10 yes, 10 no"
    )
    assert EVALUATIONS == 3


def test_nothing_is_expected_of_the_first_steps():
    watching = guard(grace=10)
    for step in (2, 4, 6, 8, 10):
        assert watching.evaluation(step, {"nli": ONE}, published=False) == []
    found = [watching.evaluation(step, {"nli": ONE}, published=False) for step in (12, 14, 16)]
    assert [len(entry) for entry in found] == [0, 0, 1]


@pytest.mark.parametrize(
    "fine",
    [
        pytest.param(answers([1] * 19 + [0], [0, 1] * 10), id="two answers"),
        pytest.param(answers([1] * 19, [0, 1] * 9 + [0]), id="too few to say"),
        pytest.param(answers([1] * 20, [1] * 20), id="one is right"),
        pytest.param(answers([0] * 100, [0] * 96 + [1] * 4), id="nearly one is right"),
    ],
)
def test_what_is_no_collapse(fine):
    assert fine.one_for_all() is None


def test_answers_without_names_and_many_of_them():
    seen = answers([3] * 40, list(range(8)) * 5, None).one_for_all()
    assert seen == "all 40 predictions on dev are 3; right are 5 7, 5 6, 5 5, 5 4, 5 3, …"


def test_the_weights_that_would_be_published_count():
    watching = guard()
    watching.evaluation(1, {"nli": ONE}, published=True)
    watching.evaluation(2, {"nli": GOOD}, published=False)
    (found,) = watching.end(2)
    assert (found.reason, found.finding["step"]) == ("one answer", 2)
    watching.evaluation(3, {"nli": GOOD}, published=True)
    assert watching.end(3) == []


# ---- flat


def test_a_loss_like_a_guess_s_three_times_in_a_row():
    watching, found = guard(), []
    for losses in (CHANCE, CHANCE, 0.5, 0.995 * CHANCE, 2.0, 1.2):
        steps(watching, losses)
        found.append(watching.evaluation(1, {}, published=False))
    assert [len(entry) for entry in found] == [0, 0, 0, 0, 0, 1]
    assert found[5][0].finding["evidence"] == (
        "mean loss 1.200 over 20 steps; a guess that sees no text has 1.099"
    )
    assert watching.end(6) == []  # it was better once


def test_never_better_is_flat_at_the_end():
    watching = guard(grace=10**6)
    steps(watching, CHANCE)
    assert watching.evaluation(20, {}, published=False) == []
    (found,) = watching.end(20)
    assert found.finding["evidence"] == (
        "the loss never was below 1.088; a guess that sees no text has 1.099"
    )


def test_few_steps_say_nothing_of_the_loss():
    watching = guard()
    for _ in range(5):
        steps(watching, CHANCE, ENOUGH - 1)
        assert watching.evaluation(1, {}, published=False) == []
    assert watching.end(1) == []


def test_only_the_newest_losses_count():
    watching = guard()
    steps(watching, 50.0, 300)
    steps(watching, 0.1, 100)
    watching.evaluation(1, {}, published=False)
    assert watching.end(1) == []


# ---- state


def test_what_is_remembered_goes_through_json():
    one, saved = guard(), []
    two = guard(watches=saved)
    for watching in (one, two):
        steps(watching, CHANCE, 30, norm=2.0)
        steps(watching, CHANCE, STEPS - 1, norm=500.0)
        watching.evaluation(1, {"nli": ONE}, published=True)
    two.save()
    again = guard(watches=json.loads(json.dumps(saved)))
    for watching in (one, again):
        assert len(watching.step(0, 40, 1.0, 500.0)) == 1
        assert [entry.reason for entry in watching.end(41)] == ["one answer", "flat"]
    assert one.watches == again.watches
