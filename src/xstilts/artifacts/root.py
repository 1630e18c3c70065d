"""`root.json`: the root manifest of a finished study, over the manifests and records of it all.

A manifest holds its inputs' manifests by their sha256, so most changes show further down. What
nothing stands on, the report, the tables, the indexes of bundles, and the records beside the
manifests are held by this file alone. A driver writes it when everything is made; the same
artifacts give the same bytes. It holds no time, so that a signature stays valid as long as they do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.publish import fsync
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.spec import canonical, sha256_text
from xstilts.errors import InputError, OtherVersion

if TYPE_CHECKING:
    from xstilts.session import Session

#: The root manifest, and its signature, in a results folder.
ROOT, SIGNATURE = "root.json", "root.json.sig"
VERSION = 1


@dataclass(frozen=True)
class Root:
    """The content of a `root.json`.

    Attributes:
        study: Name of the study.
        content: The study, as its file and the command line gave it.
        files: Sha256 of the files that it names: its lock, its registry rows.
        artifacts: Sha256 of each artifact's `manifest` and `provenance`, by its folder.
    """

    study: str
    content: Mapping[str, Any]
    files: Mapping[str, str]
    artifacts: Mapping[str, Mapping[str, str]]

    def to_json(self) -> str:
        """The text of the file: indented, keys sorted, ends with a newline."""
        own = asdict(self)
        content = {"version": VERSION, "sha256": sha256_text(canonical(own)), **own}
        return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def describe(results: Path, outs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Sha256 of the manifests and records of artifacts that are there.

    Args:
        results: The results folder.
        outs: Folders of artifacts.
    """
    found = {}
    for out in sorted(outs):
        files = {"manifest": results / out / MANIFEST, "provenance": results / out / PROVENANCE}
        if files["manifest"].is_file():
            found[out] = {name: sha256_file(path) for name, path in files.items() if path.is_file()}
    return found


def root_of(session: Session) -> Root:
    """The root manifest of a study, from what lies in its results folder."""
    named = [session.lock_path, *(session.root / path for path in session.study.registry)]
    files = {
        os.path.relpath(path, session.root): sha256_file(path) for path in named if path.is_file()
    }
    plan = session.plan
    artifacts = describe(session.results, (*plan.jobs, *plan.bundles))
    return Root(session.study.study, session.content, files, artifacts)


def mend_root(results: Path, root: Root) -> None:
    """Write the root manifest of a finished study that has lost it, or got new manifests since.

    A run that was killed just before its end leaves it so. Records that differ stay a finding.
    """
    try:
        known = read_root(results)
    except InputError:
        known = None
    if known is None or _manifests(known) != _manifests(root):
        write_root(results, root)


def _manifests(root: Root) -> dict[str, str | None]:
    return {out: files.get("manifest") for out, files in root.artifacts.items()}


def write_root(results: Path, root: Root) -> None:
    """Write `root.json` in one step, unless it says the same already."""
    path, text = results / ROOT, root.to_json()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    draft = path.with_name(f".{ROOT}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    fsync(draft)
    draft.replace(path)


def read_root(results: Path) -> Root | None:
    """Read a results folder's root manifest; None where there is none.

    Raises:
        InputError: If it is damaged.
        OtherVersion: If it is of another version.
    """
    path = results / ROOT
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(str(path), f"is no root manifest ({error})", hint=_AGAIN) from error
    version = content.pop("version", None) if isinstance(content, dict) else None
    if version != VERSION:
        raise OtherVersion(str(path), VERSION, version, _AGAIN)
    if content.pop("sha256", None) != sha256_text(canonical(content)):
        raise InputError(str(path), "does not match its own sha256", hint=_AGAIN)
    try:
        return Root(**content)
    except TypeError as error:
        raise InputError(str(path), f"is no root manifest ({error})", hint=_AGAIN) from error


_AGAIN = "Run snakemake again: it writes this file when everything is made"
