"""How a stage inside a SLURM job hears of its end."""

import os
import signal
import subprocess
import sys
import time

from xstilts.cluster.job import descendants

# As in a job: Snakemake, the shell that it starts, and the stage in a pipe of that.
SNAKEMAKE = """
import subprocess, sys
from xstilts.cluster.job import hand_on_sigterm
hand_on_sigterm()
command = f'''set -euo pipefail; "{sys.executable}" -c "$STAGE" 2>&1 | tee log >&2'''
print(subprocess.run(["bash", "-c", command]).returncode)
"""
STAGE = """
import signal, sys, time
from xstilts.cluster.job import hear_sigterm
def save(*_):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
hear_sigterm()
print("begun", flush=True)
time.sleep(60)
"""


def test_sigterm_reaches_the_stage_and_not_the_shell_around_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SNAKEMAKE],
        cwd=tmp_path,
        env={**os.environ, "STAGE": STAGE},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    log = tmp_path / "log"
    while not (log.exists() and log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _ = process.communicate(timeout=30)
    assert log.read_text() == "begun\nsaved\n"
    assert status == "75\n"


def test_descendants():
    with subprocess.Popen(["sh", "-c", "sleep 30 & wait"]) as process:
        while len(descendants(process.pid)) != 1:
            time.sleep(0.01)
        assert process.pid in descendants(os.getpid())
        (sleeper,) = descendants(process.pid)
        assert sleeper in descendants(os.getpid())
        os.kill(sleeper, signal.SIGKILL)
        assert descendants(sleeper) == []
