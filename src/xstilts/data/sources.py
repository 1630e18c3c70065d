"""Where bytes come from: the Hub, a local mirror of it, URLs, and files that the user supplies."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from xstilts.data.patience import REFRESH, DamagedError, patiently, short
from xstilts.errors import InputError, nearest
from xstilts.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Kind = Literal["dataset", "model"]

#: Seconds without a connection, and without a byte, after which a download by URL has failed.
TIMEOUT = (10.0, 60.0)

_CHUNK = 1 << 20
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz")
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)


# ---- bytes


def copy_bytes(stream: IO[bytes], target: Path | None = None) -> dict[str, Any]:
    """Size and sha256 of a stream, which is written to a file on the way.

    What is described is what was written: nobody can change the source in between.

    Args:
        stream: The source.
        target: Where to write it; None to describe it only.

    Returns:
        ``{"size": bytes, "sha256": hex}``.
    """
    digest, size = hashlib.sha256(), 0
    with open(target or os.devnull, "wb") as file:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def difference(found: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """How described bytes differ from the known ones, for a message; None if they do not."""
    for key, unit in (("size", " bytes"), ("sha256", "")):
        if found[key] != known[key]:
            return f"expected {key} {known[key]}{unit}, found {found[key]}{unit}"
    return None


def safe_path(path: str, where: str) -> str:
    """A relative path from outside, once it is sure that it stays below its folder.

    Raises:
        InputError: If it is absolute, or has empty, ``.`` or ``..`` parts.
    """
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InputError(where, f"the path {path!r} could leave its folder, it is not used")
    return path


# ---- the Hub and its mirror


def hub_url(repository: str, kind: Kind, path: str, revision: str | None) -> str:
    """The address of a file on the Hub, for messages."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, path, repo_type=kind, revision=revision)


def hub_file(
    repository: str, kind: Kind, path: str, revision: str | None, *, force: bool = False
) -> Path:
    """A file of a Hub repository in the Hub's own cache, downloaded if it is not there.

    Args:
        repository: Namespaced id.
        kind: Whether it is a data set's or a model's.
        path: The file's path in the repository.
        revision: Commit; None for the newest.
        force: Download it even if it is in the cache.

    Raises:
        InputError: If it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    def download() -> str:
        return hf_hub_download(
            repository, path, repo_type=kind, revision=revision, force_download=force
        )

    return Path(patiently(download, hub_url(repository, kind, path, revision)))


def mirror_repository(mirror: Path, repository: str) -> Path:
    """The folder of a repository in a mirror (``<mirror>/<owner>/<name>``).

    Raises:
        InputError: If the mirror or the repository is missing, with what lies there.
    """
    if not mirror.is_dir():
        raise InputError(
            str(mirror), "the mirror's folder does not exist", hint="Check the setting `mirror`"
        )
    folder = mirror / safe_path(repository, str(mirror))
    if not folder.is_dir():
        there = [f"{path.parent.name}/{path.name}" for path in mirror.glob("*/*") if path.is_dir()]
        raise InputError(
            str(mirror),
            f"the mirror has no repository {repository!r}",
            hint=f"{nearest(repository, there)} Put it there, or unset the mirror to use the Hub",
        )
    return folder


def mirror_file(folder: Path, path: str) -> Path:
    """A file of a repository in a mirror.

    Raises:
        InputError: If it is missing, with what lies in its folder.
    """
    file = folder / safe_path(path, str(folder))
    if not file.is_file():
        raise _missing_file(file, f"Put it back, or {REFRESH}")
    return file


def _missing_file(file: Path, hint: str) -> InputError:
    folder = file.parent
    if not folder.is_dir():
        return InputError(str(file), "the file and its folder are missing", hint=hint)
    there = sorted(path.name for path in folder.iterdir() if path.is_file())
    more = f" and {len(there) - 10} more" if len(there) > 10 else ""
    found = f"{', '.join(there[:10])}{more}" if there else "an empty folder"
    return InputError(str(file), "the file is missing", found=found, hint=hint)


# ---- URLs


def cache_folder() -> Path:
    """Where downloads by URL are kept: below `$XSTILTS_CACHE`, or `~/.cache/xstilts`."""
    root = os.environ.get("XSTILTS_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "xstilts") / "downloads"


def download(url: str, *, force: bool = False) -> Path:
    """A file by URL, in the cache of downloads.

    Args:
        url: Its address (http or https).
        force: Download it even if it is in the cache.

    Raises:
        InputError: If it cannot be had.
    """
    name = PurePosixPath(urlsplit(url).path).name or "file"
    place = cache_folder() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if force or not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            patiently(lambda: _get(url, part), url)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
    return place


def _get(url: str, part: Path) -> None:
    import requests

    # No compression on the way: the server's length is then the file's.
    headers = {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        with part.open("wb") as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)


def local_copy(folder: Path, url: str) -> Path:
    """The user's copy of what a URL gives: by the URL's file name, in a folder or one below it.

    Raises:
        InputError: If there is none, or there are two.
    """
    name = PurePosixPath(urlsplit(url).path).name
    if (file := folder / safe_path(name, url)).is_file():
        return file
    found = sorted(path / name for path in folder.glob("*/") if (path / name).is_file())
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise InputError(str(file), "the file is there twice", found=places, hint="Remove one")
    if not found:
        hint = f"It is a copy of {url}: put it there, or unset the folder under `files`"
        raise _missing_file(file, hint)
    return found[0]


def fill(template: str, code: str) -> str:
    """A template with a language's code in the place of ``{code}``."""
    return template.replace("{code}", code)


