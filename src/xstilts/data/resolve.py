"""Resolving: from data sets and models to the bytes that a lock file names.

Which files make up a configuration's splits is what `datasets.load_dataset` says; it is asked about
a skeleton of the repository (its README and empty files), so a repository costs one listing however
many of its configurations are wanted, and the Hub and a mirror of it answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from xstilts.data import sources
from xstilts.data.lock import Entry, Lock, LockedFile
from xstilts.data.patience import DamagedError, patiently, short
from xstilts.errors import InputError, nearest
from xstilts.registry.rows import DatasetRow, FileSource, HubSource, ModelRow, UrlSource
from xstilts.runtime import runtime

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
#: What `datasets` reads of a repository to find its configurations.
_DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")


#: What a study uses: ``(data set row, configuration, language)``, or a model's row.
Wanted = tuple[DatasetRow, str, str] | ModelRow


@dataclass(frozen=True)
class Change:
    """An entry that was added or that changed.

    Attributes:
        key: ``<data set>/<configuration>`` or the model.
        what: Whether it is new.
        details: What is in it, or what changed, one fact a line.
    """

    key: str
    what: Literal["new", "changed"]
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
        wanted: ``(data set row, configuration, language)``, and model rows.
        lock: What is known; entries that are not wanted stay.
        refresh: Resolve everything that is wanted again, at its present revision.

    Returns:
        The new lock, and what changed.

    Raises:
        InputError: If a repository, configuration or file cannot be had.
    """
    changes = []
    tables = {"dataset": dict(lock.datasets), "model": dict(lock.models)}
    with ExitStack() as stack:
        library = _Library({} if refresh else _pins(lock), stack)
        for (kind, key), item in _merged(wanted).items():
            old = tables[kind].get(key)
            if old is not None and not refresh and item.is_covered(old):
                continue
            new = item.resolve(library)
            tables[kind][key] = new
            if old != new:
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


def _place(hub: str, branch: str | None = None) -> str:
    """A repository as a lock file names it, wherever its bytes come from."""
    return f"hf:{hub}@{branch}" if branch else f"hf:{hub}"


def _merged(wanted: Iterable[Wanted]) -> dict[tuple[str, str], _Item]:
    """One item per entry: languages that share a configuration share its files."""
    items: dict[tuple[str, str], _Item] = {}
    for want in wanted:
        if isinstance(want, ModelRow):
            if want.hub is not None:
                items["model", want.name] = _ModelItem(want.name, want.hub)
            continue
        row, config, language = want
        key, source, code = ("dataset", f"{row.name}/{config}"), row.source, row.languages[language]
        if isinstance(source, HubSource):
            splits = frozenset(row.splits_of(language).values())
            if isinstance(old := items.get(key), _HubItem):
                splits |= old.splits
            items[key] = _HubItem(source, config, splits)
        elif isinstance(source, UrlSource):
            items[key] = _UrlItem(source, code, tuple(row.languages.values()))
        elif isinstance(source, FileSource):
            items[key] = _UserItem(row.name, source, code)
    return items


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


# ---- repositories


class _Repository:
    """A repository of the Hub or of a mirror.

    Args:
        name: Namespaced id.
        revision: Its commit; None if it is not known.
        paths: Paths of all its files.
        describe: Size and sha256 of a file.
        root: Where `datasets` finds its README and its files' names.
    """

    def __init__(
        self,
        name: str,
        revision: str | None,
        paths: list[str],
        describe: Callable[[str], dict[str, Any]],
        root: Path,
    ) -> None:
        self.name, self.revision, self.paths = name, revision, paths
        self.describe, self.root = describe, root

    @cached_property
    def configs(self) -> list[str]:
        from datasets import get_dataset_config_names

        return list(self._ask(lambda: get_dataset_config_names(str(self.root))))

    def data_files(self, config: str) -> dict[str, list[str]]:
        """Paths of a configuration's files by split, in the order in which they are read."""
        from datasets import load_dataset_builder

        if config not in self.configs:
            hint = nearest(config, self.configs)
            raise InputError(
                self.name, f"the repository has no configuration {config!r}", hint=hint
            )
        with TemporaryDirectory(prefix="xstilts-") as cache:
            builder = self._ask(
                lambda: load_dataset_builder(str(self.root), config, cache_dir=cache)
            )
        return {
            str(split): [self._path(file) for file in files]
            for split, files in builder.config.data_files.items()
            if files
        }

    def _path(self, file: str) -> str:
        try:
            return Path(file).relative_to(self.root.resolve()).as_posix()
        except ValueError as error:
            problem = f"its README names a file of another place ({file})"
            raise InputError(
                self.name, problem, hint="Only a repository's own files are locked"
            ) from error

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            hint = "A repository needs data files, and a README whose `configs:` names them"
            if "scripts are no longer supported" in str(error):
                hint = "It holds a loading script, which is never run: use a repository of files"
            problem = f"`datasets` cannot read the repository ({short(error)})"
            raise InputError(self.name, problem, hint=hint) from error


