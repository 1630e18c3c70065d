"""When a job's time is up."""

import time

import pytest

from xstilts.runtime import Runtime
from xstilts.training import deadline as module
from xstilts.training.deadline import SPARE, Deadline, between_saves


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1000.0]
    for name in module.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_without_a_limit_it_is_never_due(clock):
    deadline = Deadline(10**12)
    clock[0] += 1e9
    assert not deadline.due()


@pytest.mark.parametrize("name", module.VARIABLES)
def test_by_hand(clock, monkeypatch, name):
    monkeypatch.setenv(name, "1600")
    deadline = Deadline(int(5e9))  # guessed: 50 s to save
    assert SPARE == 30
    clock[0] = 1040  # a step took 40 s: 40 + 2 x 50 + 30 = 170 are needed
    assert not deadline.due()
    clock[0] = 1080
    deadline.saved(10.0)  # measured: 40 + 2 x 10 + 30 = 90
    assert not deadline.due()
    for clock[0] in (1120, 1160, 1200, 1500, 1505):
        seen = deadline.due()
    assert seen  # the longest step took 300 s by now


def test_the_earlier_limit_counts(monkeypatch):
    monkeypatch.setenv(module.VARIABLES[0], "5000")
    monkeypatch.setenv(module.VARIABLES[1], "999")
    assert Deadline(0).due()


def test_little_is_kept_free_where_there_is_little(clock, monkeypatch):
    monkeypatch.setenv(module.VARIABLES[1], "1050")
    deadline = Deadline(0)
    clock[0] = 1022
    assert not deadline.due()  # a step took 22 s, and 5 s are kept free: until 1049
    clock[0] = 1024
    assert deadline.due()


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv(module.VARIABLES[1], "")
    assert not Deadline(0).due()


def test_a_kill_costs_two_minutes_or_a_fiftieth(monkeypatch):
    settings = Runtime()
    monkeypatch.setattr(module, "runtime", lambda: settings)
    assert between_saves(10.0, 100, 1000) == 120  # of 100 s
    assert between_saves(3600.0, 100, 1000) == 720  # of ten hours
    assert between_saves(0.0, 0, 1000) == 120
    settings = Runtime(save_seconds=5)
    assert between_saves(3600.0, 100, 1000) == 5
