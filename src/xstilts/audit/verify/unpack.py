"""An archive of a results folder, unpacked beside it, and what it keeps by reference only."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xstilts.audit.findings import Finding
from xstilts.audit.results import REFERENCES
from xstilts.audit.verify.chain import Chain


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[Path, list[Finding]]]:
    """Unpack an archive into a folder that is removed again; a folder is left where it is.

    Args:
        path: A folder, or a `.tar` with any compression that Python knows.

    Yields:
        The folder, and what of the archive could not be unpacked.
    """
    if not (path.is_file() and tarfile.is_tarfile(path)):
        yield path, []
        return
    with TemporaryDirectory(prefix="xstilts-verify-") as scratch:
        home = Path(scratch) / "unpacked"
        home.mkdir()
        findings = _extract(path, home)
        yield _top(home), findings


def _extract(path: Path, home: Path) -> list[Finding]:
    """Unpack what stays inside; devices, and what leads out, are findings."""
    found = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                try:
                    archive.extract(member, home, filter="data")
                except tarfile.FilterError as error:
                    found.append(Finding(member.name, "outside", f"is not unpacked ({error})"))
                except OSError as error:
                    why = f"cannot be unpacked ({error.strerror or error})"
                    found.append(Finding(member.name, "unreadable", why))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        found.append(Finding(path.name, "unreadable", f"the archive is damaged ({error})"))
    return found


def _top(home: Path) -> Path:
    """The results folder in what was unpacked: it, or the one folder that it holds."""
    entries = list(home.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        return entries[0]
    return home


def references(results: Path, chain: Chain) -> tuple[dict[str, int], list[Finding]]:
    """Files that an archive does not hold, but names by size and sha256.

    Args:
        results: The unpacked archive, or any results folder.
        chain: Its manifests.

    Returns:
        Sizes in bytes by path, of those that are as their manifests say; and what is wrong with
        the others.
    """
    path = results / REFERENCES
    if path.is_symlink() or not path.is_file():
        return {}, []
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return {}, [Finding(REFERENCES, "manifest", f"is no JSON ({error})")]
    if not isinstance(content, dict):
        return {}, [Finding(REFERENCES, "manifest", "is no list of references")]
    found, wrong = {}, []
    for name, entry in content.items():
        listed = _listed(name, chain)
        if listed is not None and _is_same(entry, listed):
            found[name] = int(listed["size"])
        else:
            text = f"what {REFERENCES} says of it is not what its manifest says"
            wrong.append(Finding(name, "manifest", text, str(listed), str(entry)))
    return found, wrong


def _listed(name: str, chain: Chain) -> dict[str, Any] | None:
    """What the manifest of its artifact says of a file."""
    out = chain.listing.above(name, chain.artifacts)
    manifest = chain.artifacts[out].manifest if out else None
    return manifest.files.get(name[len(out or "") + 1 :]) if manifest else None


def _is_same(entry: object, listed: dict[str, Any]) -> bool:
    return isinstance(entry, dict) and all(
        entry.get(key) == listed[key] for key in ("size", "sha256")
    )
