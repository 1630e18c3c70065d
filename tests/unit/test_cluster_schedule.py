"""Schedules worked by hand."""

import random

import pytest

from xstilts.cluster.schedule import Task, critical_path, makespan, order, tails

#  a 3 ─► c 4 ─► d 1     b 2 ─► d     e 5 (alone)
CHAIN = {
    "d": Task(1, 1, ("b", "c")),
    "a": Task(3, 1),
    "b": Task(2, 1),
    "c": Task(4, 1, ("a",)),
    "e": Task(5, 1),
}


def test_the_longest_chain() -> None:
    assert tails(CHAIN) == {"a": 8, "b": 3, "c": 5, "d": 1, "e": 5}
    assert critical_path(CHAIN) == ["a", "c", "d"]
    assert critical_path({}) == []
    place = {name: number for number, name in enumerate(order(CHAIN))}
    assert place["a"] < place["c"] < place["d"] > place["b"]


@pytest.mark.parametrize(
    ("gpus", "seconds"),
    [
        (1, 15),  # everything, one after the other
        (2, 8),  # a 0-3, c 3-7, d 7-8 | e 0-5, b 5-7
        (3, 8),  # no more than the chain
        (9, 8),
    ],
)
def test_one_gpu_each(gpus: int, seconds: float) -> None:
    assert makespan(CHAIN, gpus, 1) == seconds


def test_large_tasks_wait_until_enough_is_free() -> None:
    tasks = {"two": Task(4, 2), "x": Task(3, 1), "y": Task(1, 1), "z": Task(1, 1)}
    # two 0-4; then x 4-7 beside y 4-5 and z 5-6
    assert makespan(tasks, 2, 1) == 7
    # two and x 0-4 and 0-3, y 3-4, z 4-5
    assert makespan(tasks, 3, 1) == 5


def test_a_smaller_task_goes_ahead_where_a_larger_does_not_fit() -> None:
    # x holds one of two GPUs until 3: `two` must wait, y need not
    tasks = {"x": Task(9, 1), "y": Task(3, 1), "two": Task(6, 2, ("y",)), "w": Task(2, 1, ("y",))}
    # x 0-9, y 0-3, w 3-5, two 9-15
    assert makespan(tasks, 2, 1) == 15


def test_tasks_on_cpus_need_no_gpu() -> None:
    tasks = {"data": Task(2, 0), "more": Task(2, 0), "train": Task(5, 1, ("data",))}
    assert makespan(tasks, 1, 2) == 7
    assert makespan(tasks, 1, 1) == 7  # more runs beside train
    only = {"one": Task(2), "two": Task(3)}
    assert makespan(only, 0, 1) == 5
    assert makespan(only, 0, 2) == 3


def test_what_is_done_already_is_not_waited_for() -> None:
    assert makespan({"b": Task(2, 1, ("done", "done"))}, 1, 1) == 2


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="4 GPUs and a CPU slot are needed, 2 and 1 are there"):
        makespan({"a": Task(1, 4)}, 2, 1)


def test_bounds_hold_for_any_graph() -> None:
    """Graham's bound: no more than the work over the GPUs, and the chain."""
    dice = random.Random(3)
    for _ in range(50):
        tasks = {
            str(n): Task(dice.randint(1, 9), 1, tuple(str(dice.randrange(n)) for _ in range(n % 3)))
            for n in range(1, 40)
        } | {"0": Task(1, 1)}
        chain = max(tails(tasks).values())
        work = sum(task.seconds for task in tasks.values())
        for gpus in (1, 3, 8):
            found = makespan(tasks, gpus, 1)
            assert max(chain, work / gpus) <= found <= work / gpus + chain * (1 - 1 / gpus)
        assert makespan(tasks, 1, 1) == work
