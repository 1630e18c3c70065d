"""Whether values of manifests and records are of the kinds that everything takes them for."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, Manifest, read_manifest
from xstilts.errors import InputError

#: Kinds of the values of a record; of keys that are not here, any.
_RECORD: Mapping[str, Any] = {
    **dict.fromkeys(("git", "versions", "environment", "device"), dict),
    **dict.fromkeys(("attempts", "taken"), list),
    "peak_bytes": int,
}
#: Kinds of the values in them.
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "git": {"commit": str | None, "dirty": bool | None},
    "environment": {"kind": str, "prefix": str, "image": str, "labels": dict},
    "device": {"gpu": str, "platform": str},
}


def read_safely(folder: Path) -> Manifest:
    """Read an artifact's manifest, whatever stands in its place.

    Args:
        folder: The artifact's folder.

    Raises:
        InputError: If it cannot be used: also where it is no plain file, or holds values of other
            kinds than a manifest does.
    """
    path = folder / MANIFEST
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would be waited for
            raise InputError(str(path), "is no plain file")
        manifest = read_manifest(folder)
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(str(path), f"is no manifest ({error})") from error
    if problem := _problem(manifest):
        raise InputError(str(path), f"is no manifest: {problem}")
    return manifest


def record_of(content: object) -> dict[str, Any]:
    """A record of an artifact's making, as far as its values are of the kinds that they must be.

    No manifest vouches for a record. What stands in it is used only to tell more, so what is of
    another kind is left out.

    Args:
        content: The content of a `provenance.json`.
    """
    record = _only(content, _RECORD) if isinstance(content, dict) else {}
    for part, kinds in _PARTS.items():
        if part in record:
            record[part] = _only(record[part], kinds)
    if "versions" in record:
        known = record["versions"].items()
        record["versions"] = {name: text for name, text in known if isinstance(text, str)}
    for key in ("attempts", "taken"):
        if key in record:
            record[key] = [entry for entry in record[key] if isinstance(entry, dict)]
    return record


def _only(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in values.items() if isinstance(one, kinds.get(key, object))}


def _problem(manifest: Manifest) -> str:
    """The first key whose value is of another kind than in any manifest that was written."""
    spec, inputs = manifest.spec, manifest.inputs
    tests = {
        "artifact": isinstance(manifest.artifact, str) and bool(manifest.artifact),
        "spec": isinstance(spec, dict) and isinstance(spec.get("inputs", {}), dict),
        "inputs": _is_texts(inputs),
        "files": isinstance(manifest.files, dict) and all(map(_is_file, manifest.files.values())),
    }
    for key, holds in tests.items():
        if not holds:
            return f"`{key}` is not of the kind that it must be"
    if not all(map(_is_names, spec.get("inputs", {}).values())):
        return "`spec.inputs` names something that is no path"
    if "members" in spec and not _is_texts(spec["members"]):
        return "`spec.members` is not of the kind that it must be"
    return ""


def _is_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _is_names(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(name, str) for name in value)
    return isinstance(value, str)


def _is_file(value: Any) -> bool:
    """Whether it is the entry of a file: its size and its sha256."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("sha256"), str)
        and type(value.get("size")) is int
        and value["size"] >= 0
    )
