"""A store: a lab's common folder of artifacts, which studies take from and never write to.

An artifact lies in ``<store>/<stage>/<sha256 of its spec>/<key>/``. A spec names its inputs by
their paths, so only together with their manifests does it decide any bytes: the key is the sha256
over the artifact's name, its spec and the sha256 of its inputs' manifests. The name is part of it
because it stands in the manifest, and what is made from an artifact holds that manifest's sha256.
Under another name (a recipe called otherwise) it would have another manifest, and all that is made
from it another key: what is taken is taken under its own name, or not at all.

What is taken is the store's word: its bytes are checked against its own manifest, which whoever may
write there could have made up. `xstilts audit replay` makes an artifact again and compares.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files, is_inside, read_manifest
from xstilts.artifacts.publish import input_manifests, publishing
from xstilts.artifacts.record import PROVENANCE, Record, now
from xstilts.artifacts.spec import Spec, canonical, sha256_text, spec_sha256
from xstilts.errors import InputError

#: What is raised over an artifact that cannot be used: a folder of others may hold anything.
UNUSABLE = (InputError, OSError, ValueError, RecursionError)
_STAGE = re.compile(r"[a-z_]+")


class Unusable(InputError):
    """An artifact that may not be put into a store, or taken from one.

    Args:
        where: The file.
        problem: What is wrong with it.
        kind: The kind of finding that it is to an audit.
        known: What was expected and found.
    """

    def __init__(self, where: Path, problem: str, kind: str = "manifest", **known: str) -> None:
        super().__init__(str(where), problem, **known)
        self.kind = kind


def check_store(store: Path, hint: str | None = None) -> None:
    """See that a store can be read.

    Args:
        store: The store.
        hint: What to do where it cannot; by default, to look at the study's setting.

    Raises:
        InputError: If it is missing, is no folder, or may not be read.
    """
    if not store.is_dir():
        there = os.path.lexists(store)
        problem = "is no folder" if there else "the folder of the store does not exist"
        raise InputError(str(store), problem, hint=hint or _HINT)
    if not os.access(store, os.R_OK | os.X_OK):
        problem = "the store cannot be read by this user"
        raise InputError(str(store), problem, hint=hint or _HINT)


def place_of(store: Path, artifact: Manifest) -> Path:
    """Where an artifact lies in a store, by its name, its spec and its inputs.

    Raises:
        InputError: If its stage is no name.
    """
    stage = artifact.spec.get("stage")
    if not isinstance(stage, str) or not _STAGE.fullmatch(stage):
        raise Unusable(Path(artifact.artifact, MANIFEST), "names no stage", found=repr(stage))
    decides = {"artifact": artifact.artifact, "spec": artifact.spec, "inputs": artifact.inputs}
    return store / stage / spec_sha256(artifact.spec) / sha256_text(canonical(decides))


def read_stored(store: Path, place: Path) -> Manifest:
    """The manifest of a stored artifact, once it is sure that nothing in it leads outside.

    Args:
        store: The store.
        place: The artifact's folder in it.

    Raises:
        InputError: If the manifest is damaged, of a newer version, or not that of its place, if a
            link stands anywhere, or if a file is missing or of another size. Bytes are not read.
    """
    for path in (*_between(store, place.relative_to(store)), place, place / MANIFEST):
        _refuse_link(path)
    manifest = read_manifest(place)
    for name, known in files_of(manifest, place / MANIFEST).items():
        if (size := size_of(place, name)) != known["size"]:
            raise Unusable(
                place / name,
                "has another size than in its manifest",
                "truncated" if size < known["size"] else "changed",
                expected=f"{known['size']} bytes",
                found=f"{size} bytes",
            )
    if place_of(store, manifest) != place:
        raise Unusable(place / MANIFEST, "is not the manifest of its place")
    return manifest


def files_of(manifest: Manifest, where: Path) -> Mapping[str, Mapping[str, Any]]:
    """The files that a manifest of somebody else lists, if they may be used.

    Args:
        manifest: The manifest.
        where: Its file, for messages.

    Raises:
        InputError: If a name leads out of the artifact's folder, or an entry is none.
    """
    parts = (manifest.spec, manifest.inputs, manifest.files)
    if not all(isinstance(part, dict) for part in parts) or not isinstance(manifest.artifact, str):
        raise Unusable(where, "is no manifest")
    for name, known in manifest.files.items():
        if not is_inside(name) or name in (MANIFEST, PROVENANCE):
            raise Unusable(where, f"lists the file {name!r}, which no artifact has", "outside")
        if not isinstance(known, dict) or not isinstance(known.get("size"), int):
            raise Unusable(where, f"has no size and sha256 of {name!r}")
    return manifest.files


def take(out: Path, spec: Spec, store: Path) -> bool:
    """Publish an artifact from a store, if it holds just this one; what is unusable is told.

    Nothing is written to the store.

    Args:
        out: The artifact's folder, relative to the results folder.
        spec: What is to be made.
        store: The store.

    Returns:
        Whether the artifact is there.
    """
    label = f"{spec.get('stage', ''):<12} {out}"
    try:
        inputs = input_manifests(spec)
    except InputError:  # the stage says it in its own words
        return False
    try:
        place = place_of(store, Manifest(out.as_posix(), spec, inputs, {}))
        if not _is_there(store) or not os.path.lexists(place):
            return False
        _publish(out, spec, store, place)
    except UNUSABLE as error:
        why = f"{error.told}. {AGAIN}" if isinstance(error, InputError) else str(error)
        print(f"{label}  not taken from the store: {why}", file=sys.stderr, flush=True)
        return False
    print(f"{label}  taken from {store}", file=sys.stderr, flush=True)
    return True


@cache
def _is_there(store: Path) -> bool:
    """Whether this machine sees the store; said once, where it does not."""
    try:
        check_store(store)
    except InputError as error:
        print(f"nothing is taken from the store: {error}", file=sys.stderr, flush=True)
        return False
    return True


def _publish(out: Path, spec: Spec, store: Path, place: Path) -> None:
    manifest = read_stored(store, place)
    with publishing(out, spec, _Taken(place, store)) as draft:
        copy_files(place, manifest, draft.folder)


class _Taken(Record):
    """The record of an artifact's making, by whoever made it, and that it was taken from there."""

    def __init__(self, place: Path, store: Path) -> None:
        super().__init__()
        self.place, self.store = place, store

    def write(self, folder: Path) -> None:
        """Write `provenance.json` into a folder."""
        made = _record(self.place)
        taken = {"store": str(self.store), "at": now(), "host": platform.node()}
        content = {**made, "taken": [*made.get("taken", []), taken]}
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / PROVENANCE).write_text(text, encoding="utf-8")


