"""One driver for each results folder."""

import os
import signal
import subprocess
import sys

import pytest

from xstilts.cluster import driver
from xstilts.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from xstilts.cluster.driver import hold
assert hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_driver_is_refused_and_told_of_the_first(tmp_path, other):
    assert driver.living(tmp_path)["pid"] == other.pid
    with pytest.raises(InputError, match=f"another snakemake .* process {other.pid} on "):
        driver.hold(tmp_path)


def test_a_killed_driver_holds_nothing(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert driver.living(tmp_path) is None
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    assert driver.hold(tmp_path)
    driver.forget_the_dead(tmp_path)
    assert locks.is_dir()
    assert not list(locks.iterdir())
    assert driver.living(tmp_path)["pid"] == os.getpid()


def test_a_folder_that_nobody_has_run(tmp_path):
    assert driver.living(tmp_path) is None
