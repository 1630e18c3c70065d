"""Publishing: an artifact appears whole or not at all."""

from __future__ import annotations

import errno
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files, sha256_file
from xstilts.artifacts.record import Record
from xstilts.artifacts.spec import Spec
from xstilts.errors import InputError


@dataclass
class Draft:
    """An artifact while it is written.

    Attributes:
        folder: Where to write its files.
        record: What is known of its making.
    """

    folder: Path
    record: Record = field(default_factory=Record)


def input_manifests(spec: Spec) -> dict[str, str]:
    """Sha256 of the manifest of every input that a spec names, by the input's path.

    Raises:
        InputError: If an input is missing.
    """
    found: dict[str, str] = {}
    for value in spec.get("inputs", {}).values():
        for name in [value] if isinstance(value, str) else value:
            path = Path(name) / MANIFEST
            if not path.exists():
                raise InputError(str(path), "an input is missing", hint="Run snakemake to make it")
            found[name] = sha256_file(path)
    return found


@contextmanager
def publishing(out: Path, spec: Spec, record: Record | None = None) -> Iterator[Draft]:
    """Write an artifact beside its place, then move it there in one rename.

    A failure leaves what stood at ``out`` as it was. The files and the folder are synced to disk
    before the rename, so a power cut leaves a whole artifact; where it comes just as the old one
    has been moved away, it leaves none.

    Args:
        out: The artifact's folder, relative to the results folder; its name in the manifest.
        spec: Everything that decides the bytes; ``spec["inputs"]`` names the input artifacts.
        record: The record to write beside the manifest.

    Yields:
        The draft: write files below ``draft.folder``.
    """
    inputs = input_manifests(spec)
    _remove_abandoned(out)
    draft_folder = out.parent / f".{out.name}.{host_name()}.{os.getpid()}.tmp"
    draft_folder.mkdir(parents=True)
    draft = Draft(draft_folder, record or Record())
    try:
        yield draft
        manifest = Manifest(out.as_posix(), spec, inputs, describe_files(draft_folder))
        (draft_folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        draft.record.write(draft_folder)
        _sync(draft_folder)
        replace(draft_folder, out)
    finally:
        shutil.rmtree(draft_folder, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        fsync(path)


def fsync(path: Path) -> None:
    """Sync a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def host_name() -> str:
    """Name of this machine, as it stands in the names of drafts."""
    return platform.node().partition(".")[0] or "localhost"


def _remove_abandoned(out: Path) -> None:
    """Remove drafts of this artifact that killed processes of this machine left behind."""
    for path in out.parent.glob(f".{out.name}.{host_name()}.*"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and path.suffix in (".tmp", ".old") and not is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether another process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def replace(new: Path, place: Path) -> None:
    """Put a folder in a place, and what stands there out of the way; back again if that fails."""
    old = new.with_suffix(".old")
    while True:
        with suppress(FileNotFoundError):
            place.rename(old)
        try:
            new.rename(place)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                shutil.rmtree(old, ignore_errors=True)  # another process was faster: replace its
                continue
            if old.exists():
                old.rename(place)
            raise
        break
    fsync(place.parent)
    shutil.rmtree(old, ignore_errors=True)
