"""A study for an archive: a folder or a tar that `xstilts audit verify` accepts anywhere.

It is a results folder: manifests, records, root manifest, signature, and the files of the
artifacts. Weights and data are left out unless asked for; `references.json` lists them with size
and sha256, as `<artifact>/<file>`. `sources/` holds files of the repository. The same study gives
the same bytes: members stand in order, their times are those of the records.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

import xstilts
from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.root import ROOT, SIGNATURE
from xstilts.audit.finished import Finished
from xstilts.audit.results import REFERENCES, SOURCES, Artifact
from xstilts.errors import InputError

#: Stages whose checkpoints are large; everything beside the weights themselves is small.
_WEIGHTS = ("pretrain", "intermediate", "finetune", "merge", "fetch_model", "fetch_translator")
_WEIGHT_FILES = (".safetensors", ".bin")
#: Stages of data, of which JSON is no rows but an account of them.
_DATA = ("prepare", "translate", "tokens", "prompts", "testset")
#: Roles of the prepared rows that a score is made from.
_GOLD = ("gold", "pool")
#: Of the repository: what runs a study, and the versions that it ran with.
_REPOSITORY = ("Snakefile", "workflow/rules/*", "workflow/schemas/*", "envs/*.lock.txt")


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    Attributes:
        name: Its path in the archive.
        source: The file that it is a copy of, or its bytes.
        size: In bytes.
        sha256: What its bytes must be; empty where nothing says so.
        time: Its time of change, in seconds since 1970.
    """

    name: str
    source: Path | bytes
    size: int
    sha256: str
    time: int

    def open(self) -> IO[bytes]:
        """Open it for reading."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


@dataclass(frozen=True)
class Archive:
    """What goes into an archive.

    Attributes:
        members: All files but `references.json`, in the order of their names.
        references: Size and sha256 of what is left out, by `<artifact>/<file>`.
        notes: What could not be had.
        time: Of the study's last artifact, in seconds since 1970.
    """

    members: tuple[Member, ...]
    references: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = ()
    time: int = 0

    @cached_property
    def all(self) -> list[Member]:
        """All members, with the list of what is left out."""
        text = json.dumps(self.references, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        listed = _member(REFERENCES, text.encode(), self.time)
        return sorted((*self.members, listed), key=lambda member: member.name)

    def summary(self) -> str:
        """What it holds and what it leaves out."""
        there, left = self.all, self.references.values()
        text = f"{len(there)} files, {_size(member.size for member in there)}"
        if left:
            text += f"; left out: {len(left)} files, {_size(row['size'] for row in left)}"
            text += f", listed in {REFERENCES}"
        return text


def _size(parts: Iterable[int]) -> str:
    return f"{sum(parts) / 1e6:,.1f} MB"


def collect(study: Finished, *, weights: bool = False, data: bool = False) -> Archive:
    """Say what of a study goes into an archive.

    Args:
        study: The study.
        weights: Whether weights go in.
        data: Whether the rows that scores are made from go in. Licences of data sets decide
            whether they may be passed on.
    """
    files = _Files(study, weights, data)
    members = [member for out, item in study.artifacts.items() for member in files.of(out, item)]
    time = _seconds(study.end)
    for name in (ROOT, SIGNATURE):
        if (path := study.results.path / name).is_file():
            members.append(_copy(name, path, time))
    found, notes = _sources(study, time)
    return Archive(_sorted([*members, *found]), files.left, tuple(notes), time)


def _sorted(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: member.name))


@dataclass
class _Files:
    """Sorts the files of artifacts into those that go in and those that are left out."""

    study: Finished
    weights: bool
    data: bool
    left: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def gold(self) -> set[str]:
        """Prepared rows that scores are made from."""
        scores = self.study.of("score").values()
        roles = [item.roles() for item in scores]
        return {out for names in roles for role in _GOLD for out in names.get(role, ())}

    def of(self, out: str, item: Artifact) -> Iterator[Member]:
        """The members of an artifact; what is left out is put down."""
        time = _seconds(self.study.ended(out))
        folder, known = self.study.results.path / out, self.study.root.artifacts[out]
        for name, key in ((MANIFEST, "manifest"), (PROVENANCE, "provenance")):
            if key in known:
                yield _copy(f"{out}/{name}", folder / name, time, known[key])
        files = item.manifest.files if item.manifest else {}
        for name, entry in sorted(files.items()):
            if self._is_left_out(item, name):
                self.left[f"{out}/{name}"] = {key: entry[key] for key in ("sha256", "size")}
            else:
                yield _copy(f"{out}/{name}", folder / name, time, entry["sha256"])

    def _is_left_out(self, item: Artifact, name: str) -> bool:
        suffix = PurePosixPath(name).suffix
        if item.stage in _WEIGHTS:
            return suffix in _WEIGHT_FILES and not self.weights
        if item.stage == "fetch":
            return True
        if item.stage in _DATA and suffix != ".json":
            return not (self.data and item.out in self.gold and name.startswith("test."))
        return False


def _copy(name: str, path: Path, time: int, sha256: str = "") -> Member:
    return Member(name, path, path.stat().st_size, sha256, time)


def _member(name: str, content: bytes, time: int) -> Member:
    return Member(name, content, len(content), "", time)


def _seconds(time: str | None) -> int:
    """A time of a record as a file has it; 0 where it is not known."""
    return int(datetime.fromisoformat(time).timestamp()) if time else 0


# ---- files of the repository


def repositories(study: Finished) -> list[Path]:
    """Where files of the repository may lie: above the results, here, and where the code is."""
    own = Path(xstilts.__file__).resolve().parents[2]
    return list(dict.fromkeys([*study.results.path.parents[1:3], Path.cwd(), own]))


def _sources(study: Finished, time: int) -> tuple[list[Member], list[str]]:
    """Files of the repository, and notes on those that were not found.

    What the root manifest lists must have the bytes that it says; the rest is as it is now.
    """
    places, found, notes = repositories(study), {}, []
    for name, sha256 in study.root.files.items():
        path = next((place / name for place in places if _is(place / name, sha256)), None)
        if path is None:
            notes.append(f"{name}: not found with the recorded sha256 {sha256}")
        else:
            found[_below(name)] = _copy(f"{SOURCES}/{_below(name)}", path, time, sha256)
    home = next((place for place in places if (place / "Snakefile").is_file()), None)
    if home is None:
        notes.append("Snakefile: not found; run this in the repository that made the results")
    for path in (path for pattern in _REPOSITORY for path in home.glob(pattern)) if home else ():
        name = path.relative_to(home).as_posix() if home else ""
        if path.is_file():
            found.setdefault(name, _copy(f"{SOURCES}/{name}", path, time))
    text = _README.format(study=study.root.study, references=REFERENCES, sources=SOURCES)
    return [*found.values(), _member(f"{SOURCES}/README.txt", text.encode(), time)], notes


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


def _below(name: str) -> str:
    """A path of the root manifest as a path below `sources/`."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("..", "/"))


