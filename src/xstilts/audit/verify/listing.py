"""All that lies in a results folder, by one walk that follows no link and opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xstilts.audit.results import APART

#: What stands where a plain file is expected, by the type of its mode.
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass
class Listing:
    """What lies below a folder, by path.

    Attributes:
        files: Plain files, with their status.
        links: Symbolic links, with where they lead.
        odd: What is neither a file, a folder nor a link, in words.
        folders: Folders.
        errors: Folders whose content cannot be listed, with the reason.
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)

    def holds(self, path: str) -> bool:
        """Whether anything has this path."""
        return any(path in part for part in (self.files, self.links, self.odd, self.folders))

    def above(self, path: str, among: Collection[str]) -> str | None:
        """The first of a path's folders, or itself, that is among some paths."""
        return next((part for part in prefixes(path) if part in among), None)

    def unlisted(self, known: Collection[str]) -> list[str]:
        """All that is no folder and is not known."""
        found = (*self.files, *self.links, *self.odd)
        return [path for path in found if path not in known]


def look_up(results: Path, names: Iterable[str], listing: Listing) -> None:
    """Note the folders above some paths, and what stands there instead.

    Args:
        results: The results folder.
        names: Paths in it.
        listing: Where to note them.
    """
    for part in sorted({part for name in names for part in prefixes(name)}):
        if listing.above(part, listing.links):
            continue  # behind a link nothing is looked at
        path = results / part
        with suppress(OSError):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                listing.links[part] = os.readlink(path)
            elif stat.S_ISDIR(mode):
                listing.folders.add(part)
            else:
                listing.odd[part] = _KINDS.get(stat.S_IFMT(mode), "a file")


def prefixes(path: str) -> list[str]:
    """A path's folders from the top, and the path itself."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def walk(results: Path, below: Iterable[str] = ("",)) -> Listing:
    """Look through a results folder.

    Args:
        results: The folder.
        below: Only these folders of it, where it is not to be looked through as a whole.
    """
    found = Listing()
    waiting = list(below)
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(results / folder))
        except OSError as error:
            found.errors[folder] = error.strerror or str(error)
            continue
        for entry in entries:
            with suppress(FileNotFoundError):  # gone since: as if it had never been seen
                waiting += _enter(entry, folder, found)
    return found


def _enter(entry: os.DirEntry[str], folder: str, found: Listing) -> list[str]:
    """Note an entry; its path if it is a folder to look into."""
    if not folder and entry.name in APART:
        return []
    path = f"{folder}/{entry.name}" if folder else entry.name
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        found.links[path] = os.readlink(entry.path)
    elif stat.S_ISREG(status.st_mode):
        found.files[path] = status
    elif stat.S_ISDIR(status.st_mode):
        found.folders.add(path)
        return [path]
    else:
        found.odd[path] = _KINDS.get(stat.S_IFMT(status.st_mode), "no plain file")
    return []
