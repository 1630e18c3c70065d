"""Sha256 of many files, as fast as they can be read: several threads, large files first."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

#: Bytes read at once; hashlib gives the interpreter's lock back while it works on them.
_BLOCK = 1 << 20
#: Seconds between two lines of progress: on a terminal, which they overwrite, and in a log.
_OFTEN, _SELDOM = 0.5, 15.0


@dataclass(frozen=True)
class Digest:
    """What hashing a file gave.

    Attributes:
        sha256: Hex; empty where the file could not be read.
        size: Bytes read.
        error: Why it could not be read.
    """

    sha256: str
    size: int
    error: str = ""


def threads_here() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def hash_files(
    sizes: Mapping[Path, int], threads: int | None = None, tell: bool = False
) -> dict[Path, Digest]:
    """Hash files in parallel.

    No link is followed, and nothing but a plain file is opened for longer than it takes to see
    that: a FIFO holds nothing up.

    Args:
        sizes: The files, with their sizes in bytes; the largest are begun first, so that no
            thread is left alone with one at the end.
        threads: How many; None for one per CPU.
        tell: Whether to write progress on standard error.

    Returns:
        A digest for each file.
    """
    found: dict[Path, Digest] = {}
    order = sorted(sizes, key=lambda path: (-sizes[path], str(path)))
    progress = _Progress(sum(sizes.values()), tell)
    local = threading.local()

    def work(path: Path) -> None:
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(_BLOCK)
        found[path] = _hash(path, local.buffer, progress.add)

    with ThreadPoolExecutor(threads or threads_here()) as pool:
        waiting = {pool.submit(work, path) for path in order}
        while waiting:
            done, waiting = wait(waiting, timeout=_OFTEN)
            progress.show()
            for future in done:
                future.result()  # an error of the program is not to be lost
    progress.end()
    return found


def _hash(path: Path, buffer: bytearray, add: Callable[[int], None]) -> Digest:
    try:
        # Not to wait for a writer of a FIFO, nor to follow a link that was put there just now.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return Digest("", 0, error.strerror or str(error))
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return Digest("", 0, "it is no plain file")
        return Digest(*_read(file, buffer, add))
    except OSError as error:
        return Digest("", 0, error.strerror or str(error))
    finally:
        os.close(file)


def _read(file: int, buffer: bytearray, add: Callable[[int], None]) -> tuple[str, int]:
    """Hex sha256 and size of an open file."""
    digest, view, size = hashlib.sha256(), memoryview(buffer), 0
    while count := os.readv(file, [view]):
        digest.update(view[:count])
        add(count)
        size += count
    return digest.hexdigest(), size


class _Progress:
    """Bytes read so far, on standard error: one line that changes, or a line now and then."""

    def __init__(self, total: int, tell: bool) -> None:
        self.total, self.tell, self.done = total, tell, 0
        self.start = self.last = time.monotonic()
        self.terminal, self.shown = sys.stderr.isatty(), False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.done += count

    def show(self) -> None:
        now = time.monotonic()
        if not self.tell or now - self.last < (_OFTEN if self.terminal else _SELDOM):
            return
        self.last, self.shown = now, True
        rate = self.done / (now - self.start)
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate else ""
        text = f"{self.done / 1e9:.1f} of {self.total / 1e9:.1f} GB hashed, "
        text += f"{rate / 1e9:.2f} GB/s  {left}"
        print(f"\r{text:<70}" if self.terminal else text, end="" if self.terminal else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    def end(self) -> None:
        if self.shown and self.terminal:
            print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)
