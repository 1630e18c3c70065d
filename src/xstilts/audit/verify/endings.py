"""Whether a file breaks off: what files of its kind end with, or say of their own length."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

_TEXT = (".csv", ".jsonl", ".md", ".html", ".svg", ".js", ".css", ".txt", ".tsv", ".conllu")


def is_cut(path: Path) -> bool:
    """Whether a file ends before its own end; False where its bytes do not tell.

    Lines of text that are missing as a whole cannot be told from lines that never were.
    """
    size = path.stat().st_size
    if not size:
        return True
    if path.suffix in _TEXT:
        return _tail(path, 1) != b"\n"
    told = _FORMATS.get(path.suffix)
    return told is not None and told(path, size)


def _tail(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(count, path.stat().st_size), 2)
        return file.read()


def _json(path: Path, size: int) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        # What is broken within, and not at its end, is something else.
        return _tail(path, 2).strip()[-1:] not in (b"}", b"]")
    return False


def _parquet(path: Path, size: int) -> bool:
    return _tail(path, 4) != b"PAR1"


def _png(path: Path, size: int) -> bool:
    return _tail(path, 8)[:4] != b"IEND"


def _safetensors(path: Path, size: int) -> bool:
    """The header says where the last tensor ends."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length:
            return True
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
            return size < 8 + length + max(ends, default=0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return False


_FORMATS: dict[str, Callable[[Path, int], bool]] = {
    ".json": _json,
    ".parquet": _parquet,
    ".png": _png,
    ".safetensors": _safetensors,
}
