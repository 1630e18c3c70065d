"""One driver for each results folder."""

import fcntl
import signal
import subprocess
import sys
import threading

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
    assert driver.lives(tmp_path) is True
    with pytest.raises(InputError, match=f"another snakemake .* process {other.pid} on "):
        driver.hold(tmp_path)


def test_a_killed_driver_holds_nothing(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert driver.lives(tmp_path) is False
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    assert driver.hold(tmp_path)
    driver.forget_the_dead(tmp_path)
    assert locks.is_dir()
    assert not list(locks.iterdir())
    assert driver.lives(tmp_path) is True


def test_a_folder_that_nobody_has_run(tmp_path):
    assert driver.lives(tmp_path) is None


def test_who_only_looks_refuses_nobody(tmp_path):
    """`xstilts status` looks whether the lock is held, and holds it for that instant."""
    (tmp_path / driver.FILE).touch()
    with (tmp_path / driver.FILE).open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, [looking, fcntl.LOCK_UN]).start()
        assert driver.hold(tmp_path)
    driver.release(tmp_path)
