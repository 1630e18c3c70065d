"""What happens to a training on a cluster: it ends in the bytes of an untouched one, each time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from studies import HERE, Study, jobs, wait_for

from cluster import Cluster

pytestmark = pytest.mark.cluster

SHORT = "checkpoints/tiny-xlmr/none/seed-1/toy_ner"
LONG = "checkpoints/tiny-xlmr/none/seed-1/toy_nli"
LARGE = "checkpoints/tiny-xlmr/none/seed-1/toy_pos"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, run on this machine without SLURM and without faults."""
    study = Study.of(HERE / "faults.yaml", tmp_path_factory.mktemp("untouched"))
    study.here("--quiet", "all").succeeds()
    return study


@pytest.fixture
def copy(cluster: Cluster, untouched: Study, tmp_path: Path) -> Iterator[Callable[[str], Study]]:
    """Makes a copy of the finished study that lacks one checkpoint."""
    made: list[Study] = []

    def make(checkpoint: str, folder: Path = tmp_path) -> Study:
        made.append(untouched.copy(folder, checkpoint))
        return made[-1]

    yield make
    for study in made:
        study.stop()
    for job in jobs("PENDING", "RUNNING", "COMPLETING"):
        subprocess.run(["scancel", str(job)], check=False)
    wait_for(lambda: not jobs("PENDING", "RUNNING", "COMPLETING"), 60, "an empty queue")


def training(study: Study, checkpoint: str, seconds: float = 90) -> int:
    """Wait until a training runs and has saved a state; its job."""
    wait_for(lambda: study.saved(checkpoint), seconds, "a saved state")
    (job,) = jobs("RUNNING")
    return job


def lost(study: Study, checkpoint: str) -> float:
    """Seconds of work that a kill at this moment loses."""
    state = study.saved(checkpoint)
    assert state is not None
    return time.time() - state.stat().st_mtime


def same(study: Study, untouched: Study) -> None:
    """Nothing is torn, and every checkpoint has the bytes of the untouched study."""
    assert study.broken() == []
    assert study.checkpoints() == untouched.checkpoints()


def requeued(cluster: Cluster, job: int) -> None:
    cluster.requeue(job)


def preempted(cluster: Cluster, job: int) -> None:
    urgent = [
        cluster.submit("sleep 3", "--partition=urgent", "--cpus-per-task=2", "--mem=500")
        for _ in range(2)
    ]
    for number in urgent:
        cluster.wait(number, "COMPLETED", seconds=60)


def node_killed(cluster: Cluster, job: int) -> None:
    node = cluster.job(job)["NodeList"]
    cluster.kill_node(node)
    wait_for(lambda: cluster.job(job).get("Restarts", "0") != "0", 90, "SLURM to notice")
    cluster.start_node(node)


def cancelled(cluster: Cluster, job: int) -> None:
    cluster.cancel(job)


@pytest.mark.parametrize("fault", [requeued, preempted, node_killed, cancelled])
def test_a_training_is_stopped(
    cluster: Cluster,
    untouched: Study,
    copy: Callable[[str], Study],
    fault: Callable[[Cluster, int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = copy(SHORT)
    driver = study.on_slurm()
    job = training(study, SHORT)
    seconds = lost(study, SHORT)
    fault(cluster, job)
    driver.succeeds()
    same(study, untouched)
    attempts = study.attempts(SHORT)
    assert len(attempts) == 2
    # SLURM starts the same job again; only a cancelled one is submitted anew.
    assert (attempts[1]["SLURM_JOB_ID"] == str(job)) == (fault is not cancelled)
    # Whoever gets a SIGTERM saves before it goes.
    asked = fault in (preempted, cancelled)
    assert attempts[0]["outcome"] == ("interrupted" if asked else "killed") or fault is requeued
    with capsys.disabled():
        ended = attempts[0]["outcome"]
        print(f"\n{fault.__name__}: {ended}, at most {seconds:.1f} s of work unsaved")