def _record(place: Path) -> dict[str, Any]:
    """The record of a stored artifact; empty where it is none: no manifest vouches for it."""
    kinds = {"attempts": list, "versions": dict, "device": dict, "taken": list}
    try:
        _refuse_link(place / PROVENANCE)
        content = json.loads((place / PROVENANCE).read_text(encoding="utf-8"))
        if all(isinstance(content.get(key, kind()), kind) for key, kind in kinds.items()):
            return dict(content)
    except (*UNUSABLE, AttributeError):
        pass
    print(f"{place / PROVENANCE}: is no record, and is left out", file=sys.stderr, flush=True)
    return {}


def copy_files(place: Path, manifest: Manifest, folder: Path) -> None:
    """Copy the files that a manifest lists, and see that the copy has their bytes.

    Args:
        place: The artifact's folder.
        manifest: Its manifest.
        folder: An empty folder.

    Raises:
        InputError: If a copy has other bytes than in the manifest.
    """
    for name in files_of(manifest, place / MANIFEST):
        size_of(place, name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place / name, folder / name)
    found = describe_files(folder)
    for name, known in manifest.files.items():
        if found[name] != known:
            raise Unusable(
                place / name,
                "has other bytes than in its manifest",
                "changed",
                expected=f"sha256 {known.get('sha256')}",
                found=found[name]["sha256"],
            )


def size_of(place: Path, name: str) -> int:
    """Size of a file of an artifact.

    Args:
        place: The artifact's folder.
        name: The file's name below it.

    Raises:
        InputError: If it is missing, is a link or no file, or lies behind a link.
    """
    path = place / name
    for folder in _between(place, name):
        _refuse_link(folder)
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise Unusable(path, "the file is missing", "missing") from None
    _refuse_link(path)
    if not stat.S_ISREG(found.st_mode):
        raise Unusable(path, "is no file")
    return found.st_size


def _between(folder: Path, name: str | Path) -> Iterator[Path]:
    """Folders between a folder and a file below it."""
    return (folder / parent for parent in Path(name).parents if parent != Path())


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise Unusable(path, "is a link, and links are not followed", "link")


_HINT = "Check the setting `store` of the study or XSTILTS_STORE, or unset it to do without"
#: What to do about a damaged artifact in a store.
AGAIN = "Whoever keeps the store should remove the artifact's folder and add it again"
