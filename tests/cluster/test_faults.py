"""What happens to a training on a cluster: it ends in the bytes of an untouched one, each time."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from studies import HERE, LARGE, LONG, SHORT, Study, jobs, made, wait_for

from cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def untouched(faults: Study) -> Study:
    """The study's trainings, run on this machine without SLURM and without faults."""
    faults.drivers[0].succeeds(900)
    return faults


@pytest.fixture
def copy(cluster: Cluster, untouched: Study, tmp_path: Path) -> Iterator[Callable[[str], Study]]:
    """Makes a copy of the study that lacks one checkpoint."""
    copies: list[Study] = []

    def make(checkpoint: str, results: Path | None = None) -> Study:
        copies.append(untouched.copy(tmp_path, checkpoint, results))
        return copies[-1]

    yield make
    for study in copies:
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
    driver = study.on_slurm(made(SHORT))
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


def test_a_training_outlives_its_time_limit_twice(
    cluster: Cluster, untouched: Study, copy: Callable[[str], Study]
) -> None:
    """One job of one minute after the other, in the same place of the queue: status 75."""
    study = copy(LONG)
    study.on_slurm(made(LONG)).succeeds(900)
    same(study, untouched)
    attempts = study.attempts(LONG)
    assert len(attempts) >= 3
    assert {attempt.get("outcome") for attempt in attempts[:-1]} == {"interrupted"}
    assert len({attempt["SLURM_JOB_ID"] for attempt in attempts}) == 1


def test_a_training_is_out_of_memory(
    cluster: Cluster, untouched: Study, copy: Callable[[str], Study]
) -> None:
    """The next attempt has twice as much."""
    study = copy(LARGE)
    said = study.on_slurm(made(LARGE)).succeeds()
    same(study, untouched)
    first, *_, last = study.attempts(LARGE)
    assert first["outcome"] == "killed"
    assert "mem_mb=1000" in said
    assert cluster.job(int(last["SLURM_JOB_ID"]))["MinMemoryNode"] == "2000M"


def test_a_driver_is_killed_and_started_again(
    cluster: Cluster, untouched: Study, copy: Callable[[str], Study]
) -> None:
    """The running job goes on; the second driver's job for it finds the work done."""
    study = copy(SHORT)
    first = study.on_slurm(made(SHORT))
    job = training(study, SHORT)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert cluster.state(job) == "RUNNING"
    said = study.on_slurm(made(SHORT)).succeeds()
    same(study, untouched)
    assert f"job {job} of an earlier driver goes on" in said
    (attempt,) = study.attempts(SHORT)
    assert attempt["SLURM_JOB_ID"] == str(job)


def test_of_two_drivers_the_second_is_refused(
    cluster: Cluster, untouched: Study, copy: Callable[[str], Study]
) -> None:
    study = copy(SHORT)
    first = study.on_slurm(made(SHORT))
    training(study, SHORT)
    second = study.on_slurm(made(SHORT))
    assert second.ends() == 1
    assert "another snakemake is running this study" in second.said
    assert f"process {first.process.pid} on " in second.said
    first.succeeds()
    same(study, untouched)
    assert len(study.attempts(SHORT)) == 1


def test_the_controller_and_the_accounting_are_away(
    cluster: Cluster, untouched: Study, copy: Callable[[str], Study]
) -> None:
    """The controller is restarted; slurmdbd is away for a minute, while jobs end."""
    study = copy(SHORT)
    driver = study.on_slurm(made(SHORT))
    training(study, SHORT)
    cluster.restart_controller()
    cluster.stop_accounting()
    try:
        time.sleep(60)
    finally:
        cluster.start_accounting()
    driver.succeeds()
    same(study, untouched)
    assert len(study.attempts(SHORT)) == 1


def test_the_disk_is_full_for_a_while(
    cluster: Cluster, untouched: Study, copy: Callable[[str], Study]
) -> None:
    """What was saved stays whole; when there is room, the study is made to its end."""
    disk = cluster.shared / "disk"
    disk.mkdir(exist_ok=True)
    size = sum(path.stat().st_size for path in untouched.results.rglob("*") if path.is_file())
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={2 * size + (8 << 20)}", "none", str(disk)],
        check=True,
    )
    try:
        study = copy(SHORT, disk / "results")
        driver = study.on_slurm(made(SHORT))
        training(study, SHORT)
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=64k"],
            capture_output=True,
            check=False,
        )
        assert driver.ends() != 0
        assert f"{study.results}: nothing can be written there (No space left" in driver.said
        assert study.broken() == []
        (disk / "filler").unlink()
        study.on_slurm(made(SHORT)).succeeds()
        same(study, untouched)
    finally:
        wait_for(lambda: not jobs("RUNNING", "COMPLETING"), 60, "the end of the jobs")
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_study_on_two_nodes(
    cluster: Cluster, untouched: Study, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All of a study, from nothing: one GPU a job, both nodes, and nobody asks for the network."""
    before = [cluster.strangers(node) for node in ("n1", "n2")]
    study = Study.of(HERE / "faults.yaml", tmp_path, without="toy_nli")  # it takes long
    request.addfinalizer(study.stop)
    study.on_slurm().succeeds(900)
    known = untouched.checkpoints()
    assert study.broken() == []
    assert study.checkpoints() == {name: known[name] for name in known if "toy_nli" not in name}
    records = [study.attempts(str(Path(name).parent))[-1] for name in study.checkpoints()]
    assert {record["SLURMD_NODENAME"] for record in records} == {"n1", "n2"}
    assert {record["gpus"] for record in records} == {1}
    if not cluster.isolated():
        pytest.skip("all else holds; nodes have no network of their own on this machine")
    assert [cluster.strangers(node) for node in ("n1", "n2")] == before
