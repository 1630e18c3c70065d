"""Progress: few lines, right numbers."""

import json

import pytest

from tiny import settings_of_process
from xstilts import progress
from xstilts.progress import Progress, _clock


@pytest.fixture
def clock(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    settings_of_process(monkeypatch, '{"log_seconds": 10}')
    yield time
    progress.runtime.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (7384, "2:03:04")],
)
def test_clock(seconds, text):
    assert _clock(seconds) == text


def test_a_line_only_now_and_then(clock, capsys):
    shown = Progress("finetune", "a/b", 100)
    for step in range(1, 26):
        clock[0] += 1
        shown.step(step, "loss 1.000")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "finetune     a/b  step 10/100  1.0/s  1:30 left  loss 1.000",
        "finetune     a/b  step 20/100  1.0/s  1:20 left  loss 1.000",
    ]


def test_the_file_is_written_with_the_lines(clock, tmp_path):
    path = progress.sign_path(tmp_path / "state", "a/b")
    shown, seen = Progress("finetune", "a/b", 100), []
    for step in range(1, 26):
        clock[0] += 1
        shown.step(step, "loss 1.000")
        seen.append(json.loads(path.read_text()).get("step"))
    assert seen == [None] * 9 + [10] * 10 + [20] * 6
    assert json.loads(path.read_text())["rate"] == 1.0
    shown.done()
    assert list(path.parent.iterdir()) == []


def test_earlier_attempts_do_not_count_for_the_rate(clock, capsys):
    shown = Progress("finetune", "a/b", 100)
    shown.resume(80)
    clock[0] += 10
    shown.step(90)
    assert capsys.readouterr().err == "finetune     a/b  step 90/100  1.0/s  0:10 left\n"


def test_nothing_to_count_and_no_time_passed(clock, capsys, monkeypatch):
    settings_of_process(monkeypatch, '{"log_seconds": 0}')
    shown = Progress("check", "a")
    shown.step(0)
    shown.done("12 rows")
    assert (
        capsys.readouterr().err
        == "check        a  step 0  0.0/s\ncheck        a  done in 0:00  12 rows\n"
    )
