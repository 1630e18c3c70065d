"""Resolving: from the data sets and models of a study to the bytes that its lock file names."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xstilts.data import sources
from xstilts.data.lock import Entry, Lock, LockedFile
from xstilts.data.patience import DamagedError
from xstilts.data.repositories import Library, place_of
from xstilts.errors import InputError, nearest
from xstilts.registry.rows import (
    DatasetRow,
    FileSource,
    HubSource,
    ModelRow,
    TranslatorRow,
    UrlSource,
)
from xstilts.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Files of a model's repository that are used; weights are safetensors only, never a pickle.
MODEL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "model.safetensors.index.json",
    "*.safetensors",
)
#: Of a translator's repository: its own way of generating, and Marian's vocabularies as well.
TRANSLATOR_FILES = (*MODEL_FILES, "generation_config.json", "target_vocab.json", "*.spm")


#: What a study uses: ``(data set row, configuration, language)``, or a model's or translator's row.
Wanted = tuple[DatasetRow, str, str] | ModelRow | TranslatorRow


@dataclass(frozen=True)
class Change:
    """An entry that was added or that changed.

    Attributes:
        key: ``<data set>/<configuration>``, the model or the translator.
        what: Whether it is new, or only its repository changed and the entry is kept.
        details: What is in it, or what changed, one fact a line.
    """

    key: str
    what: Literal["new", "changed", "kept"]
    details: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key}: {self.what}: {'; '.join(self.details)}"


def resolve(
    wanted: Iterable[Wanted], lock: Lock, refresh: bool = False
) -> tuple[Lock, list[Change]]:
    """Find out which bytes are wanted, from the Hub, the mirror, URLs and the user's folders.

    A new configuration of a repository that is locked already is taken at the same revision. Toy
    data sets and models that the workflow pretrains have no files and are passed over.

    Args:
        wanted: ``(data set row, configuration, language)``, model rows and translator rows.
        lock: What is known; entries that are not wanted stay.
        refresh: Resolve everything that is wanted again, at its present revision. An entry whose
            files all have the same bytes there keeps its old revision.

    Returns:
        The new lock, and what changed.

    Raises:
        InputError: If a repository, configuration or file cannot be had.
    """
    changes = []
    tables = {"dataset": dict(lock.datasets), "model": dict(lock.models)}
    with ExitStack() as stack:
        library = Library({} if refresh else _pins(lock), refresh, stack)
        for (kind, key), item in _merged(wanted).items():
            old = tables[kind].get(key)
            if old is not None and not refresh and item.is_covered(old):
                continue
            new = item.resolve(library)
            if old is not None and _same_bytes(old, new):
                if old.revision != new.revision:
                    changes.append(Change(key, "kept", (_moved(old, new),)))
                continue
            tables[kind][key] = new
            changes.append(Change(key, "changed" if old else "new", _details(old, new)))
    return Lock(datasets=tables["dataset"], models=tables["model"]), changes


def _pins(lock: Lock) -> dict[tuple[str, str], str]:
    """The revision at which each repository is locked, by kind and source."""
    tables = {"dataset": lock.datasets, "model": lock.models}
    return {
        (kind, entry.source): entry.revision
        for kind, table in tables.items()
        for entry in table.values()
        if entry.revision
    }


def _merged(wanted: Iterable[Wanted]) -> dict[tuple[str, str], _Item]:
    """One item per entry: languages that share a configuration share its files."""
    items: dict[tuple[str, str], _Item] = {}
    for want in wanted:
        if isinstance(want, ModelRow):
            if want.hub is not None:
                items["model", want.name] = _ModelItem(want.name, want.hub)
            continue
        if isinstance(want, TranslatorRow):
            items["model", want.name] = _TranslatorItem(want.name, want.hub, want.revision)
            continue
        row, config, language = want
        key, source = ("dataset", f"{row.name}/{config}"), row.source_of(language)
        code = row.languages[language]
        if isinstance(source, HubSource):
            splits = frozenset(row.splits_of(language).values())
            if isinstance(old := items.get(key), _HubItem):
                splits |= old.splits
            items[key] = _HubItem(source, config, splits)
        elif isinstance(source, UrlSource):
            items[key] = _UrlItem(row.name, source, code, tuple(row.languages.values()))
        elif isinstance(source, FileSource):
            items[key] = _UserItem(row.name, source, code)
    return items


def _same_bytes(old: Entry, new: Entry) -> bool:
    """Whether at most the revision differs: its change alone must make nothing again."""
    return old == new.model_copy(update={"revision": old.revision})


def _moved(old: Entry, new: Entry) -> str:
    return f"revision {old.revision} -> {new.revision} has the same files, the old one is kept"


def _details(old: Entry | None, new: Entry) -> tuple[str, ...]:
    absent = [f"there is no split {split!r}" for split in new.absent]
    if old is None:
        size = sum(file.size for file in new.files.values()) / 1e6
        revision = f" at revision {new.revision}" if new.revision else ""
        return (f"{len(new.files)} files, {size:.1f} MB{revision}", *absent)
    facts = [
        f"{name} {before} -> {after}"
        for name, before, after in (
            ("source", old.source, new.source),
            ("revision", old.revision, new.revision),
        )
        if before != after
    ]
    for path in sorted({*old.files, *new.files}):
        before, after = old.files.get(path), new.files.get(path)
        if before is None or after is None:
            facts.append(f"{path} is {'new' if before is None else 'gone'}")
        elif before != after:
            facts.append(f"{path} has other {'bytes' if before.sha256 != after.sha256 else 'use'}")
    return (*facts, *absent)


# ---- what is wanted, by its source


@dataclass(frozen=True)
class _HubItem:
    source: HubSource
    config: str
    splits: frozenset[str]

    def is_covered(self, entry: Entry) -> bool:
        known = {file.split for file in entry.files.values()} | set(entry.absent)
        return (
            entry.source == place_of(self.source.hub, self.source.revision) and self.splits <= known
        )

    def resolve(self, library: Library) -> Entry:
        repository = library.repository(self.source.hub, "dataset", self.source.revision)
        found = repository.data_files(self.config)
        if not self.splits & found.keys():
            wanted = ", ".join(sorted(self.splits))
            raise InputError(
                f"{self.source.hub}: {self.config}",
                "the configuration has none of the splits",
                expected=wanted,
                found=", ".join(found) or "no files at all",
            )
        files: dict[str, LockedFile] = {}
        for split in sorted(self.splits & found.keys()):
            for path in found[split][: self.source.first_files]:
                if path in files:
                    where = f"{self.source.hub}: {self.config}"
                    raise InputError(where, f"{path} belongs to {files[path].split} and {split}")
                files[path] = LockedFile(**repository.describe(path), split=split)
        absent = tuple(sorted(self.splits - found.keys()))
        source = place_of(self.source.hub, self.source.revision)
        return Entry(source=source, revision=repository.revision, files=files, absent=absent)


@dataclass(frozen=True)
class _ModelItem:
    name: str
    hub: str
    branch: str | None = None
    kind: ClassVar[str] = "model"
    patterns: ClassVar[tuple[str, ...]] = MODEL_FILES
    hint: ClassVar[str] = "Use a revision or a copy of the model with safetensors"

    def is_covered(self, entry: Entry) -> bool:
        return entry.source == place_of(self.hub, self.branch)

    def resolve(self, library: Library) -> Entry:
        repository = library.repository(self.hub, "model", self.branch)
        paths = [
            path
            for path in repository.paths
            if any(fnmatch(path, pattern) for pattern in self.patterns) and "/" not in path
        ]
        if not any(path.endswith(".safetensors") for path in paths):
            there = [path for path in repository.paths if "/" not in path]
            raise InputError(
                f"{self.hub} ({self.kind} {self.name})",
                "the repository has no *.safetensors; weights in pickles are never loaded",
                found=", ".join(there) or "no files",
                hint=self.hint,
            )
        files = {path: LockedFile(**repository.describe(path)) for path in paths}
        source = place_of(self.hub, self.branch)
        return Entry(source=source, revision=repository.revision, files=files)


@dataclass(frozen=True)
class _TranslatorItem(_ModelItem):
    kind: ClassVar[str] = "translator"
    patterns: ClassVar[tuple[str, ...]] = TRANSLATOR_FILES
    hint: ClassVar[str] = (
        "Many repositories have safetensors only on the branch of a pull request: name it under "
        "`revision` of the registry's row (e.g. refs/pr/4), or put a converted copy into a mirror"
    )


@dataclass(frozen=True)
class _UrlItem:
    dataset: str
    source: UrlSource
    code: str
    codes: tuple[str, ...]

    @property
    def _place(self) -> str:
        return " ".join(sources.fill(url, self.code) for url in self.source.urls.values())

    def _names(self, code: str) -> set[str]:
        urls, members = self.source.urls, self.source.members
        whole = [name for name, url in urls.items() if not (members and sources.is_archive(url))]
        return {sources.fill(name, code) for name in (*whole, *members.values())}

    def is_covered(self, entry: Entry) -> bool:
        return entry.source == self._place and entry.files.keys() == self._names(self.code)

    def resolve(self, library: Library) -> Entry:
        problem, local = "", runtime().files.get(self.dataset)
        # What is in the cache may be old, or damaged.
        for force in (True,) if library.refresh or local else (False, True):
            try:
                found = sources.url_files(
                    self.source.urls, self.source.members, self.code, local=local, force=force
                )
            except DamagedError as error:
                problem = str(error)
                continue
            if not (problem := self._problem(found)):
                files = {name: LockedFile(**described) for name, described in found.items()}
                return Entry(source=self._place, revision=None, files=files)
        hint = "If the file was changed on purpose, correct its sha256 in the registry"
        place, when = (str(local), "") if local else (self._place, ", downloaded anew")
        raise InputError(place, f"{problem}{when}", hint=hint)

    def _problem(self, found: dict[str, dict[str, Any]]) -> str:
        valid = {name for code in self.codes for name in self._names(code)}
        for name, sha256 in self.source.sha256.items():
            if name not in valid:
                problem = f"no file is stored as {name!r}"
                raise InputError("sha256 in the registry", problem, hint=nearest(name, valid))
            if name in found and found[name]["sha256"] != sha256:
                return f"{name} has sha256 {found[name]['sha256']} and not the known {sha256}"
        return ""


@dataclass(frozen=True)
class _UserItem:
    dataset: str
    source: FileSource
    code: str

    def is_covered(self, entry: Entry) -> bool:
        names = {sources.fill(name, self.code) for name in self.source.files}
        return entry.source == "files" and entry.files.keys() == names

    def resolve(self, library: Library) -> Entry:
        found = sources.user_files(self.dataset, self.source.files, self.source.hint, self.code)
        files = {}
        for name, path in found.items():
            with path.open("rb") as file:
                files[name] = LockedFile(**sources.copy_bytes(file))
        return Entry(source="files", revision=None, files=files)


_Item = _HubItem | _ModelItem | _UrlItem | _UserItem
