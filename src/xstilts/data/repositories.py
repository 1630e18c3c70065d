"""Repositories of data sets and models, on the Hub or in a local mirror of it.

Which files make up a configuration's splits is what `datasets.load_dataset` says; it is asked about
a skeleton of the repository (its README and empty files), so a repository costs one listing however
many of its configurations are wanted, and the Hub and a mirror of it answer alike.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from xstilts.data import sources
from xstilts.data.patience import patiently, short
from xstilts.errors import InputError, nearest
from xstilts.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

#: What `datasets` reads of a repository to find its configurations.
_DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")


def place_of(hub: str, branch: str | None = None) -> str:
    """A repository as a lock file names it, wherever its bytes come from."""
    return f"hf:{hub}@{branch}" if branch else f"hf:{hub}"


class Repository:
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
        """Names of its configurations."""
        from datasets import get_dataset_config_names

        return list(self._ask(lambda: get_dataset_config_names(str(self.root.resolve()))))

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
                lambda: load_dataset_builder(str(self.root.resolve()), config, cache_dir=cache)
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
            hint = (
                "It needs a README whose `configs:` names its data files, and at least those of "
                "the first configuration"
            )
            if "scripts are no longer supported" in str(error):
                hint = "It holds a loading script, which is never run: use a repository of files"
            problem = f"`datasets` cannot read the repository ({short(error)})"
            raise InputError(self.name, problem, hint=hint) from error


class Library:
    """Opens each repository once.

    Args:
        pins: The revision at which a repository is to be read, by kind and source.
        refresh: Whether what is in the cache of downloads may be old.
        stack: Closes what was opened.
    """

    def __init__(self, pins: dict[tuple[str, str], str], refresh: bool, stack: ExitStack) -> None:
        self._pins, self.refresh, self._stack = pins, refresh, stack
        self._open: dict[tuple[str, str], Repository] = {}

    def repository(self, name: str, kind: sources.Kind, branch: str | None = None) -> Repository:
        """A repository, at its locked revision or else at the head of a branch.

        Raises:
            InputError: If the Hub or the mirror does not have it.
        """
        key = (kind, place_of(name, branch))
        if key not in self._open:
            mirror = runtime().mirror
            revision = self._pins.get(key, branch)
            opened = self._mirror(name, mirror) if mirror else self._hub(name, kind, revision)
            self._open[key] = opened
        return self._open[key]

    def _mirror(self, name: str, mirror: Path) -> Repository:
        folder = sources.mirror_repository(mirror, name)
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        paths = sorted(path.as_posix() for path in found if not path.parts[0].startswith("."))

        def describe(path: str) -> dict[str, Any]:
            with sources.mirror_file(folder, path).open("rb") as file:
                return sources.copy_bytes(file)

        return Repository(name, _downloaded_revision(folder), paths, describe, folder)

    def _hub(self, name: str, kind: sources.Kind, start: str | None) -> Repository:
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
        return Repository(name, revision, sorted(files), describe, root)

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
