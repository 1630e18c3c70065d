"""`xstilts audit store`: add a study's artifacts to a shared store, check a store, list it."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from xstilts.artifacts.manifest import MANIFEST, Manifest, sha256_file
from xstilts.artifacts.publish import fsync, host_name
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.store import (
    AGAIN,
    UNUSABLE,
    Unusable,
    check_store,
    copy_files,
    files_of,
    place_of,
    read_stored,
    size_of,
)
from xstilts.audit.findings import Finding, faults
from xstilts.audit.results import Artifact, Results, locate
from xstilts.errors import InputError, OtherVersion
from xstilts.output import write_json


@dataclass(frozen=True)
class Stored:
    """An artifact in a store.

    Attributes:
        path: Its folder, below the store.
        artifact: Its name in a results folder.
        stage: Its stage.
        bytes: Size of its files.
        files: Number of its files.
    """

    path: str
    artifact: str
    stage: str
    bytes: int
    files: int

    @classmethod
    def of(cls, store: Path, place: Path, manifest: Manifest) -> Stored:
        """What a manifest says of an artifact."""
        size = sum(known["size"] for known in manifest.files.values())
        path, stage = place.relative_to(store).as_posix(), str(manifest.spec["stage"])
        return cls(path, manifest.artifact, stage, size, len(manifest.files))


def run(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: If there is no such store, or nothing to add.
        SystemExit: With status 1 if something does not hold.
    """
    store = Path(options.store).resolve()
    check_store(store, _MAKE)
    if bool(options.path) != (options.action == "add"):
        problem = "wants results folders or artifacts" if not options.path else "takes no PATH"
        raise InputError("PATH", f"`store {options.action}` {problem}")
    if options.action == "add":
        stored, findings = _add(store, options.path)
    else:
        stored, findings = _verify(store) if options.action == "verify" else _list(store)
    content = {
        "store": str(store),
        "artifacts": [asdict(one) for one in stored],
        "findings": [finding.content() for finding in findings],
    }
    write_json(options.json, content)
    if faults(findings):
        raise SystemExit(1)


#: Artifacts of a store, and what was found.
Found = tuple[list[Stored], list[Finding]]


# ---- add


def _add(store: Path, paths: Sequence[Path]) -> Found:
    """Add all artifacts of results folders, and single ones; indexes of bundles hold nothing."""
    _check_writable(store)
    added, findings, there = list[Stored](), list[Finding](), 0
    for results, artifact in _artifacts(paths):
        try:
            one = add(store, results, artifact)
        except UNUSABLE as error:
            findings.append(_finding(error, results.path, artifact.out))
            continue
        added += [one] if one else []
        there += one is None
    _tell(findings)
    size = sum(one.bytes for one in added) / 1e6
    refused = f"; {len(findings)} refused" if findings else ""
    print(f"{len(added)} artifacts added ({size:,.1f} MB), {there} were there already{refused}")
    return added, findings


def _artifacts(paths: Sequence[Path]) -> Iterator[tuple[Results, Artifact]]:
    """Artifacts of some places, all of which are looked at before the first is handed out."""
    for place in [locate(path) for path in paths]:
        found = [place.results.read(place.out)] if place.out else place.results.artifacts.values()
        yield from ((place.results, one) for one in found if not one.is_index)


def _check_writable(store: Path) -> None:
    from xstilts.cli import STAGES

    if not os.access(store, os.W_OK):
        raise InputError(str(store), "the store cannot be written by this user")
    for entry in os.scandir(store):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in STAGES:
            raise InputError(
                str(store),
                f"is no store: it holds a folder {entry.name!r}",
                expected="an empty folder, or folders named after stages",
                hint="The store comes first: xstilts audit store add STORE PATH",
            )


def add(store: Path, results: Results, artifact: Artifact) -> Stored | None:
    """Copy an artifact into a store, whole or not at all, unless the store has it.

    Several users may add at once: one of them is first, and the others leave its artifact alone.

    Args:
        store: The store.
        results: The results folder.
        artifact: An artifact of it.

    Returns:
        What was added; None if it was there.

    Raises:
        InputError: If the artifact is damaged, or a link stands in it.
        OSError: If it cannot be read, or the store not be written.
    """
    folder = results.path / artifact.out
    for name in (MANIFEST, PROVENANCE):
        size_of(folder, name)
    if artifact.manifest is None:
        raise artifact.error or Unusable(folder / MANIFEST, "cannot be used")
    if artifact.manifest.artifact != artifact.out:
        raise Unusable(folder / MANIFEST, "is not the manifest of its place")
    files_of(artifact.manifest, folder / MANIFEST)
    place = place_of(store, artifact.manifest)
    if os.path.lexists(place) or not _put(folder, artifact.manifest, store, place):
        return None
    return Stored.of(store, place, artifact.manifest)


