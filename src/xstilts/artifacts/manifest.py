"""`manifest.json`: what an artifact is, what it was made from, and the sha256 of its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts.artifacts.spec import Spec, canonical, spec_sha256
from xstilts.errors import InputError, OtherVersion

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """The content of a `manifest.json`.

    Attributes:
        artifact: Path of the artifact below the results folder, its readable name.
        spec: Everything that decided its bytes.
        inputs: Sha256 of each input artifact's manifest, by the input's path.
        files: ``{"size": bytes, "sha256": hex}`` by file name.
    """

    artifact: str
    spec: Spec
    inputs: dict[str, str]
    files: dict[str, dict[str, Any]]

    def to_json(self) -> str:
        """The text of the file: indented, keys sorted, ends with a newline."""
        content = {
            "version": VERSION,
            "artifact": self.artifact,
            "spec": self.spec,
            "spec_sha256": spec_sha256(self.spec),
            "inputs": self.inputs,
            "files": self.files,
        }
        return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def is_inside(name: str) -> bool:
    """Whether a path names something below the folder that it starts at, in its plainest form."""
    return "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file below a folder, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in paths
    }


def read_manifest(folder: Path) -> Manifest:
    """Read an artifact's manifest.

    Raises:
        InputError: If it is missing, no JSON, no manifest, or its spec was changed.
        OtherVersion: If it is of another version, whose keys may be others.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            str(path), "the artifact is missing", hint="Run snakemake to make it"
        ) from error
    except ValueError as error:
        raise InputError(str(path), f"is no JSON ({error})", hint=_REMAKE) from error
    if isinstance(content, dict) and content.get("version", VERSION) != VERSION:
        raise OtherVersion(str(path), VERSION, content["version"], _REMAKE)
    keys = {"version", "artifact", "spec", "spec_sha256", "inputs", "files"}
    if not isinstance(content, dict) or keys - content.keys():
        raise InputError(
            str(path),
            "is no manifest",
            expected=f"the keys {', '.join(sorted(keys))}",
            hint=_REMAKE,
        )
    if spec_sha256(content["spec"]) != content["spec_sha256"]:
        raise InputError(str(path), "the spec does not match its own sha256", hint=_REMAKE)
    return Manifest(content["artifact"], content["spec"], content["inputs"], content["files"])


def check_file(folder: Path, name: str) -> Path:
    """Path of an artifact's file, after checking that its bytes are those of the manifest.

    Raises:
        InputError: If the file is not listed, is missing, or has other bytes.
    """
    manifest = read_manifest(folder)
    path = folder / name
    if name not in manifest.files:
        raise InputError(str(folder / MANIFEST), f"lists no file {name!r}", hint=_REMAKE)
    if not path.is_file():
        raise InputError(str(path), "the file is missing", hint=_REMAKE)
    known = manifest.files[name]
    size = path.stat().st_size
    if size != known["size"]:
        raise InputError(
            str(path),
            "has another size than in its manifest",
            expected=f"{known['size']} bytes",
            found=f"{size} bytes",
            hint=_REMAKE,
        )
    if (found := sha256_file(path)) != known["sha256"]:
        raise InputError(
            str(path),
            "has other bytes than in its manifest",
            expected=f"sha256 {known['sha256']}",
            found=found,
            hint=_REMAKE,
        )
    return path


_REMAKE = "Delete the artifact's folder and run snakemake again"

__all__ = [
    "MANIFEST",
    "Manifest",
    "canonical",
    "check_file",
    "describe_files",
    "is_inside",
    "read_manifest",
    "sha256_file",
]
