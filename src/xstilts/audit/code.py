"""The code that made an artifact: the source tree of a commit, where git still has it."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from xstilts.artifacts.fingerprint import fingerprint, modules_of
from xstilts.artifacts.record import git_state

#: The folder that this package lies in.
SOURCE = Path(__file__).resolve().parents[2]
#: Packages whose version touches no byte of an artifact; the code of `xstilts` is told by a commit.
DRIVER_ONLY = frozenset({"xstilts", "snakemake", "snakemake-executor-plugin-slurm"})
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Sources:
    """Source trees of commits of the repository that this package runs from.

    Args:
        folder: An empty folder, where they are unpacked.
        source: The folder that the package lies in.
    """

    def __init__(self, folder: Path, source: Path = SOURCE) -> None:
        self.folder, self.source = folder, source
        self.tree = cache(self._tree)
        self.is_here = cache(self._is_here)

    @cached_property
    def has_git(self) -> bool:
        """Whether the package lies in a repository, and git is there to ask."""
        if self.source == SOURCE:
            return git_state()["commit"] is not None
        return self._git("rev-parse", "HEAD").returncode == 0

    def _is_here(self, commit: str) -> bool:
        """Whether the package's tracked files are those of a commit."""
        done = self._git("diff", "--quiet", commit, "--", "xstilts") if _is_name(commit) else None
        return self.has_git and done is not None and done.returncode == 0

    def _tree(self, commit: str) -> Path | None:
        """The folder that the package lies in, as of a commit; None where git does not have it."""
        if not (_is_name(commit) and self.has_git):
            return None
        done = self._git("archive", "--format=tar", commit, "xstilts")
        if done.returncode:
            return None
        place = self.folder / commit
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(place, filter="data")
        return place

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        call = ["git", "-C", str(self.source), *arguments]
        try:
            return subprocess.run(call, capture_output=True, check=False)
        except OSError:  # no git
            return subprocess.CompletedProcess(call, 1, b"", b"")


def _is_name(commit: object) -> bool:
    """Whether it is the full name of a commit, and no option of git's."""
    return isinstance(commit, str) and _COMMIT.fullmatch(commit) is not None


def changed_modules(roots: Sequence[str], before: Path, now: Path = SOURCE) -> list[str]:
    """Modules that decide a stage's bytes and have other code in two source trees.

    Args:
        roots: The stage's modules; see `fingerprint`.
        before: The folder that the package lay in.
        now: The folder that it lies in.

    Returns:
        Their names; with a ``+`` of those that are new, a ``-`` of those that are gone.
    """
    old, new = modules_of(roots, before), modules_of(roots, now)
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    marks = {**dict.fromkeys(changed, ""), **dict.fromkeys(new.keys() - old.keys(), "+")}
    marks |= dict.fromkeys(old.keys() - new.keys(), "-")
    return [f"{marks[name]}{name}" for name in sorted(marks)]


def why_code_differs(
    sources: Sources, git: Mapping[str, Any], recorded: object, roots: Sequence[str] | None
) -> tuple[list[str], str]:
    """Which modules have changed since an artifact was made, as far as git can tell.

    Args:
        sources: Source trees of commits.
        git: The `git` of the artifact's record.
        recorded: The fingerprint in its manifest.
        roots: The modules that its stage starts from today.

    Returns:
        The modules, and what stands between them and certainty; empty where nothing does.
    """
    commit, dirty = git.get("commit"), bool(git.get("dirty"))
    if not commit:
        return [], "its record names no commit"
    if not sources.has_git:
        return [], f"made at commit {commit[:12]}; this package lies in no git repository"
    if roots is None:
        return [], f"made at commit {commit[:12]}; its stage has no fingerprint today"
    tree = sources.tree(commit)
    if tree is None:
        return [], f"made at commit {commit[:12]}, which this repository does not have"
    names = changed_modules(roots, tree)
    if fingerprint(*roots, source=tree) == recorded:
        return names, ""
    if dirty:
        return names, f"made at commit {commit[:12]} from a tree with changes of its own"
    return names, f"commit {commit[:12]} itself gives another fingerprint today"


__all__ = ["DRIVER_ONLY", "SOURCE", "Sources", "changed_modules", "why_code_differs"]
