"""A small Hub on loopback: enough of the real API for `huggingface_hub`, with faults to switch on.

It speaks HTTP as the Hub does where clients can tell: commits, paged trees, LFS files behind a
redirect to another host, ETags, ranges. `Hub.file` serves plain files beside it, for URL sources.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from xstilts.artifacts.spec import canonical
from xstilts.runtime import VARIABLE, runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

LFS = (".parquet", ".safetensors", ".bin", ".gz")
_PAGE = 7


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Fault:
    """What is done to the next requests of a path.

    Attributes:
        kind: `error` (an HTTP status), `cut` (the connection ends half way through the body),
            `short` (a shorter file, with headers that agree with it), or `hang` (no answer).
        path: Part of the request's path.
        times: How many requests it still hits.
        status: The status of an error.
    """

    kind: str
    path: str
    times: int
    status: int = 503


@dataclass
class Hub:
    """The server's state; tests change it while it runs.

    Attributes:
        url: Its address.
        requests: `METHOD path` of every request so far.
        faults: Faults that are switched on.
    """

    url: str = ""
    cdn: str = ""
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def publish(
        self, name: str, files: dict[str, bytes], kind: str = "datasets", branch: str = "main"
    ) -> str:
        """Publish a new commit of a repository; the commit's sha."""
        digest = hashlib.sha1(json.dumps([name, branch]).encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + sha256(content).encode())
        commit = digest.hexdigest()
        self.commits.setdefault(f"{kind}/{name}", {})[commit] = dict(files)
        self.branches.setdefault(f"{kind}/{name}", {})[branch] = commit
        return commit

    def publish_folder(self, name: str, folder: Path, kind: str = "datasets") -> str:
        """Publish all files of a folder."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return self.publish(name, files, kind)

    def file(self, path: str, content: bytes) -> str:
        """Serve a plain file; its URL."""
        self.files[path] = content
        return f"{self.url}/files/{path}"

    def fail(self, path: str, times: int, status: int = 503) -> None:
        self.faults.append(Fault("error", path, times, status))

    def cut(self, path: str, times: int) -> None:
        self.faults.append(Fault("cut", path, times))

    def hang(self, path: str, times: int) -> None:
        self.faults.append(Fault("hang", path, times))

    def shorten(self, path: str, times: int) -> None:
        self.faults.append(Fault("short", path, times))

    def hit(self, path: str, kinds: tuple[str, ...]) -> Fault | None:
        """The fault that hits a request, used up by one."""
        for fault in self.faults:
            if fault.times > 0 and fault.kind in kinds and fault.path in path:
                fault.times -= 1
                return fault
        return None

    def commit(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits.get(repository, {})
        sha = self.branches.get(repository, {}).get(revision, revision)
        return (sha, commits[sha]) if sha in commits else None

    def blob(self, digest: str) -> bytes | None:
        for commits in self.commits.values():
            for files in commits.values():
                for content in files.values():
                    if sha256(content) == digest:
                        return content
        return None


_API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?$")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        if self.hub.hit(unquote(path), ("hang",)):
            threading.Event().wait(0.5)
            self.close_connection = True
        elif fault := self.hub.hit(unquote(path), ("error",)):
            self._send(fault.status, b"out of order")
        elif match := _API.match(path):
            self._api(*match.groups())
        elif path.startswith("/cdn/"):
            self._body(self.hub.blob(path.removeprefix("/cdn/")), {})
        elif path.startswith("/files/"):
            self._body(self.hub.files.get(unquote(path.removeprefix("/files/"))), {})
        elif match := _RESOLVE.match(path):
            self._resolve(match[1] or "models/", match[2], unquote(match[3]), unquote(match[4]))
        else:
            self._error(404, "EntryNotFound")

    def _api(self, kind: str, name: str, what: str | None, revision: str | None) -> None:
        repository = f"{kind}/{name}"
        if repository not in self.hub.commits:
            self._error(401, "RepoNotFound")
            return
        found = self.hub.commit(repository, unquote(revision or "main"))
        if found is None:
            self._error(404, "RevisionNotFound")
            return
        sha, files = found
        if what == "tree":
            self._tree(files)
            return
        siblings = [{"rfilename": path} for path in sorted(files)]
        self._json({"id": name, "sha": sha, "private": False, "siblings": siblings})

    def _tree(self, files: dict[str, bytes]) -> None:
        query = parse_qs(urlsplit(self.path).query)
        assert query["recursive"] == ["true"]
        folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
        entries: list[dict[str, object]] = [
            {"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders
        ]
        for path, content in files.items():
            entry = {"type": "file", "path": path, "oid": git_oid(content), "size": len(content)}
            if path.endswith(LFS):
                lfs = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
                entries.append({**entry, "lfs": lfs})
            else:
                entries.append(entry)
        entries.sort(key=lambda entry: str(entry["path"]))
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + _PAGE < len(entries):
            path = urlsplit(self.path).path
            url = f"{self.hub.url}{path}?recursive=true&expand=false&cursor={start + _PAGE}"
            headers["Link"] = f'<{url}>; rel="next"'
        self._json(entries[start : start + _PAGE], headers)

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = f"{kind}{name}"
        if repository not in self.hub.commits:
            self._error(401, "RepoNotFound")
            return
        found = self.hub.commit(repository, revision)
        if found is None:
            self._error(404, "RevisionNotFound")
            return
        sha, files = found
        headers = {"X-Repo-Commit": sha}
        if path not in files:
            self._error(404, "EntryNotFound", headers)
            return
        content = files[path]
        if not path.endswith(LFS):
            self._body(content, {**headers, "ETag": f'"{git_oid(content)}"'})
            return
        digest = sha256(content)
        short = next((f for f in self.hub.faults if f.kind == "short" and f.path in path), None)
        size = len(content) // 2 if short and short.times > 0 else len(content)
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size)}
        location = {"Location": f"{self.hub.cdn}/cdn/{digest}?file={quote(path)}"}
        self._send(302, b"", {**headers, **linked, **location})

    def _body(self, content: bytes | None, headers: dict[str, str]) -> None:
        """A file's bytes, or a range of them; with the faults that change bodies."""
        if content is None:
            self._error(404, "EntryNotFound")
            return
        place = unquote(self.path)
        if self.command == "GET" and self.hub.hit(place, ("short",)):
            content = content[: len(content) // 2]
        headers = {"Accept-Ranges": "bytes", **headers}
        status, start = 200, 0
        if match := re.match(r"bytes=(\d+)-$", self.headers.get("Range", "")):
            status, start = 206, int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        part = content[start:]
        cut = self.command == "GET" and self.hub.hit(place, ("cut",))
        self._send(status, part, headers, len(part) // 2 if cut else None)

    def _json(self, content: object, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(200, json.dumps(content).encode(), {**kind, **(headers or {})})

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        only: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if only is None else body[:only])
        if only is not None:
            self.close_connection = True


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty Hub on loopback until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    # LFS files come from another host than the Hub itself, as they really do.
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.cdn = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, hub: Hub, home: Path) -> list[float]:
    """Point this process's `huggingface_hub` at a server, with an empty cache.

    Returns:
        The pauses between attempts, which are not waited for.
    """
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XSTILTS_CACHE", str(home / "xstilts"))
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def set_runtime(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Give this process runtime settings, until the end of the test."""
    monkeypatch.setenv(VARIABLE, canonical(settings))
    runtime.cache_clear()
