"""What would go wrong on this cluster, said before a job is submitted."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from xstilts.cluster.settings import Cluster
from xstilts.errors import InputError, nearest

#: Commands of SLURM that the driver and its executor call.
COMMANDS = ("sbatch", "squeue", "sinfo", "scontrol", "scancel")
#: Bytes that must find room in a folder: more than any log, less than anybody would miss.
_ROOM = 4 << 20
#: Seconds that a new file may take to be made, named and seen, and `latency-wait` for one above.
_SLOW, _PATIENT = 0.1, 60


def check_cluster(cluster: Cluster, where: str, gpus: bool) -> list[str]:
    """Compare the settings of a cluster with what SLURM says of itself.

    Args:
        cluster: The settings.
        where: Their file, for messages.
        gpus: Whether any job of the study asks for a GPU.

    Returns:
        Lines of advice: what may go wrong, but need not.

    Raises:
        InputError: If there is no SLURM here, or it knows no such partition, account or GPU.
    """
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise InputError(
                "PATH",
                f"there is no SLURM on this machine: no command {command!r}",
                hint="Run snakemake on a login node of the cluster, or with "
                "--workflow-profile workflow/profiles/local",
            )
    known = _partitions(where)
    for name in cluster.partitions:
        if name not in known:
            place = f"{where}: partitions.{name}"
            raise InputError(place, "SLURM has no such partition", hint=nearest(name, known))
    _check_times(cluster, where, known)
    if gpus:
        _check_gpus(cluster, where)
    _check_account(cluster, where)
    _check_accounting(where)
    return [
        f"{where}: partitions.{name}: jobs pre-empted there are cancelled, not put back into the "
        "queue: each time counts as one of the profile's `retries`"
        for name in cluster.partitions
        if known[name].get("PreemptMode") == "CANCEL"
    ]


def _partitions(where: str) -> dict[str, dict[str, str]]:
    """Fields of every partition, as `scontrol show partition` gives them."""
    lines = _ask(where, "scontrol", "show", "partition", "--oneliner").splitlines()
    found = (dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines)
    return {fields["PartitionName"]: fields for fields in found if "PartitionName" in fields}


def _check_times(cluster: Cluster, where: str, known: dict[str, dict[str, str]]) -> None:
    for name, partition in cluster.partitions.items():
        limit = minutes(known[name].get("MaxTime", "UNLIMITED"))
        if limit is not None and partition.max_runtime > limit:
            raise InputError(
                f"{where}: partitions.{name}.max_runtime",
                "is longer than SLURM allows there: such jobs would wait for ever",
                expected=f"at most {limit:g} minutes",
                found=f"{partition.max_runtime:g}",
            )


def minutes(text: str) -> float | None:
    """Minutes of SLURM's ``[days-]hours:minutes:seconds``; None for UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if found is None:
        return None
    days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


def _check_gpus(cluster: Cluster, where: str) -> None:
    """GPUs of the kind asked for must stand in one of the partitions."""
    names = ",".join(cluster.partitions)
    lines = _ask(where, "sinfo", "--noheader", "--partition", names, "--format", "%G").splitlines()
    there = {name for line in lines for name in gpu_kinds(line)}
    if cluster.gpu is None:
        return
    if not there:
        raise InputError(
            f"{where}: partitions",
            "SLURM says of none of them that it has GPUs",
            expected="a partition whose nodes have the generic resource gpu",
            found=", ".join(cluster.partitions),
        )
    if cluster.gpu not in there:
        raise InputError(
            f"{where}: gpu",
            f"none of the partitions has a GPU of the kind {cluster.gpu!r}",
            hint=nearest(cluster.gpu, there - {""}),
        )


def gpu_kinds(gres: str) -> set[str]:
    """Kinds of GPU in SLURM's list of generic resources; an empty name for one without kind."""
    entries = re.findall(r"gpu(?::([^:(),]+))?(?::(\d+))?", gres)
    return {"" if kind.isdecimal() else kind for kind, _ in entries}


def _check_account(cluster: Cluster, where: str) -> None:
    user = getpass.getuser()
    try:
        said = _ask(
            where,
            *("sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}"),
            "format=account",
        )
    except InputError:  # no accounting, so no accounts either
        return
    known = set(said.split())
    if cluster.account is not None and known and cluster.account.lower() not in known:
        raise InputError(
            f"{where}: account",
            f"SLURM knows no account {cluster.account!r} of user {user!r}",
            hint=nearest(cluster.account, known),
        )


def _check_accounting(where: str) -> None:
    """The driver learns from accounting how jobs have ended; without it, it would never know."""
    if shutil.which("sacct") is None:
        return  # the plugin asks squeue
    try:
        _ask(where, "sacct", "--noheader", "--allocations", "--starttime", "now")
    except InputError as error:
        raise InputError(
            "sacct",
            str(error),
            hint="If this cluster has no accounting, set `slurm-status-command: squeue` in "
            "workflow/profiles/slurm/profile.yaml",
        ) from error


def _ask(where: str, *command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError as error:
        raise InputError("PATH", f"no command {command[0]!r}") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(where, f"{command[0]} has not answered for two minutes") from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())[:200]
        hint = "SLURM's controller may be down: ask it with `scontrol ping`"
        raise InputError(where, f"{command[0]} fails ({said})", hint=hint) from error
    return done.stdout


# ---- folders


def check_folders(results: Path, latency_wait: int) -> list[str]:
    """See that the folders that jobs write to have room, and how fast they are.

    Args:
        results: ``results/<study>``.
        latency_wait: Seconds that Snakemake waits for the files of a finished job.

    Returns:
        Lines of advice.

    Raises:
        InputError: If nothing can be written to one of them.
    """
    keys = {
        "HOME": Path.home(),
        "XDG_CACHE_HOME": _named("XDG_CACHE_HOME"),
        "HF_HOME": _named("HF_HOME"),
        "TMPDIR": Path(tempfile.gettempdir()),
    }
    for key, folder in keys.items():
        if folder is not None:
            _check_room(folder, f"Make room there, or set {_instead(key)} to another folder")
    _check_room(results, "Make room there, or give the study another `results` folder")
    seconds = seconds_of_a_file(results)
    if seconds > _SLOW and latency_wait < _PATIENT:
        return [
            f"{results}: making a file and seeing it takes {seconds:.2f} s on this file system; "
            f"`latency-wait: {latency_wait}` of the profile may be too short: {_PATIENT} at least"
        ]
    return []


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _instead(key: str) -> str:
    return "XDG_CACHE_HOME and HF_HOME" if key == "HOME" else key


def _check_room(folder: Path, hint: str) -> None:
    """Really write: a quota shows in no other way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".xstilts-room-") as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        said = error.strerror or str(error)
        raise InputError(
            str(folder), f"nothing can be written there ({said})", hint=hint
        ) from error


def seconds_of_a_file(folder: Path, times: int = 9) -> float:
    """Median time in which a file is made, renamed and seen in its folder's list."""
    found = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".xstilts-speed-") as name:
        for number in range(times):
            start = time.perf_counter()
            draft = Path(name, f"{number}.tmp")
            draft.touch()
            draft.rename(Path(name, str(number)))
            os.listdir(name)
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def tell(lines: Iterable[str]) -> None:
    """Print lines of advice."""
    for line in lines:
        print(f"advice: {line}", file=sys.stderr)
