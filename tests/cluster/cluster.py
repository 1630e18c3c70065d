"""A real SLURM cluster of two nodes on this machine, without systemd, for tests.

    python tests/cluster/cluster.py up [SCRATCH] | down | status

Runs munged, mariadbd, slurmdbd, slurmctld and a slurmd for each of the nodes n1 and n2. All their
files lie in the scratch folder but for the configuration, which must lie in /etc/slurm: a job's
srun has no SLURM_CONF. Where the machine permits it, a node has namespaces of its own (network.py)
and the kernel enforces memory limits (cgroup v1); elsewhere both share the machine's network, and
SLURM itself watches the memory.

| partition | priority | pre-empted by `urgent` |
|-----------|----------|------------------------|
| gpu       | 1        | requeued, SIGTERM `GRACE_SECONDS` before |
| cpu       | 1        | no |
| urgent    | 10       | - |

Accounts: root (default) and study.
"""

import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from pathlib import Path

import daemons
import network
from daemons import wait_for
from network import NODES

#: SLURM waits so long, in seconds, before it calls a silent node dead.
NODE_SECONDS = 6
#: Between SIGTERM and SIGKILL at a time limit.
KILL_SECONDS = 5
#: Between SIGTERM and the end of a pre-empted job.
GRACE_SECONDS = 6
#: A requeued job is not started again before.
REQUEUE_SECONDS = 5

SCRATCH = Path("/tmp/xstilts-cluster")
ETC = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "cgroup.conf", "slurmdbd.conf")
MARK = "# written by xstilts' tests/cluster/cluster.py; its files: "
TOOLS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch")
#: Started in this order, stopped in the other.
SERVERS = ("munged", "mariadbd", "slurmdbd", "slurmctld")


