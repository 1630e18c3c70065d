"""What lies in a results folder, who needs it, and what it weighs.

Nothing here changes a file. Links are never followed, and whatever cannot be told apart from the
files of a user is one of them.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from xstilts.artifacts.kept import FOLDER as KEPT
from xstilts.artifacts.manifest import MANIFEST, Manifest, read_manifest
from xstilts.artifacts.publish import host_name, is_alive
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.root import ROOT, SIGNATURE
from xstilts.artifacts.spec import canonical, sha256_text, spec_sha256
from xstilts.cluster.driver import FILE as DRIVER
from xstilts.cluster.driver import lives
from xstilts.errors import InputError
from xstilts.progress import PROGRESS

if TYPE_CHECKING:
    from xstilts.plan import Plan

STATE, LOGS, TRANSLATIONS, SNAKEMAKE = "state", "logs", "translations", ".snakemake"
#: Files of a results folder by other commands: what was planned, and rates measured there.
NOTES = ("plan.json", "calibration.json", ROOT, SIGNATURE)
#: Without a change for so long, what another machine was writing is abandoned (seconds).
ABANDONED = 86_400.0

#: Drafts of `publishing` and `keep`, and what `prune` has renamed before it removes it.
_DRAFT = re.compile(r"\..+?(?:\.(?P<host>[^.]+))?\.(?P<pid>\d+)\.(?:tmp|old|kept)")
_SPEC = re.compile(r"[0-9a-f]{16}")
_CACHE = re.compile(r"[0-9a-f]{32}")
_PREDICTIONS = re.compile(r"[^/]+-[0-9a-f]{32}\.(?:jsonl|sha256)")
#: Scratch files of a running sweep over hidden states, and of the checks at a driver's start.
_SCRATCH = re.compile(r"sweep-\w+|\.xstilts-(?:room|speed)-\w+")

Kind = Literal["artifact", "state", "kept", "predictions", "translations", "draft", "log", "other"]
#: needed: by a given study; unneeded: by none; outdated: planned with another spec, so that the
#: next run overwrites it; held: a process has it; strange: not ours, or not only.
Verdict = Literal["needed", "unneeded", "outdated", "held", "strange"]


@dataclass(frozen=True)
class Item:
    """Something in a results folder.

    Attributes:
        path: Its path below the results folder.
        kind: What it is.
        verdict: Whether a given study needs it.
        reason: Why it has this verdict.
        bytes: Size of its files. Hard links count once, and first for what stays: it is what
            removing frees.
    """

    path: str
    kind: Kind
    verdict: Verdict
    reason: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Wanted:
    """What the studies of one results folder need.

    Attributes:
        specs: Sha256 of the specs that are planned for an artifact, by its folder; none where any
            will do, because its data are not locked yet.
        parts: Parts of these folders' paths, by which logs are named.
        caches: Names of the translations' caches; None if they cannot be known.
    """

    specs: dict[str, frozenset[str]]
    parts: frozenset[str]
    caches: frozenset[str] | None

    @classmethod
    def by(cls, plans: Sequence[Plan], results: Path) -> Wanted:
        """What some plans need."""
        specs: dict[str, frozenset[str]] = {}
        unlocked = set()
        for job in (job for plan in plans for job in plan.jobs.values()):
            if job.spec.get("lock", True) is None:
                unlocked.add(job.out)
            specs[job.out] = specs.get(job.out, frozenset()) | {sha256_text(job.text)}
        for out, bundle in (entry for plan in plans for entry in plan.bundles.items()):
            specs[out] = specs.get(out, frozenset()) | {spec_sha256(bundle.index)}
        specs |= dict.fromkeys(unlocked, frozenset[str]())
        parts = frozenset(part for out in specs for part in _parts(out))
        return cls(specs, parts, _caches(plans, results))

    def states(self, out: str) -> set[str]:
        """Names of the state folders of an artifact's planned specs."""
        return {sha256[:16] for sha256 in self.specs.get(out, ())}


def _parts(out: str) -> Iterator[str]:
    names = out.split("/")
    for start in range(len(names)):
        for end in range(start + 1, len(names) + 1):
            yield "/".join(names[start:end])


def _caches(plans: Sequence[Plan], results: Path) -> frozenset[str] | None:
    """Names of the caches as the stage `translate` gives them: by all that decides their bytes."""
    found = set()
    for job in (job for plan in plans for job in plan.of("translate")):
        own = {name: job.spec[name] for name in ("fingerprint", "translator", "settings")}
        try:
            own["files"] = read_manifest(results / job.spec["inputs"]["translator"]).files
        except InputError:
            return None
        found.add(sha256_text(canonical(own))[:32])
    return frozenset(found)


