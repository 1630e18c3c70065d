"""The files of artifacts, against their manifests: each there, plain, and of the listed bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from xstilts.artifacts.manifest import MANIFEST, is_inside
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.root import Root
from xstilts.audit.findings import Finding, Level
from xstilts.audit.results import Results
from xstilts.audit.verify.chain import Chain, differ
from xstilts.audit.verify.endings import is_cut
from xstilts.audit.verify.hashing import Digest, hash_files
from xstilts.audit.verify.listing import Listing, prefixes

#: Seconds that clocks of machines may differ by.
_CLOCKS = 600.0
#: Files that a stage copies with their times, so that they are older than its run.
_COPIED = {"report": "static/"}
#: Findings that a manifest which is not to be trusted gives of its files.
_BY_MANIFEST = {"changed", "truncated", "missing", "stranger", "renamed"}


@dataclass(frozen=True)
class Expected:
    """What is known of a file.

    Attributes:
        sha256: Hex; empty where it is not known.
        size: In bytes; None where it is not known.
        out: The artifact that it belongs to.
    """

    sha256: str
    size: int | None
    out: str


class Contents:
    """The files of some artifacts.

    Args:
        results: The results folder.
        chain: Their manifests, looked at before.
        root: The root manifest.
        listing: What lies there.
        absent: Files that are kept elsewhere, by reference, with their sizes.

    Attributes:
        findings: What is wrong.
        digests: Of files that were hashed, by path.
        unchecked: Bytes of files that are kept elsewhere.
    """

    def __init__(
        self,
        results: Results,
        chain: Chain,
        root: Root | None,
        listing: Listing,
        absent: Mapping[str, int],
    ) -> None:
        self.results, self.chain, self.listing = results, chain, listing
        self.findings: list[Finding] = []
        self.digests: dict[str, Digest] = {}
        self.expected = _expected(chain, root)
        self.away = {path: size for path, size in absent.items() if not listing.holds(path)}
        self.unchecked = sum(self.away.values())

    def check(self, shallow: bool = False, threads: int | None = None, tell: bool = False) -> None:
        """Look at all files.

        Args:
            shallow: Whether to look at sizes only.
            threads: Threads that hash; None for one per CPU.
            tell: Whether to write progress on standard error.
        """
        wrong = []
        there = [path for path in self.expected if path in self.listing.files]
        gone = [path for path in self.expected if self._is_gone(path)]
        strangers = self._strangers()
        if not shallow:
            self._hash([*there, *self._candidates(gone, strangers)], threads, tell)
        wrong += self._manifests()
        for path in there:
            if finding := self._unreadable(path):
                self.findings.append(finding)
            elif self._differs(path):
                wrong.append(path)
        gone, strangers = self._renamed(gone, strangers)
        self._missing(gone)
        self._wrong(wrong)
        self._unlisted(strangers)
        self._fold()
        self._times()

    def _hash(self, paths: list[str], threads: int | None, tell: bool) -> None:
        sizes = {self.results.path / path: self.listing.files[path].st_size for path in paths}
        found = hash_files(sizes, threads, tell)
        self.digests = {path: found[self.results.path / path] for path in paths}

    def _manifests(self) -> list[str]:
        """Manifests that are not the known ones: the bytes may be another file's, and reverse."""
        found = []
        for out in self.chain.doubtful:
            sha256, path = self.chain.artifacts[out].sha256, f"{out}/{MANIFEST}"
            known, status = self.chain.known.get(out, sha256), self.listing.files.get(path)
            if status and sha256 != known:
                self.expected[path] = Expected(known, None, out)
                self.digests[path] = Digest(sha256, status.st_size)
                found.append(path)
        return found

    # ---- each file

    def _differs(self, path: str) -> bool:
        expected, digest = self.expected[path], self.digests.get(path)
        if not expected.sha256 and path.endswith(f"/{PROVENANCE}"):
            return not _is_record(self.results.path / path)
        if digest is None or not expected.sha256:
            size = self.listing.files[path].st_size
            return expected.size is not None and size != expected.size
        return digest.sha256 != expected.sha256

    def _unreadable(self, path: str) -> Finding | None:
        digest = self.digests.get(path)
        if digest is None or not digest.error:
            return None
        return Finding(path, "unreadable", f"cannot be read ({digest.error})")

    def _is_gone(self, path: str) -> bool:
        return path not in self.listing.files and path not in self.away

    def _strangers(self) -> list[str]:
        """What lies there and is listed nowhere; in an artifact without a manifest all may be."""
        manifests = {f"{out}/{MANIFEST}" for out in self.chain.artifacts}
        known = self.expected.keys() | manifests
        unlisted = self.listing.unlisted(known)
        return [path for path in unlisted if not self.listing.above(path, self.chain.absent)]

    def _candidates(self, gone: list[str], strangers: list[str]) -> list[str]:
        """Strangers that may be lost files under another name."""
        if not gone:
            return []
        sizes = {self.expected[path].size for path in gone}
        files = self.listing.files
        lost = self.chain.absent
        near = [path for path in files if self.listing.above(path, lost)]
        return [
            path
            for path in {*strangers, *near}
            if path in files and (files[path].st_size in sizes or None in sizes)
        ]

    def _renamed(self, gone: list[str], strangers: list[str]) -> tuple[list[str], list[str]]:
        """Lost files that lie there under another name."""
        by_sha256: dict[str, list[str]] = {}
        for path, digest in sorted(self.digests.items()):
            if path not in self.expected:
                by_sha256.setdefault(digest.sha256, []).append(path)
        left, pairs = [], dict[str, str]()
        for path in gone:
            names = by_sha256.get(self.expected[path].sha256)
            if names and not self.listing.holds(path):
                pairs[path] = names.pop(0)
            else:
                left.append(path)
        named = dict(self._pair(path, name) for path, name in pairs.items())
        text = "has another name now"
        self.findings += [Finding(old, "renamed", text, found=new) for old, new in named.items()]
        # A manifest that was renamed is not missing.
        self.chain.findings = [
            finding
            for finding in self.chain.findings
            if finding.kind != "missing" or finding.path not in pairs
        ]
        return left, [path for path in strangers if path not in pairs.values()]

    def _pair(self, path: str, name: str) -> tuple[str, str]:
        """A file's names before and now; its folder's, where that was renamed."""
        old, new = differ(path, name)
        return (path, name) if self.listing.holds(old) else (old, new)

    def _missing(self, gone: list[str]) -> None:
        """Files that are not there; one finding for all that are gone for one reason."""
        seen = set()
        for path in gone:
            if self.expected[path].out in self.chain.absent or path.endswith(f"/{MANIFEST}"):
                continue  # said of the artifact
            finding = self._reason(path)
            if finding not in seen:
                seen.add(finding)
                self.findings.append(finding)

    def _reason(self, path: str) -> Finding:
        for part in prefixes(path):
            if part in self.listing.links:
                text = "a link stands in its place"
                return Finding(part, "link", text, found=self.listing.links[part])
            if part in self.listing.errors:
                why = f"the folder cannot be read ({self.listing.errors[part]})"
                return Finding(part, "unreadable", why)
            if part in self.listing.odd:
                return Finding(part, "unreadable", "is no plain file", found=self.listing.odd[part])
            if part in self.listing.files:
                return Finding(part, "unreadable", "is no folder", found="a file")
        if path in self.listing.folders:
            return Finding(path, "unreadable", "is no plain file", found="a folder")
        return Finding(path, "missing", "the file is missing")

    # ---- wrong bytes

    def _wrong(self, wrong: list[str]) -> None:
        """Files with other bytes; those of another file, or the beginning of their own, say so."""
        owners: dict[str, list[str]] = {}
        for path, expected in self.expected.items():
            if expected.sha256 and expected.size != 0:
                owners.setdefault(expected.sha256, []).append(path)
        left = set(wrong)
        for path in wrong:
            digest = self.digests.get(path)
            names = owners.get(digest.sha256, []) if digest else []
            pair = next((name for name in names if name in left and self._has(name, path)), None)
            if path not in left:
                continue
            left.discard(path)
            if pair:
                left.discard(pair)
                self._swapped(path, pair)
            elif not path.endswith(f"/{MANIFEST}"):  # of which all else is said already
                self.findings.append(self._changed(path, names))

    def _swapped(self, path: str, other: str) -> None:
        """Two files with each other's bytes; what was said of one that is a manifest is less."""
        said = [finding for finding in self.chain.findings if finding.path not in (path, other)]
        if not any(f.kind == "swapped" for f in self.chain.findings if f not in said):
            self.chain.findings = said
            text = "has changed places with another file"
            self.findings.append(Finding(path, "swapped", text, found=other))

    def _has(self, path: str, other: str) -> bool:
        """Whether a file has the bytes that another should have."""
        return path != other and self.digests[path].sha256 == self.expected[other].sha256

    def _changed(self, path: str, owners: list[str]) -> Finding:
        expected, digest = self.expected[path], self.digests.get(path)
        size = self.listing.files[path].st_size
        if not expected.sha256:
            return Finding(path, "changed", "is no record of an artifact's making")
        if owners:
            text = "has the bytes of another file"
            return Finding(path, "changed", text, found=owners[0])
        if expected.size is not None and size != expected.size:
            of_size = (f"{expected.size:,} bytes", f"{size:,} bytes")
            if size < expected.size and is_cut(self.results.path / path):
                return Finding(path, "truncated", "breaks off", *of_size)
            text = "has another size than in its manifest"
            return Finding(path, "changed", text, *of_size)
        if expected.size is None and is_cut(self.results.path / path):
            return Finding(path, "truncated", "breaks off")
        where = "in root.json" if expected.size is None else "in its manifest"
        text = f"has other bytes than {where}"
        found = f"sha256 {digest.sha256}" if digest else None
        return Finding(path, "changed", text, f"sha256 {expected.sha256}", found)

    # ---- what no manifest lists

    def _unlisted(self, strangers: list[str]) -> None:
        known = {part for path in self.expected for part in prefixes(path)[:-1]}
        # Of what was named already, as a folder in the place of a file, nothing more is said.
        named = {finding.path for finding in (*self.findings, *self.chain.findings)}
        groups: dict[str, int] = {}
        for path in strangers:
            if not self.listing.above(path, named):
                top = next(part for part in prefixes(path) if part not in known)
                groups[top] = groups.get(top, 0) + 1
        for top, count in groups.items():
            inside = self.listing.above(top, self.chain.artifacts)
            what = "file" if top not in self.listing.folders else f"folder of {count} files"
            if top in self.listing.links:
                text = "a link that no manifest lists"
            elif inside:
                text = f"a {what} that no manifest lists"
            else:
                text = f"a {what} that belongs to no artifact"
            level: Level = "fault" if inside else "note"
            self.findings.append(Finding(top, "stranger", text, level=level))

    # ---- consequences, and times

    def _fold(self) -> None:
        """Of files that are not as a doubtful manifest says, only their number is worth a word."""
        counts: dict[str, int] = {}
        kept = []
        for finding in self.findings:
            out = self.listing.above(finding.path, self.chain.doubtful)
            if out and self._is_by_manifest(finding):
                counts[out] = counts.get(out, 0) + 1
            else:
                kept.append(finding)
        self.findings = kept
        for number, finding in enumerate(self.chain.findings):
            out = finding.path.removesuffix(f"/{MANIFEST}")
            if count := counts.pop(out, 0):
                verb = "file is" if count == 1 else "files are"
                text = f"{finding.problem}; {count} {verb} not as it says"
                self.chain.findings[number] = replace(finding, problem=text)

    def _is_by_manifest(self, finding: Finding) -> bool:
        """Whether a finding in an artifact says no more than that its manifest is another."""
        if finding.path.endswith(f"/{PROVENANCE}"):
            return False
        if finding.kind == "swapped":
            if MANIFEST in (Path(finding.path).name, Path(finding.found or "").name):
                return False
            return self.listing.above(finding.found or "", self.chain.doubtful) is not None
        return finding.kind in _BY_MANIFEST

    def _times(self) -> None:
        """Files that are older than the first attempt at their artifact; a copy is never older."""
        old = []
        for out, artifact in self.chain.artifacts.items():
            begun = _begun(self.results.provenance(out))
            if begun is None or out in self.chain.doubtful:
                continue
            copied = _COPIED.get(artifact.stage)
            names = [MANIFEST, PROVENANCE, *(artifact.manifest.files if artifact.manifest else ())]
            for name in names:
                status = self.listing.files.get(f"{out}/{name}")
                own = not (copied and name.startswith(copied))
                if own and status and status.st_mtime < begun - _CLOCKS:
                    old.append((f"{out}/{name}", status.st_mtime, begun))
        self.findings += _old(old, len(self.expected))