_README = """\
Results of the study {study}, made with xstilts.

root.json lists the sha256 of every artifact's manifest.json, which lists the sha256 of its files
and the manifests that it was made from. {references} lists files that are left out.

    xstilts audit verify FOLDER

checks all of it, here or in the unpacked archive; so does, file by file,

    sha256sum FILE

{sources}/ holds files of the repository. The lock and the registry files have the sha256 that
root.json lists under "files"; the others are those that lay there when this was written. The
commit that made an artifact stands in its provenance.json.
"""


# ---- writing


def write_folder(archive: Archive, folder: Path) -> None:
    """Write an archive into an empty folder.

    Raises:
        InputError: If a file has other bytes than its manifest says.
    """
    for member in archive.all:
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Checked(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.utime(path, (member.time, member.time))


def write_tar(archive: Archive, path: Path, top: str, *, packed: bool) -> None:
    """Write an archive as a tar file.

    Args:
        archive: What goes in.
        path: The file.
        top: Name of the one folder that everything lies in.
        packed: Whether gzip packs it.

    Raises:
        InputError: If a file has other bytes than its manifest says.
    """
    with ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("wb"))
        if packed:
            # Without name and time of its own, the same content gives the same bytes.
            zipped = gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0)
            raw = stack.enter_context(zipped)
        tar = stack.enter_context(tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT))
        for member in archive.all:
            info = tarfile.TarInfo(f"{top}/{member.name}")
            info.size, info.mtime, info.mode = member.size, member.time, 0o644
            with _Checked(member) as source:
                tar.addfile(info, source)


class _Checked(io.RawIOBase):
    """A member as it is read; its bytes are compared when it is closed without an error."""

    def __init__(self, member: Member) -> None:
        self._member, self._file, self._sha256 = member, member.open(), hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        content = self._file.read(size)
        self._sha256.update(content)
        return content

    def __exit__(self, kind: object, *rest: object) -> None:
        self._file.close()
        expected = self._member.sha256
        if kind is None and expected and (found := self._sha256.hexdigest()) != expected:
            raise InputError(
                self._member.name,
                "has other bytes than in its manifest",
                expected=f"sha256 {expected}",
                found=found,
                hint="`xstilts audit verify` lists all such files",
            )
