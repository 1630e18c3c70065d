"""One driver for each results folder.

A driver holds an flock on `driver.json` for as long as it lives; the kernel drops it however the
driver dies. So a second driver is refused, and a lock that a killed one has left in Snakemake's own
folder is known to be stale.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from xstilts.artifacts.record import now
from xstilts.errors import InputError

FILE = "driver.json"
#: Tenths of a second in which another's look at the lock is over.
_PATIENCE = 10
#: Kept open until the process ends.
_held: dict[Path, TextIO] = {}


def hold(results: Path) -> bool:
    """Become the one driver of a results folder, until this process ends.

    Args:
        results: ``results/<study>``.

    Returns:
        False where the file system has no locks, so that nothing is known.

    Raises:
        InputError: If another driver lives; it says which.
    """
    path = results / FILE
    results.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        _lock(file)
    except BlockingIOError:
        raise _refused(path) from None
    except OSError as error:
        print(f"{path}: this file system has no locks ({error})", file=sys.stderr)
        return False
    _held[results] = file
    own = {"host": platform.node(), "pid": os.getpid(), "started": now(), "arguments": sys.argv}
    file.truncate(0)
    file.write(json.dumps(own))
    file.flush()
    return True


def _lock(file: TextIO) -> None:
    """Lock a file; who only looks whether it is locked holds it for an instant."""
    for _ in range(_PATIENCE):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.1)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def forget_the_dead(results: Path) -> None:
    """Remove the locks that a killed driver has left in Snakemake's folder.

    To be called while the folder is held: whoever made them would hold it.
    """
    for lock in (results / ".snakemake" / "locks").glob("*.lock"):
        print(f"{lock}: of a driver that was killed; removed", file=sys.stderr)
        lock.unlink(missing_ok=True)


def release(results: Path) -> None:
    """Stop being the driver before this process ends."""
    if results in _held:
        _held.pop(results).close()


def lives(results: Path) -> bool | None:
    """Whether a driver holds a results folder now; None where that cannot be told.

    That is where there is no `driver.json`, or the file system has no locks.
    """
    try:
        with (results / FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it has just begun to write
        return {}
    return content


def _refused(path: Path) -> InputError:
    who = _read(path)
    return InputError(
        str(path),
        "another snakemake is running this study",
        found=f"process {who.get('pid', '?')} on {who.get('host', '?')} "
        f"since {who.get('started', '?')}",
        hint="Wait for it, or stop it there (Ctrl-C); `xstilts status` says how far it is",
    )
