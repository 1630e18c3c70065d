"""The cluster of the tests does what a cluster does: what we build on stands here, as facts.

They were found on SLURM 22.05.8; a newer one that behaves in another way fails here first.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import daemons
import network
import pytest
from network import NODES

from cluster import ETC, FILES, GRACE_SECONDS, Cluster

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
#: What snakemake-executor-plugin-slurm takes for the end of a job, NODE_FAIL (with its
#: `--slurm-requeue`, it waits) apart.
FATAL = {"BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT", "ERROR"}
GPU = ("--gpus=1", "--mem=100", "--requeue")
CPU = ("--partition=cpu", "--mem=100", "--requeue")
#: Ends at once when it runs for the second time.
SECOND = (
    'echo "start ${SLURM_RESTART_COUNT:-0} on $SLURMD_NODENAME"; [ $SLURM_RESTART_COUNT ] && exit; '
)


def task(on_term: str, seconds: int = 120) -> str:
    """A step that runs for some time, and does something on SIGTERM."""
    return (
        f'srun -n1 bash -c \'trap "echo got SIGTERM; {on_term}" TERM;'
        f" for i in $(seq {5 * seconds}); do sleep 0.2; done'"
    )


def started(cluster: Cluster, script: str, *options: str) -> int:
    """A job that has printed something: it has not only been promised to a node, it is there."""
    job = cluster.submit(script, *options)
    daemons.wait_for(lambda: cluster.log(job), 60, f"job {job} to start")
    time.sleep(1)
    return job


def states(cluster: Cluster, job: int, until: Callable[[], bool], seconds: float = 60) -> list[str]:
    """What `sacct -X` says of a job, asked again and again, each state once when it changes."""
    seen: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        last = until()
        seen += cluster.accounting(job)
        if last:
            return [state.split()[0] for state, _ in itertools.groupby(seen)]
        time.sleep(0.3)
    raise TimeoutError(f"job {job} after {seconds} s: {seen}, {cluster.job(job)}")


def ended(cluster: Cluster, job: int) -> Callable[[], bool]:
    """Whether a job has ended for good, for the controller and in the accounting."""

    def found() -> bool:
        known = cluster.accounting(job)
        return bool(known) and cluster.state(job) in ENDED and known[0].split()[0] in ENDED

    return found


@pytest.fixture(scope="module")
def overtime(cluster: Cluster) -> list[int]:
    """Two jobs of one minute (SLURM's least): both CPUs of n2, while other tests use n1."""
    limits = (*CPU, "--nodelist=n2", "--time=1")
    asks = task("scontrol requeue $SLURM_JOB_ID; sleep 60", 200)
    return [cluster.submit(SECOND + each, *limits) for each in (task("exit 75", 200), asks)]


def test_two_jobs_get_one_gpu_each_at_the_same_time(cluster: Cluster) -> None:
    script = "echo $SLURMD_NODENAME $(hostname) $CUDA_VISIBLE_DEVICES; sleep 4"
    jobs = [cluster.submit(script, "--account=study", *GPU) for _ in NODES]
    for job in jobs:
        cluster.wait(job, "COMPLETED")
    known = [cluster.job(job) for job in jobs]
    assert max(each["StartTime"] for each in known) < min(each["EndTime"] for each in known)
    nodes, hosts, devices = zip(*(cluster.log(job).split() for job in jobs), strict=True)
    assert set(nodes) == set(NODES)
    assert devices == ("0", "0")
    assert hosts == nodes or not cluster.isolated()
    fields = ("State", "Account", "AllocTRES", "ExitCode")
    daemons.wait_for(lambda: cluster.accounting(jobs[0])[:1] == ["COMPLETED"], 20, "sacct")
    state, account, resources, status = cluster.accounting(jobs[0], *fields)
    assert (state, account, status) == ("COMPLETED", "study", "0:0")
    assert "gres/gpu=1" in resources


@pytest.mark.usefixtures("overtime")  # they begin here; `test_the_time_limit` sees their end
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--account=nobody", "Invalid account"),
        ("--partition=nowhere", "invalid partition specified: nowhere"),
        ("--gpus=a100:1", "Requested node configuration is not available"),
        ("--gpus-per-node=2", "Requested node configuration is not available"),
        ("--mem=9000", "Memory specification can not be satisfied"),
    ],
)
def test_what_the_cluster_has_not_is_refused(cluster: Cluster, option: str, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        cluster.submit("true", option)


def test_a_requeued_job_runs_again_under_its_id(cluster: Cluster) -> None:
    job = started(cluster, SECOND + task("exit 75"), *GPU)
    cluster.requeue(job)
    seen = states(cluster, job, ended(cluster, job))
    assert set(seen) <= {"PENDING", "RUNNING", "REQUEUED", "COMPLETED"}
    assert seen[-1] == "COMPLETED"
    assert "start 1" in cluster.log(job)


def test_a_job_requeues_itself_and_its_exit_status_does_not_count(cluster: Cluster) -> None:
    job = cluster.submit(
        SECOND + "srun -n1 bash -c 'scontrol requeue $SLURM_JOB_ID; exit 75'", *GPU
    )
    seen = states(cluster, job, ended(cluster, job))
    assert set(seen) <= {"PENDING", "RUNNING", "REQUEUED", "COMPLETED"}
    assert seen[-1] == "COMPLETED"
    assert cluster.job(job)["Restarts"] == "1"


def test_a_job_submitted_with_no_requeue_cannot_requeue_itself(cluster: Cluster) -> None:
    job = cluster.submit("scontrol requeue $SLURM_JOB_ID", *GPU, "--no-requeue")
    assert cluster.wait(job, *ENDED) == "FAILED"
    assert "Requested operation is presently disabled" in cluster.log(job)


@pytest.fixture
def urgent(cluster: Cluster) -> Iterator[Callable[[int], None]]:
    """Pre-empt a job: an urgent one asks for its node's GPU."""
    jobs = []

    def preempt(job: int) -> None:
        node = cluster.job(job)["NodeList"]
        jobs.append(cluster.submit("sleep 1", "--partition=urgent", f"--nodelist={node}", *GPU))

    yield preempt
    for job in jobs:
        cluster.cancel(job)


def test_a_preempted_job_is_told_killed_and_run_again(
    cluster: Cluster, urgent: Callable[[int], None]
) -> None:
    job = started(cluster, SECOND + task("date +%s"), *GPU)
    urgent(job)
    seen = states(cluster, job, ended(cluster, job), 90)
    assert "PREEMPTED" in seen
    assert seen[-1] == "COMPLETED"
    assert not FATAL & set(seen)
    lines = cluster.log(job).splitlines()
    assert "got SIGTERM" in lines
    assert any(line.startswith("start 1") for line in lines)
    assert cluster.job(job)["Restarts"] == "1"


def test_a_preempted_job_that_ends_itself_is_not_run_again(
    cluster: Cluster, urgent: Callable[[int], None]
) -> None:
    job = started(cluster, SECOND + task("exit 75"), *GPU)
    urgent(job)
    assert cluster.wait(job, *ENDED, seconds=GRACE_SECONDS + 60) == "FAILED"
    assert cluster.job(job)["ExitCode"] == "75:0"


def test_the_job_of_a_dead_node_fails_or_runs_again(cluster: Cluster) -> None:
    again = started(cluster, SECOND + task("true"), *GPU, "--nodelist=n1")
    never = started(cluster, SECOND + task("true"), *CPU, "--no-requeue", "--nodelist=n1")
    cluster.kill_node("n1")
    assert not cluster.processes("n1")
    # Shown for some seconds, then PENDING: what asks rarely does not see it.
    daemons.wait_for(lambda: cluster.accounting(again) == ["NODE_FAIL"], 60, "NODE_FAIL")
    assert cluster.wait(never, *ENDED) == "NODE_FAIL"
    cluster.start_node("n1")
    seen = states(cluster, again, ended(cluster, again))
    assert seen[-1] == "COMPLETED"
    assert not FATAL & set(seen)
    assert cluster.accounting(never) == ["NODE_FAIL"]


EAT = f"{sys.executable} -c 'x = bytes(range(256)) * 4_000_000; import time; time.sleep(5)'"


def test_out_of_memory(cluster: Cluster) -> None:
    alone = cluster.submit(EAT, *CPU)
    step = cluster.submit(f"srun -n1 {EAT}", *CPU)
    # Only the step is, when the script ends with a status of its own: so for Snakemake's jobs.
    assert cluster.wait(step, *ENDED) == "FAILED"
    if not cluster.kernel_limits_memory():
        assert cluster.wait(alone, *ENDED) == "FAILED"
        assert all("exceeded memory limit" in cluster.log(job) for job in (alone, step))
        return
    assert cluster.wait(alone, *ENDED) == "OUT_OF_MEMORY"
    asked = ("sacct", "-n", "-P", "-j", f"{step}.0", "-o", "State")
    daemons.wait_for(lambda: "OUT_OF_MEMORY" in cluster.said(*asked), 20, "sacct")


def test_scancel(cluster: Cluster) -> None:
    job = started(cluster, SECOND + task("exit 75"), *GPU)
    cluster.cancel(job)
    assert states(cluster, job, ended(cluster, job))[-1] == "CANCELLED"
    assert cluster.accounting(job) == ["CANCELLED by 0"]


def test_a_job_outlives_the_controller(cluster: Cluster) -> None:
    job = started(cluster, "echo on; sleep 6; echo over", *CPU)
    cluster.stop_controller()
    with pytest.raises(RuntimeError, match="Unable to contact slurm controller"):
        cluster.submit("true", *CPU)
    cluster.start_controller()
    assert cluster.wait(job, *ENDED) == "COMPLETED"
    assert cluster.log(job).split() == ["on", "over"]


def test_accounting_learns_later_what_it_missed(cluster: Cluster) -> None:
    job = started(cluster, "echo on; sleep 2", *CPU)
    cluster.stop_accounting()
    assert cluster.accounting(job) == []
    assert cluster.wait(job, *ENDED) == "COMPLETED"
    cluster.start_accounting()
    daemons.wait_for(lambda: cluster.accounting(job) == ["COMPLETED"], 40, "sacct")


#: The variables that snakemake-executor-plugin-slurm-jobstep leaves to its srun.
KEPT = "SLURM_JOB_ID SLURM_JOBID SLURM_CLUSTER_NAME SLURM_SUBMIT_DIR SLURM_SUBMIT_HOST"
CLEAN = f'for v in ${{!SLURM_*}}; do case " {KEPT} " in *" $v "*) ;; *) unset $v;; esac; done; '


def test_what_a_task_of_snakemake_knows_of_its_job(cluster: Cluster) -> None:
    again = 'if [ -z "$SLURM_RESTART_COUNT" ]; then scontrol requeue $SLURM_JOB_ID; sleep 60; fi; '
    job = cluster.submit(again + CLEAN + "srun -n1 env | sort", *GPU)
    cluster.wait(job, *ENDED)
    known = dict(line.split("=", 1) for line in cluster.log(job).splitlines() if "=" in line)
    assert known["SLURM_JOB_ID"] == str(job)
    assert known["SLURMD_NODENAME"] in NODES
    assert known["CUDA_VISIBLE_DEVICES"] == "0"
    assert known["SLURM_STEP_ID"] == "0"
    # When the job ends and how often it was started, a task must ask of `scontrol show job`.
    assert "SLURM_JOB_END_TIME" not in known
    assert "SLURM_RESTART_COUNT" not in known
    assert cluster.job(job)["Restarts"] == "1"


CALL = """
import socket
for address in ("203.0.113.1", "2001:db8::1", "198.18.77.99", "huggingface.co"):
    try:
        socket.create_connection((address, 443), timeout=3)
    except OSError as error:
        print(address, error)
"""


def test_a_node_reaches_nobody_and_who_tries_is_counted(cluster: Cluster) -> None:
    if not cluster.isolated():
        pytest.skip("this machine permits no network namespaces")
    before = {node: cluster.strangers(node) for node in NODES}
    quiet = cluster.submit("srun -n1 hostname", *CPU, "--nodelist=n1")
    assert cluster.wait(quiet, *ENDED) == "COMPLETED"
    assert {node: cluster.strangers(node) for node in NODES} == before
    loud = cluster.submit(f"{sys.executable} - <<'END'\n{CALL}END\n", *CPU, "--nodelist=n1")
    assert cluster.wait(loud, *ENDED) == "COMPLETED"
    lines = cluster.log(loud).splitlines()
    assert [line.split()[0] for line in lines] == CALL.split('"')[1:8:2]
    assert all("unreachable" in line for line in lines[:3])
    assert "name resolution" in lines[3]
    assert cluster.strangers("n1") >= before["n1"] + 4
    assert cluster.strangers("n2") == before["n2"]


def test_the_time_limit(cluster: Cluster, overtime: list[int]) -> None:
    killed, asked = overtime
    assert states(cluster, killed, ended(cluster, killed), 120)[-1] == "TIMEOUT"
    # A job that asks to be requeued in its last seconds is, and does not count as TIMEOUT.
    seen = states(cluster, asked, ended(cluster, asked), 60)
    assert seen[-1] == "COMPLETED"
    assert not FATAL & set(seen)
    assert cluster.job(asked)["Restarts"] == "1"


def test_down_leaves_nothing_also_when_the_start_failed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="a cluster runs already"):
        Cluster(cluster.scratch / "other").up()

    def fail(self: Cluster) -> None:
        raise TimeoutError("no controller today")

    job = started(cluster, SECOND + task("true"), *CPU)
    assert cluster.state(job) == "RUNNING"
    cluster.down()
    assert_nothing_runs(cluster)
    with monkeypatch.context() as patched:
        patched.setattr(Cluster, "start_controller", fail)
        with pytest.raises(TimeoutError, match="no controller today"):
            cluster.up()
    assert_nothing_runs(cluster)
    cluster.up()


def assert_nothing_runs(cluster: Cluster) -> None:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [each for each in commands if str(cluster.scratch).encode() in each]
    assert not [each for each in commands if each.startswith((b"slurmstepd", b"srun"))]
    assert not any((ETC / name).exists() for name in FILES)
    assert not any(map(network.isolated, NODES))
    assert {path.name for path in cluster.scratch.iterdir()} <= {"log"}


def test_the_configuration_of_another_slurm_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slurm.conf").write_text("ClusterName=theirs\n")
    monkeypatch.setattr("cluster.ETC", tmp_path)
    with pytest.raises(RuntimeError, match="of another SLURM"):
        Cluster(tmp_path / "scratch").up()
    assert (tmp_path / "slurm.conf").read_text() == "ClusterName=theirs\n"