def _put(folder: Path, manifest: Manifest, store: Path, place: Path) -> bool:
    """Copy an artifact beside its place, then move it there; False if another user was faster."""
    _make_folder(place.parent, store)
    draft = place.with_name(f".{place.name}.{host_name()}.{os.getpid()}.tmp")
    draft.mkdir()
    try:
        copy_files(folder, manifest, draft)
        (draft / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        shutil.copyfile(folder / PROVENANCE, draft / PROVENANCE)
        _settle(draft, store)
        draft.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    fsync(place.parent)
    return True


def _make_folder(folder: Path, store: Path) -> None:
    """Make a folder below the store, for whom the store is for, whatever the umask."""
    for path in (folder.parent, folder):
        if path.is_symlink():
            raise Unusable(path, "is a link, and links are not followed", "link")
        if not path.is_dir():
            path.mkdir(exist_ok=True)
            path.chmod(stat.S_IMODE(store.stat().st_mode))


def _settle(draft: Path, store: Path) -> None:
    """Give files and folders their modes, the store's own without writing for files, and sync."""
    mode = stat.S_IMODE(store.stat().st_mode)
    for path in [*draft.rglob("*"), draft]:
        path.chmod(mode if path.is_dir() else mode & 0o444)
        fsync(path)


# ---- verify and list

Damage = Callable[[Path, Manifest], Iterable[InputError]]


def _verify(store: Path) -> Found:
    """Hash every file of every artifact; say what is wrong and what does not belong there."""
    return _look(store, _damage)


def _list(store: Path) -> Found:
    """List the artifacts by stage and name, with the number of variants of each."""
    stored, findings = _look(store, lambda place, manifest: ())
    names: dict[tuple[str, str], list[int]] = {}
    for one in stored:
        names.setdefault((one.stage, one.artifact), []).append(one.bytes)
    for (stage, artifact), sizes in sorted(names.items()):
        print(f"{stage:<16} {len(sizes):>4} {sum(sizes) / 1e6:>12,.1f} MB  {artifact}")
    return stored, findings


def _look(store: Path, damage: Damage) -> Found:
    """Read every manifest, with as many threads as there are CPUs, and look for damage."""
    places, findings = _places(store)
    stored, bad = list[Stored](), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one, own in pool.map(partial(_checked, store, damage), places):
            stored += [one] if one else []
            findings += own
            bad += bool(own)
    _tell(findings)
    size = sum(one.bytes for one in stored) / 1e6
    damaged = f", {bad} of them damaged" if bad else ""
    print(f"{len(places)} artifacts ({size:,.1f} MB){damaged}")
    return stored, findings


def _checked(store: Path, damage: Damage, place: Path) -> tuple[Stored | None, list[Finding]]:
    """What is known of a stored artifact, and what is wrong with it."""
    name = place.relative_to(store).as_posix()
    try:
        manifest = read_stored(store, place)
        found = [_finding(error, store, name, AGAIN) for error in damage(place, manifest)]
    except UNUSABLE as error:
        return None, [_finding(error, store, name, AGAIN)]
    return Stored.of(store, place, manifest), found


def _damage(place: Path, manifest: Manifest) -> Iterator[InputError]:
    """Files of a stored artifact with other bytes, and files that its manifest does not list."""
    for name, known in manifest.files.items():
        if sha256_file(place / name) != known.get("sha256"):
            yield Unusable(place / name, "has other bytes than in its manifest", "changed")
    size_of(place, PROVENANCE)
    ours = {MANIFEST, PROVENANCE, *manifest.files}
    for path in sorted(place.rglob("*")):
        stands = path.is_symlink() or not path.is_dir()
        if stands and path.relative_to(place).as_posix() not in ours:
            yield Unusable(path, "no manifest lists it", "stranger")


def _places(store: Path) -> tuple[list[Path], list[Finding]]:
    """Folders of artifacts, and what else lies beside them.

    Beside the folders of the stages anything may lie, such as a README.
    """
    from xstilts.cli import STAGES

    places, findings = list[Path](), list[Finding]()
    for depth in ("*", "*/*"):
        for path in sorted(path for stage in STAGES for path in (store / stage).glob(depth)):
            name = path.relative_to(store).as_posix()
            if path.name.startswith("."):
                findings.append(Finding(name, "stranger", _DRAFT, level="note"))
            elif not path.is_dir():
                findings.append(Finding(name, "stranger", "is no folder of an artifact"))
            elif depth == "*/*":
                places.append(path)
    return places, findings


# ---- findings


def _finding(error: Exception, base: Path, name: str, hint: str | None = None) -> Finding:
    """A finding of what was raised over an artifact.

    Args:
        error: What was raised.
        base: The folder that paths start from.
        name: The artifact's folder below it.
        hint: What to do about damage.
    """
    if isinstance(error, InputError):
        kind = "version" if isinstance(error, OtherVersion) else "manifest"
        where = Path(error.where)
        path = where.relative_to(base).as_posix() if where.is_relative_to(base) else name
        problem = error.told.removeprefix(f"{error.where}: ")
        return Finding(path, getattr(error, "kind", kind), problem, hint=hint)
    if isinstance(error, OSError):
        problem = f"cannot be read or written ({error.strerror or error})"
        return Finding(name, "unreadable", problem, hint=None)
    return Finding(name, "manifest", f"cannot be used ({error!r})", hint=hint)


def _tell(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print(finding)


_MAKE = "A store is a folder with the mode that all in it is to have: mkdir -m 2775 FOLDER"
_DRAFT = "somebody adds it now, or was stopped while adding it"