class _Library:
    """Opens each repository once.

    Args:
        pins: The revision at which a repository is to be read, by kind and source.
        stack: Closes what was opened.
    """

    def __init__(self, pins: dict[tuple[str, str], str], stack: ExitStack) -> None:
        self._pins, self._stack = pins, stack
        self._open: dict[tuple[str, str], _Repository] = {}

    def repository(self, name: str, kind: sources.Kind, branch: str | None = None) -> _Repository:
        key = (kind, _place(name, branch))
        if key not in self._open:
            mirror = runtime().mirror
            revision = self._pins.get(key, branch)
            opened = self._mirror(name, mirror) if mirror else self._hub(name, kind, revision)
            self._open[key] = opened
        return self._open[key]

    def _mirror(self, name: str, mirror: Path) -> _Repository:
        folder = sources.mirror_repository(mirror, name)
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        paths = sorted(path.as_posix() for path in found if not path.parts[0].startswith("."))

        def describe(path: str) -> dict[str, Any]:
            with sources.mirror_file(folder, path).open("rb") as file:
                return sources.copy_bytes(file)

        return _Repository(name, _downloaded_revision(folder), paths, describe, folder)

    def _hub(self, name: str, kind: sources.Kind, start: str | None) -> _Repository:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi()
        place = f"{api.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
        revision = patiently(lambda: api.repo_info(name, repo_type=kind, revision=start), place).sha

        def listing() -> list[Any]:
            return list(api.list_repo_tree(name, recursive=True, revision=revision, repo_type=kind))

        tree = patiently(listing, place)
        files = {item.path: item for item in tree if isinstance(item, RepoFile)}

        def describe(path: str) -> dict[str, Any]:
            if lfs := files[path].lfs:
                return {"size": lfs.size, "sha256": lfs.sha256}
            with sources.hub_file(name, kind, path, revision).open("rb") as file:
                return sources.copy_bytes(file)

        root = self._skeleton(name, revision, list(files)) if kind == "dataset" else Path()
        return _Repository(name, revision, sorted(files), describe, root)

    def _skeleton(self, name: str, revision: str | None, paths: list[str]) -> Path:
        """A folder with a repository's descriptions, and all else empty."""
        folder = self._stack.enter_context(TemporaryDirectory(prefix="xstilts-"))
        root = Path(folder, name.split("/")[1])
        for path in paths:
            file = root / sources.safe_path(path, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            known = path in _DESCRIPTIONS
            file.write_bytes(
                sources.hub_file(name, "dataset", path, revision).read_bytes() if known else b""
            )
        return root


def _downloaded_revision(folder: Path) -> str | None:
    """The commit of a folder made by `hf download --local-dir`, if all its files are of one."""
    notes = sorted((folder / ".cache" / "huggingface" / "download").rglob("*.metadata"))
    commits = {note.read_text(encoding="utf-8").split("\n")[0].strip() for note in notes}
    return commits.pop() if len(commits) == 1 else None


# ---- what is wanted, by its source


@dataclass(frozen=True)
class _HubItem:
    source: HubSource
    config: str
    splits: frozenset[str]

    def is_covered(self, entry: Entry) -> bool:
        known = {file.split for file in entry.files.values()} | set(entry.absent)
        return (
            entry.source == _place(self.source.hub, self.source.revision) and self.splits <= known
        )

    def resolve(self, library: _Library) -> Entry:
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
        files = {
            path: LockedFile(**repository.describe(path), split=split)
            for split in sorted(self.splits & found.keys())
            for path in found[split][: self.source.first_files]
        }
        absent = tuple(sorted(self.splits - found.keys()))
        source = _place(self.source.hub, self.source.revision)
        return Entry(source=source, revision=repository.revision, files=files, absent=absent)


@dataclass(frozen=True)
class _ModelItem:
    name: str
    hub: str

    def is_covered(self, entry: Entry) -> bool:
        return entry.source == _place(self.hub)

    def resolve(self, library: _Library) -> Entry:
        repository = library.repository(self.hub, "model")
        paths = [
            path
            for path in repository.paths
            if any(fnmatch(path, pattern) for pattern in MODEL_FILES) and "/" not in path
        ]
        if not any(path.endswith(".safetensors") for path in paths):
            there = [path for path in repository.paths if "/" not in path]
            raise InputError(
                f"{self.hub} (model {self.name})",
                "the repository has no *.safetensors; weights in pickles are never loaded",
                found=", ".join(there) or "no files",
                hint="Use a revision or a copy of the model with safetensors",
            )
        files = {path: LockedFile(**repository.describe(path)) for path in paths}
        return Entry(source=_place(self.hub), revision=repository.revision, files=files)


@dataclass(frozen=True)
class _UrlItem:
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

    def resolve(self, library: _Library) -> Entry:
        problem = ""
        for force in (False, True):  # what is in the cache may be damaged
            try:
                found = sources.url_files(
                    self.source.urls, self.source.members, self.code, force=force
                )
            except DamagedError as error:
                problem = str(error)
                continue
            if not (problem := self._problem(found)):
                files = {name: LockedFile(**described) for name, described in found.items()}
                return Entry(source=self._place, revision=None, files=files)
        hint = "If the file was changed on purpose, correct its sha256 in the registry"
        raise InputError(self._place, f"{problem}, downloaded twice", hint=hint)

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

    def resolve(self, library: _Library) -> Entry:
        found = sources.user_files(self.dataset, self.source.files, self.source.hint, self.code)
        files = {}
        for name, path in found.items():
            with path.open("rb") as file:
                files[name] = LockedFile(**sources.copy_bytes(file))
        return Entry(source="files", revision=None, files=files)


_Item = _HubItem | _ModelItem | _UrlItem | _UserItem