# ---- who is there


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold the lock on a file, if it can be had.

    Yields:
        Whether no other process has it. Where that cannot be known, because the file may not be
        opened or its file system has no locks, another one may have it.
    """
    try:
        file = path.open("r+b")  # NFS locks only what is open for writing
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    with file:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def is_held(path: Path) -> bool:
    """Whether another process holds the lock on a file, or may hold it."""
    with locked(path, shared=True) as free:
        return not free


def drives(results: Path) -> bool:
    """Whether a driver runs in a results folder.

    Without a `driver.json`, Snakemake's own locks say so; beside one, they are left from a driver
    that was killed.
    """
    held = lives(results)
    return snakemake_locks(results) if held is None else held


def snakemake_locks(results: Path) -> bool:
    """Whether Snakemake holds its results folder to be in use, or was killed while it was."""
    return any((results / SNAKEMAKE / "locks").glob("*.lock"))


def is_abandoned(path: Path) -> bool:
    """Whether a draft belongs to a process that is gone.

    Of this machine's processes that is known; a draft of another machine, or without a name, is
    abandoned when it has not changed for a day.
    """
    draft = _DRAFT.fullmatch(path.name)
    if draft and draft["host"] == host_name():
        return not is_alive(int(draft["pid"]))
    newest = max((entry.stat().st_mtime for entry in _files(path)), default=path.stat().st_mtime)
    return time.time() - newest > ABANDONED


def finished(folder: Path) -> str | None:
    """Sha256 of the spec of a whole artifact: it has a manifest and all files that this lists."""
    try:
        manifest = read_manifest(folder)
        for name, known in manifest.files.items():
            if (folder / name).stat().st_size != known["size"]:
                return None
    except (InputError, OSError):
        return None
    return spec_sha256(manifest.spec)


def unfinished_outputs(results: Path) -> set[str]:
    """Files that Snakemake holds to be incomplete, and would delete before it makes them again.

    A driver that was killed leaves these marks; a job of it may have published since.
    """
    found = set()
    home = results / SNAKEMAKE / "incomplete"
    for folder, _, names in os.walk(home):
        above = [part.removeprefix("@") for part in Path(folder).relative_to(home).parts]
        for name in names:
            try:
                found.add(urlsafe_b64decode("".join([*above, name])).decode())
            except (Base64Error, UnicodeDecodeError):
                continue
    return found


# ---- what is there


def survey(look: Look) -> list[Item]:
    """All that lies in a results folder, with what it weighs.

    Snakemake's own folder, the driver's file and those of other commands are left out.
    """
    results = look.results
    found = [*look.artifacts(results), *look.states(results / STATE), *look.logs()]
    order = ("needed", "held", "strange", "outdated", "unneeded")
    found.sort(key=lambda item: (order.index(item.verdict), item.path))
    seen: set[tuple[int, int]] = set()
    return [replace(item, bytes=_weigh(results / item.path, seen)) for item in found]


def _weigh(path: Path, seen: set[tuple[int, int]]) -> int:
    total = 0
    for entry in _files(path):
        status = entry.lstat()
        if status.st_nlink > 1:
            own = (status.st_dev, status.st_ino)
            if own in seen:
                continue
            seen.add(own)
        total += status.st_size
    return total


def _files(path: Path) -> Iterator[Path]:
    """All files below a folder, or the file itself; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        for name in names:
            yield Path(folder, name)
        yield from filter(Path.is_symlink, (Path(folder, name) for name in folders))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