class Cluster:
    """The cluster whose files lie in a scratch folder; another process may have started it."""

    def __init__(self, scratch: Path = SCRATCH) -> None:
        self.scratch = scratch.resolve()
        #: A mount made here while the cluster runs is seen on the nodes (a small tmpfs, say).
        self.shared = self.scratch / "shared"

    # Start and stop

    def up(self) -> None:
        """Start everything and wait until both nodes are idle; stop everything when that fails.

        Raises:
            RuntimeError: this machine has a SLURM, or runs such a cluster already.
            TimeoutError: something did not start; the message names it.
        """
        self._refuse_foreign()
        Cluster.down_any()
        try:
            self._prepare(network.build())
            self._start_servers()
            for node in NODES:
                self.start_node(node)
            wait_for(self._all_idle, 30, "two idle nodes")
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop everything and take away all but the logs; harmless when nothing runs."""
        for node in NODES:
            self.kill_node(node)
        for name in reversed(SERVERS):
            daemons.stop(self.scratch, name)
        daemons.kill(daemons.marked(f"XSTILTS_CLUSTER={self.scratch}"))
        network.remove()
        subprocess.run(["umount", "-R", "-l", str(self.shared)], capture_output=True, check=False)
        _remove_cgroups()
        for path in self.scratch.iterdir() if self.scratch.exists() else ():
            if path.name != "log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in FILES:
            if _ours(ETC / name):
                (ETC / name).unlink()

    @staticmethod
    def down_any() -> None:
        """Stop the cluster that the configuration in /etc/slurm belongs to, running or crashed."""
        owner = _ours(ETC / "slurm.conf")
        if owner:
            Cluster(owner).down()

    def status(self) -> str:
        """Which daemons run, and what SLURM says of the nodes."""
        lines = [f"{name}: {daemons.running(self.scratch, name)}" for name in (*SERVERS, *NODES)]
        return "\n".join([*lines, _output("sinfo", "-N", "-l")])

    def _refuse_foreign(self) -> None:
        for name in FILES:
            if (ETC / name).exists() and not _ours(ETC / name):
                raise RuntimeError(f"{ETC / name} is of another SLURM: nothing was started")
        owner = _ours(ETC / "slurm.conf")
        if owner and daemons.running(owner, "slurmctld"):
            raise RuntimeError(f"a cluster runs already, in {owner}; stop it: cluster.py down")

    # What is written

    def _prepare(self, isolated: bool) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)  # the logs of the last time
        for name in ("log", "pids", "state", "spool/n1", "spool/n2", "db", "n1", "n2", "shared"):
            (self.scratch / name).mkdir(parents=True, exist_ok=True)
        values = self._values(isolated)
        ETC.mkdir(exist_ok=True)
        for name in FILES:
            template = (Path(__file__).parent / "etc" / name).read_text()
            (ETC / name).write_text(
                f"{MARK}{self.scratch}\n" + string.Template(template).substitute(values)
            )
            (ETC / name).chmod(0o600 if name == "slurmdbd.conf" else 0o644)
        key = self.scratch / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        if isolated:
            _run("mount", "--bind", str(self.shared), str(self.shared))
            _run("mount", "--make-shared", str(self.shared))

    def _values(self, isolated: bool) -> dict[str, object]:
        host = socket.gethostname().partition(".")[0]
        enforced = _memory_cgroups()
        return {
            "host": host,
            "scratch": self.scratch,
            "address": network.CONTROLLER if isolated else "127.0.0.1",
            **{f"address{n[1]}": network.ADDRESS[n] if isolated else "127.0.0.1" for n in NODES},
            **{f"hostname{n[1]}": n if isolated else host for n in NODES},
            "requeue_seconds": REQUEUE_SECONDS,
            "node_seconds": NODE_SECONDS,
            "kill_seconds": KILL_SECONDS,
            "grace_seconds": GRACE_SECONDS,
            "proctrack": "proctrack/cgroup" if enforced else "proctrack/linuxproc",
            "task": "task/cgroup" if enforced else "task/none",
            "over_memory": "" if enforced else "JobAcctGatherParams=OverMemoryKill",
        }

    # Daemons

    def _start_servers(self) -> None:
        at = self.scratch
        options = [f"--socket={at}/munge.sock", f"--key-file={at}/munge.key"]
        options += [f"--log-file={at}/log/munged.log", f"--pid-file={at}/munged.pid"]
        options += [f"--seed-file={at}/munge.seed", "--foreground", "--force"]
        self._start("munged", *options)
        wait_for((at / "munge.sock").exists, 20, "munged")
        self._start_database()
        self.start_accounting()
        _run("sacctmgr", "-i", "add", "cluster", "xstilts")
        _run("sacctmgr", "-i", "add", "account", "study", "cluster=xstilts")
        _run("sacctmgr", "-i", "add", "user", "root", "account=study", "cluster=xstilts")
        self.start_controller()

    def _start_database(self) -> None:
        at = self.scratch
        place = ["--no-defaults", f"--datadir={at}/db", "--user=root"]
        _run(
            "mariadb-install-db",
            *place,
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )
        small = ["--skip-networking", "--innodb-log-file-size=8M", "--innodb-lock-wait-timeout=900"]
        files = [f"--socket={at}/db.sock", f"--pid-file={at}/db.pid"]
        self._start("mariadbd", *place, *small, *files)
        asked = ["mariadb-admin", "--no-defaults", f"--socket={at}/db.sock", "ping"]
        _wait_for_answer(*asked)

    def _start(self, name: str, *options: str) -> None:
        env = {"XSTILTS_CLUSTER": str(self.scratch), "MYSQL_UNIX_PORT": f"{self.scratch}/db.sock"}
        daemons.start(self.scratch, name, [_tool(name), *options], env)

    def start_controller(self) -> None:
        """Start slurmctld with the state it left; returns when it answers."""
        self._start("slurmctld", "-D")
        _wait_for_answer("scontrol", "show", "partition")

    def stop_controller(self, how: int = signal.SIGTERM) -> None:
        """Stop slurmctld: jobs run on, sbatch and squeue fail (after 9 s).

        SIGKILL is a crash: it forgets the last seconds. A job that began in them is launched a
        second time, is held, and its node drained ("Duplicate jobid").
        """
        daemons.stop(self.scratch, "slurmctld", how)

    def restart_controller(self, how: int = signal.SIGTERM) -> None:
        """Stop slurmctld and start it again; `how` as for `stop_controller`."""
        self.stop_controller(how)
        self.start_controller()

    def start_accounting(self) -> None:
        """Start slurmdbd; returns when sacctmgr gets an answer."""
        self._start("slurmdbd", "-D")
        _wait_for_answer("sacctmgr", "-n", "show", "cluster")

    def stop_accounting(self) -> None:
        """Stop slurmdbd: sacct and sacctmgr fail, the controller keeps what it has to say."""
        daemons.stop(self.scratch, "slurmdbd")

    def start_node(self, node: str) -> None:
        """Start a node; SLURM takes it back by itself."""
        folder = self.scratch / node
        command = [_tool("slurmd"), "-D", "-N", node]
        if network.isolated(node):
            network.plug(node)
            command = network.inside(node, folder, command)
        env = {"XSTILTS_CLUSTER": str(self.scratch)}
        daemons.start(self.scratch, node, command, env)

    def kill_node(self, node: str) -> None:
        """SIGKILL for the slurmd and everything it started, at once, as when the power fails.

        SLURM notices NODE_SECONDS later or a little more; 30 s where nodes have no network of
        their own, for it asks again and again a machine that refuses. Submit nothing for the
        node meanwhile: SLURM 22.05 requeues a GPU job that it launches on a dead node, but books
        the GPU for ever (until `restart_controller`).
        """
        pids = self.processes(node)
        if network.isolated(node):
            network.unplug(node)
        daemons.stop(self.scratch, node, signal.SIGKILL)
        daemons.kill(pids)
        wait_for(lambda: not self._killed(node), 10, f"the end of {node}")

    def processes(self, node: str) -> list[int]:
        """The node's slurmd, its slurmstepds (they keep its log open) and their descendants."""
        return daemons.holding(self.scratch / "log" / f"{node}.log")

    def _killed(self, node: str) -> list[int]:
        pids = self.processes(node)
        daemons.kill(pids)
        return pids

    # Jobs

    def strangers(self, node: str) -> int:
        """How often something on the node tried to reach an address outside the cluster.

        Counts every attempt that found no route, questions to the DNS too; what it sends to
        the controller's address or the other node is not counted. Meaningful where
        `isolated()`.
        """
        return network.refused(node)

    def isolated(self) -> bool:
        """Whether nodes have networks of their own."""
        return all(map(network.isolated, NODES))

    def kernel_limits_memory(self) -> bool:
        """Whether the kernel does (OUT_OF_MEMORY), or SLURM by looking each second (FAILED)."""
        return "task/cgroup" in (ETC / "slurm.conf").read_text()

    def submit(self, script: str, *options: str) -> int:
        """Submit a bash script by sbatch; returns the job's id.

        Raises:
            RuntimeError: sbatch refused it; the message is sbatch's.
        """
        log = f"--output={self.scratch}/log/job-%j.out"
        done = subprocess.run(
            ["sbatch", "--parsable", "--open-mode=append", log, *options],
            input=f"#!/bin/bash\n{script}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return int(done.stdout.split(";")[0])

    def log(self, job: int) -> str:
        """What a job submitted by `submit` has printed, over all its starts."""
        path = self.scratch / "log" / f"job-{job}.out"
        return path.read_text() if path.exists() else ""

    def state(self, job: int) -> str:
        """The state of a job as the controller knows it: PENDING, RUNNING, COMPLETED ..."""
        return self.job(job).get("JobState", "")

    def job(self, job: int) -> dict[str, str]:
        """What `scontrol show job` says, by name."""
        words = _output("scontrol", "-o", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def accounting(self, job: int, *fields: str) -> list[str]:
        """Fields of a job as `sacct -X` knows them; empty while it does not know the job."""
        asked = ",".join(fields or ("State",))
        line = _output("sacct", "-X", "-n", "-P", "-j", str(job), "-o", asked).strip()
        return line.split("|") if line else []

    def said(self, *command: str) -> str:
        """What a command of SLURM prints."""
        return _output(*command)

    def wait(self, job: int, *states: str, seconds: float = 60) -> str:
        """Wait until the controller says one of these states."""
        wait_for(lambda: self.state(job) in states, seconds, f"job {job} to be {states}", 0.2)
        return self.state(job)

    def requeue(self, job: int) -> None:
        """`scontrol requeue`: stop the job and queue it again, under its id."""
        _run("scontrol", "requeue", str(job))

    def cancel(self, job: int) -> None:
        """`scancel` a job."""
        _run("scancel", str(job))

    def idle(self, node: str) -> bool:
        """Whether a node is up and has nothing to do."""
        return _output("sinfo", "-h", "-n", node, "-p", "cpu", "-o", "%T").strip() == "idle"

    def _all_idle(self) -> bool:
        return all(map(self.idle, NODES))


def missing() -> list[str]:
    """Programs of SLURM, munge and MariaDB that this machine lacks."""
    return [name for name in TOOLS if not shutil.which(_tool(name))]


def _tool(name: str) -> str:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or name


def _ours(path: Path) -> Path | None:
    """The scratch folder of the cluster that wrote a configuration file; None for another's."""
    if not path.exists():
        return None
    first = path.read_text().partition("\n")[0]
    return Path(first.removeprefix(MARK)) if first.startswith(MARK) else None


def _memory_cgroups() -> bool:
    """Whether we may limit memory by cgroup v1 (what v2 asks for, SLURM 22.05 asks of systemd)."""
    root = Path("/sys/fs/cgroup")
    try:
        for kind in ("memory", "freezer"):
            probe = root / kind / "xstilts-probe"
            probe.mkdir()
            usable = (probe / "cgroup.procs").exists()
            probe.rmdir()
            if not usable:
                return False
    except OSError:
        return False
    return True


def _remove_cgroups() -> None:
    """Take away the empty control groups that our slurmds left."""
    for top in Path("/sys/fs/cgroup").glob("*/slurm*"):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError as error:
                print(f"{folder}: {error}", file=sys.stderr)


def _run(*command: str) -> None:
    done = _done(*command)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def _wait_for_answer(*command: str, seconds: float = 30) -> None:
    """Repeat a command until it succeeds; TimeoutError with what it said last."""
    end = time.monotonic() + seconds
    while (done := _done(*command)).returncode:
        if time.monotonic() > end:
            raise TimeoutError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        time.sleep(0.2)


def _output(*command: str) -> str:
    return _done(*command).stdout


def _done(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(words: list[str]) -> None:
    """Start, stop or show the cluster."""
    match words:
        case ["up", *scratch]:
            cluster = Cluster(Path(*scratch) if scratch else SCRATCH)
            begin = time.monotonic()
            cluster.up()
            print(f"up after {time.monotonic() - begin:.1f} s\n{cluster.status()}")
        case ["down"]:
            Cluster.down_any()
        case ["status"]:
            owner = _ours(ETC / "slurm.conf")
            print(Cluster(owner).status() if owner else "no cluster of ours")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