def is_archive(url: str) -> bool:
    """Whether a URL's members can be had."""
    return urlsplit(url).path.endswith(_ARCHIVES)


def url_files(
    urls: Mapping[str, str],
    members: Mapping[str, str],
    code: str,
    folder: Path | None = None,
    *,
    local: Path | None = None,
    force: bool = False,
) -> dict[str, dict[str, Any]]:
    """Take the files of a URL source: whole ones, or members of archives.

    Args:
        urls: URL by stored name (``{code}`` allowed in both).
        members: Stored name by path in an archive; empty if archives are wanted whole.
        code: The language's code.
        folder: Where to write the files; None to describe them only.
        local: The user's folder with copies of what the URLs would give, to be used instead.
        force: Download again what is in the cache.

    Returns:
        ``{"size": bytes, "sha256": hex}`` by stored name.

    Raises:
        InputError: If a file cannot be had, or a member is in no archive or in two.
        DamagedError: If an archive cannot be read.
    """
    wanted = {fill(path, code): fill(name, code) for path, name in members.items()}
    addresses = {fill(name, code): fill(url, code) for name, url in urls.items()}
    found: dict[str, dict[str, Any]] = {}
    held: list[str] = []
    for name, url in addresses.items():
        path = local_copy(local, url) if local else download(url, force=force)
        if not (members and is_archive(url)):
            with path.open("rb") as file:
                found[name] = copy_bytes(file, target_path(folder, name, url))
            continue
        with _reading(url):
            for member, stream in _members(path, url):
                held.append(member)
                if (stored := wanted.get(member)) is None:
                    continue
                if stored in found:
                    raise InputError(url, f"the member {member!r} is there twice")
                found[stored] = copy_bytes(stream, target_path(folder, stored, url))
    for member, stored in wanted.items():
        if stored not in found:
            place = ", ".join(addresses.values())
            raise InputError(place, f"there is no member {member!r}", hint=nearest(member, held))
    return found


def target_path(folder: Path | None, name: str, where: str) -> Path | None:
    """Where a file goes below a folder, which is made; None without a folder."""
    if folder is None:
        return None
    target = folder / safe_path(name, where)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the archive
        raise DamagedError(f"the archive cannot be read ({short(error)})") from error


def _members(archive: Path, url: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Path and content of every regular file of an archive; nothing is unpacked by its path."""
    if urlsplit(url).path.endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            for item in opened.infolist():
                if not item.is_dir():
                    with opened.open(item) as content:
                        yield item.filename, content
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name.removeprefix("./"), stream


# ---- files of the user


def user_files(dataset: str, names: Iterable[str], hint: str, code: str) -> dict[str, Path]:
    """The files that the user supplies for a data set, by name.

    Args:
        dataset: The data set; the runtime setting ``files`` names its folder.
        names: Names of the files (``{code}`` allowed).
        hint: How the user comes by them.
        code: The language's code.

    Raises:
        InputError: If the folder is not set or a file is missing.
    """
    folder = runtime().files.get(dataset)
    if folder is None:
        raise InputError(
            f"files.{dataset}",
            f"the folder with the files of {dataset!r} is not set",
            hint=f"{hint}. Then name the folder under `files: {{{dataset}: <folder>}}`",
        )
    found: dict[str, Path] = {}
    for template in names:
        name = fill(template, code)
        found[name] = folder / safe_path(name, f"files.{dataset}")
        if not found[name].is_file():
            raise _missing_file(found[name], hint)
    return found