class Look:
    """Looks at a results folder for what some studies want of it.

    Args:
        results: The folder, without links in its path.
        wanted: What the studies need.
        driven: Whether a driver runs there.
    """

    def __init__(self, results: Path, wanted: Wanted, *, driven: bool) -> None:
        self.results, self.wanted, self.driven = results, wanted, driven
        self.doubtful = {name.rpartition("/")[0] for name in unfinished_outputs(results)}

    def again(self, item: Item) -> Item | None:
        """The same thing as it is now; None if it is gone."""
        path = self.results / item.path
        if not os.path.lexists(path):
            return None
        if item.kind == "artifact":
            return self._artifact(path)
        if item.kind == "state":
            return self._state(path.parent, path)
        if item.kind == "kept":
            return self._kept(path)
        if item.kind == "draft":
            return self._draft(path)
        return replace(item, bytes=0)

    def _item(self, path: Path, kind: Kind, verdict: Verdict, reason: str = "") -> Item:
        return Item(path.relative_to(self.results).as_posix(), kind, verdict, reason)

    # ---- artifacts

    def artifacts(self, folder: Path) -> list[Item]:
        """Artifacts below a folder, drafts, and what is neither."""
        found: list[Item] = []
        own = {SNAKEMAKE, STATE, LOGS, DRIVER, *NOTES} if folder == self.results else set()
        for path in _entries(folder):
            name = path.relative_to(self.results).as_posix()
            if path.name in own:
                continue
            if path.is_symlink():
                found.append(self._item(path, "other", "strange", "a link; it is not followed"))
            elif _SCRATCH.fullmatch(path.name) or (path.is_dir() and _DRAFT.fullmatch(path.name)):
                found.append(self._draft(path))
            elif not path.is_dir():
                found.append(self._item(path, "other", "strange", "no file of an artifact"))
            elif name in self.wanted.specs or (path / MANIFEST).is_file():
                found.append(self._artifact(path))
            else:
                found.extend(self._together(path, self.artifacts(path)))
        return found

    def _together(self, folder: Path, found: list[Item]) -> list[Item]:
        """One item for a folder that holds nothing of ours."""
        if len(found) > 1 and all(item.verdict == "strange" for item in found):
            return [self._item(folder, "other", "strange", "holds no artifact")]
        return found

    def _draft(self, path: Path) -> Item:
        if is_abandoned(path):
            return self._item(path, "draft", "unneeded", "its process is gone")
        return self._item(path, "draft", "held", "its process may still write it")

    def _artifact(self, path: Path) -> Item:
        name = path.relative_to(self.results).as_posix()
        planned = self.wanted.specs.get(name)
        try:
            manifest = read_manifest(path)
        except InputError:
            if planned is None:
                return self._item(path, "other", "strange", "its manifest is not ours, or damaged")
            return self._item(path, "artifact", "needed", "unfinished: the next run makes it")
        if planned is not None and (not planned or spec_sha256(manifest.spec) in planned):
            return self._item(path, "artifact", "needed")
        return self._unwanted(path, manifest, is_planned=planned is not None)

    def _unwanted(self, path: Path, manifest: Manifest, *, is_planned: bool) -> Item:
        name = path.relative_to(self.results).as_posix()
        if manifest.artifact != name:
            return self._item(path, "other", "strange", f"a copy of {manifest.artifact}")
        if strangers := _strangers(path, manifest):
            return self._item(path, "artifact", "strange", f"holds {strangers[0]}, not ours")
        if is_held(self.results / STATE / name / "lock"):
            return self._item(path, "artifact", "held", "a process is making it")
        if is_planned:
            reason = "planned with another spec: the next run overwrites it"
            return self._item(path, "artifact", "outdated", reason)
        return self._item(path, "artifact", "unneeded", "no given study plans it")

    # ---- states

    def states(self, folder: Path) -> list[Item]:
        """States of trainings, kept predictions, caches and scratch files below a folder."""
        if folder.is_symlink() or not folder.is_dir():
            return []
        entries = _entries(folder)
        if _is_home(folder, entries):
            return [self._state(folder, path) for path in entries if path.name != "lock"]
        if any(_PREDICTIONS.fullmatch(path.name) for path in entries):
            return self._predictions(folder, entries)
        found: list[Item] = []
        for path in entries:
            if path.is_symlink() or not path.is_dir():
                found.append(self._item(path, "other", "strange", "no state of ours"))
            elif folder == self.results / STATE and path.name == TRANSLATIONS:
                found.extend(map(self._cache, _entries(path)))
            elif folder == self.results / STATE and path.name == PROGRESS:
                found.extend(map(self._sign, _entries(path)))
            elif folder == self.results / STATE and path.name == KEPT:
                found.extend(self._all_kept(path))
            elif _DRAFT.fullmatch(path.name) or _SCRATCH.fullmatch(path.name):
                found.append(self._draft(path))
            else:
                found.extend(self._together(path, self.states(path)))
        return found

    def _state(self, home: Path, path: Path) -> Item:
        """What lies in the home of a training's states."""
        out = home.relative_to(self.results / STATE).as_posix()
        if path.is_symlink() or not path.is_dir():
            return self._item(path, "other", "strange", "no state of ours")
        if _DRAFT.fullmatch(path.name):
            return self._draft(path)
        if not _SPEC.fullmatch(path.name):
            return self._item(path, "other", "strange", "no state of ours")
        planned = self.wanted.specs.get(out)
        if planned is None:
            reason = "no given study plans its artifact"
        elif planned and path.name not in self.wanted.states(out):
            reason = "of another spec"
        elif self._is_free(out, path.name):
            reason = "its training is finished"
        else:
            return self._item(path, "state", "needed")
        if is_held(home / "lock"):
            return self._item(path, "state", "held", "a process has it")
        return self._item(path, "state", "unneeded", reason)

    def _is_free(self, out: str, spec: str) -> bool:
        """Whether an artifact of a spec (the beginning of its sha256) is there, and to stay."""
        may_stay = not self.driven and out not in self.doubtful
        return may_stay and (finished(self.results / out) or " ").startswith(spec)

    def _all_kept(self, folder: Path) -> list[Item]:
        """Second names of what was published; a folder with a manifest stands for an artifact."""
        found: list[Item] = []
        for path in _entries(folder):
            if path.is_symlink() or not path.is_dir():
                found.append(self._item(path, "other", "strange", "no state of ours"))
            elif _DRAFT.fullmatch(path.name):
                found.append(self._draft(path))
            elif (path / MANIFEST).is_file():
                found.append(self._kept(path))
            else:
                found.extend(self._all_kept(path))
        return found

    def _kept(self, path: Path) -> Item:
        """Second names are needed until nothing can happen to the artifact any more."""
        out, made = path.relative_to(self.results / STATE / KEPT).as_posix(), finished(path)
        planned = self.wanted.specs.get(out)
        if planned is None:
            return self._item(path, "kept", "unneeded", "no given study plans its artifact")
        if made is None or (planned and made not in planned):
            return self._item(path, "kept", "unneeded", "of another spec, or not whole")
        if self._is_free(out, made):
            return self._item(path, "kept", "unneeded", "its artifact is whole")
        return self._item(path, "kept", "needed")

    def _predictions(self, folder: Path, entries: list[Path]) -> list[Item]:
        """Predictions that a later evaluation uses again."""
        drafts = [path for path in entries if _DRAFT.fullmatch(path.name)]
        files = [path for path in entries if _PREDICTIONS.fullmatch(path.name)]
        if strangers := set(entries) - {*drafts, *files}:
            reason = f"holds {min(strangers).name}, not ours"
            return [self._item(folder, "predictions", "strange", reason)]
        if folder.relative_to(self.results / STATE).as_posix() not in self.wanted.specs:
            return [self._item(folder, "predictions", "unneeded", "no given study plans them")]
        needed = [self._item(path, "predictions", "needed") for path in files]
        return [*needed, *map(self._draft, drafts)]

    def _sign(self, path: Path) -> Item:
        """A stage's sign of life; one that failed leaves it, for `xstilts status`."""
        if path.is_symlink() or not path.is_file():
            return self._item(path, "other", "strange", "no sign of a stage of ours")
        if path.suffix == ".json" and unquote(path.stem) in self.wanted.specs:
            return self._item(path, "log", "needed")
        if not is_abandoned(path):
            return self._item(path, "log", "held", "its stage may still run")
        return self._item(path, "log", "unneeded", "no given study plans its artifact")

    def _cache(self, path: Path) -> Item:
        if path.is_symlink() or not path.is_dir():
            return self._item(path, "other", "strange", "no cache of ours")
        if _DRAFT.fullmatch(path.name):
            return self._draft(path)
        if not _CACHE.fullmatch(path.name):
            return self._item(path, "other", "strange", "no cache of ours")
        if self.wanted.caches is None or path.name in self.wanted.caches:
            return self._item(path, "translations", "needed")
        reason = "of no planned translator, with its settings and code"
        return self._item(path, "translations", "unneeded", reason)

    # ---- logs

    def logs(self) -> list[Item]:
        """Logs of jobs that no study plans; one that is planned is not worth a line."""
        home = self.results / LOGS
        if home.is_symlink() or not home.is_dir():
            return []
        found = []
        for path in sorted(_files(home)):
            if path.suffix != ".log" or path.is_symlink():
                found.append(self._item(path, "other", "strange", "no log of ours"))
            elif self._is_planned(path.relative_to(home)):
                found.append(self._item(path, "log", "needed"))
            else:
                found.append(self._item(path, "log", "unneeded", "no given study plans its job"))
        return found

    def _is_planned(self, log: Path) -> bool:
        """A log is named by the stage and what tells its job from the stage's others."""
        _, *names = log.with_suffix("").parts
        return not names or "/".join(names) in self.wanted.parts


def _is_home(folder: Path, entries: Iterable[Path]) -> bool:
    return any(path.name == "lock" or _SPEC.fullmatch(path.name) for path in entries)


def _strangers(folder: Path, manifest: Manifest) -> list[str]:
    """Files in an artifact's folder that its manifest does not list."""
    known = {*manifest.files, MANIFEST, PROVENANCE}
    found = (path.relative_to(folder).as_posix() for path in _files(folder))
    return sorted(name for name in found if name not in known)