def _old(old: list[tuple[str, float, float]], count: int) -> Iterator[Finding]:
    if len(old) > count / 2:
        text = f"{len(old):,} files are older than their own making: something has set their times"
        yield Finding(".", "time", text, level="note")
        return
    for path, found, begun in old:
        expected, time = f"{_day(begun)} or later", _day(found)
        text = "is older than its own making"
        yield Finding(path, "time", text, expected, time, level="note")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _begun(provenance: Mapping[str, object]) -> float | None:
    """When the first attempt at an artifact began, in Unix time."""
    try:
        attempts = provenance["attempts"]
        return datetime.fromisoformat(attempts[0]["start"]).timestamp()  # type: ignore[index]
    except (LookupError, TypeError, ValueError):
        return None


def _expected(chain: Chain, root: Root | None) -> dict[str, Expected]:
    """All files that should be there: of the manifests, the records, and lost manifests."""
    found = {}
    for out, artifact in chain.artifacts.items():
        files = artifact.manifest.files if artifact.manifest else {}
        for name, entry in files.items():
            if is_inside(name):
                found[f"{out}/{name}"] = Expected(entry["sha256"], entry["size"], out)
        record = root.artifacts.get(out, {}).get("provenance", "") if root else ""
        found[f"{out}/{PROVENANCE}"] = Expected(record, None, out)
    for out in chain.absent:
        if chain.listing.holds(out):
            found[f"{out}/{MANIFEST}"] = Expected(chain.known.get(out, ""), None, out)
    return found


def _is_record(path: Path) -> bool:
    """Whether a file is the record of an artifact's making."""
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (ValueError, RecursionError):
        return False
