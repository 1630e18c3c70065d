"""Daemons started by hand: each has a pid file, and can be stopped by another process.

A pid file holds the pid and the moment the process started (field 22 of /proc/PID/stat), so that
a process that later got the same pid is never taken for it.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

#: Kept, so that a daemon that ended is reaped by poll() and not left as a zombie.
_CHILDREN: list[subprocess.Popen[bytes]] = []


def start(folder: Path, name: str, command: Sequence[str], env: Mapping[str, str] = {}) -> None:
    """Start a daemon in its own session, its output in `log/NAME.out`, its pid in `pids/NAME`."""
    stop(folder, name)
    with (folder / "log" / f"{name}.out").open("ab") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            cwd="/",
            start_new_session=True,  # a Ctrl-C in the terminal is not for it
        )
    _CHILDREN.append(child)
    (folder / "pids").mkdir(exist_ok=True)
    (folder / "pids" / name).write_text(f"{child.pid} {_born(child.pid)}")


def running(folder: Path, name: str) -> int | None:
    """The pid of a daemon, None when it does not run."""
    for child in _CHILDREN:
        child.poll()
    try:
        pid, born = (folder / "pids" / name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _born(int(pid)) == born else None


def stop(folder: Path, name: str, how: int = signal.SIGTERM, seconds: float = 10) -> None:
    """Stop a daemon: a signal, then SIGKILL; returns when it is gone."""
    for each in (how, signal.SIGKILL):
        pid = running(folder, name)
        if pid is not None:
            kill([pid], each)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: running(folder, name) is None, seconds, f"the end of {name}")
    (folder / "pids" / name).unlink(missing_ok=True)


def kill(pids: Sequence[int], how: int = signal.SIGKILL) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _born(pid) is not None


def marked(mark: str) -> list[int]:
    """Processes with `mark` (`NAME=value`) in their environment, and all that descends of them."""
    return _family(lambda entry: mark.encode() in (entry / "environ").read_bytes().split(b"\0"))


def holding(file: Path) -> list[int]:
    """Processes that have a file open, and all that descends of them."""
    return _family(lambda entry: any(fd.readlink() == file for fd in (entry / "fd").iterdir()))


def _family(belongs: Callable[[Path], bool]) -> list[int]:
    """Processes of which `belongs(/proc/PID)` is true, and all that descends of them."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                state, parent = _stat(int(entry.name))[:2]
                if state not in "ZX":
                    parents[int(entry.name)] = int(parent)
                    found += [int(entry.name)] if belongs(entry) else []
    for pid in found:  # grows while it is read
        found += [each for each, parent in parents.items() if parent == pid and each not in found]
    return found


def wait_for(what: Callable[[], object], seconds: float, name: str, pause: float = 0.1) -> None:
    """Wait until `what()` is true.

    Raises:
        TimeoutError: it did not become true; the message names `name`.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {name}")
        time.sleep(pause)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on (the second may hold blanks)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _born(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]
