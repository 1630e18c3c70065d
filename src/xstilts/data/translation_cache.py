"""Finished translations of one translator by their source, kept on disk from run to run.

A line is a batch: what was written whole is used, a torn line is translated again. Every process
writes a file of its own, so two of them cannot tear each other's lines.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from xstilts.artifacts.publish import fsync
from xstilts.artifacts.spec import sha256_text
from xstilts.errors import InputError


class Translation(NamedTuple):
    """A translation, and whether it was cut at the length limit."""

    text: str
    is_cut: bool


class TranslationCache:
    """Translations by source text; what earlier processes wrote is read at the start.

    Args:
        folder: Where its files are; made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, Translation] = {}
        for path in sorted(folder.glob("*.jsonl")):
            self._read(path)
        own = f"{time.time_ns()}-{platform.node()}-{os.getpid()}.jsonl"
        self._path = folder / own

    def _read(self, path: Path) -> None:
        for line in path.read_bytes().split(b"\n"):
            digest, _, body = line.decode("utf-8", errors="replace").partition(" ")
            if body and sha256_text(body) == digest:
                for source, text, is_cut in json.loads(body):
                    self.known.setdefault(source, Translation(text, is_cut))

    def add(self, batch: Mapping[str, Translation]) -> None:
        """Keep a batch; once this returns, it is on the disk.

        Raises:
            InputError: If it cannot be written.
        """
        body = json.dumps([[source, *found] for source, found in batch.items()])
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{sha256_text(body)} {body}\n")
            fsync(self._path)
        except OSError as error:
            raise InputError(
                str(self._path),
                f"cannot be written ({error.strerror})",
                hint="Make room or get write access, then run again: what is done is kept",
            ) from error
        self.known.update(batch)
