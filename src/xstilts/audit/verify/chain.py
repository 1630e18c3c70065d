"""The chain of manifests: each usable, at its place, and the one that others were made from.

What knows a manifest by its sha256 is a witness of it: the root manifest, the index of its bundle,
and each artifact that was made from it. Where the witnesses agree on another one, the manifest was
changed after them, and is *doubtful*: what it says is no measure for its files, and what differs
from it further down is no finding of its own.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from xstilts.artifacts.manifest import MANIFEST, VERSION, Manifest, is_inside
from xstilts.artifacts.root import ROOT, Root, read_root
from xstilts.artifacts.spec import spec_sha256
from xstilts.audit.findings import Finding
from xstilts.audit.results import Artifact, Results
from xstilts.audit.verify.listing import Listing, prefixes
from xstilts.errors import InputError, OtherVersion


def artifacts_of(results: Results, only: str = "") -> dict[str, Artifact]:
    """The artifacts of a results folder; or one, and all that it was made from, further up too.

    No folder is entered through a link.
    """
    if not only:
        return results.artifacts
    found: dict[str, Artifact] = {}
    waiting = [only]
    while waiting:
        out = waiting.pop()
        if out in found or not is_inside(out) or _is_behind_link(results.path, out):
            continue
        if os.path.lexists(results.path / out / MANIFEST):
            found[out] = results.read(out)
            waiting += found[out].inputs
    return found


def _is_behind_link(results: Path, out: str) -> bool:
    return any((results / part).is_symlink() for part in prefixes(out))


def root_manifest(results: Path) -> tuple[Root | None, list[Finding]]:
    """The root manifest, where there is one that can be used, and what is wrong with it."""
    path = results / ROOT
    if not os.path.lexists(path):
        text = "there is no root manifest, so nothing holds the records of how artifacts were made"
        hint = "Snakemake writes it when everything is made"
        return None, [Finding(ROOT, "root", text, hint=hint, level="note")]
    if not path.is_file():
        return None, [Finding(ROOT, "unreadable", "is no plain file")]
    link = [Finding(ROOT, "link", _A_LINK, found=os.readlink(path))] if path.is_symlink() else []
    try:
        root = read_root(results)
    except InputError as error:
        kind = "version" if _is_newer(error) else "root"
        return None, [*link, Finding(ROOT, kind, str(error).partition(": ")[2])]
    if root is None or not _is_whole(root):
        return None, [*link, Finding(ROOT, "root", "is no root manifest")]
    if path.read_text(encoding="utf-8") != root.to_json():
        text = "is not as it is written: it was edited"
        return root, [*link, Finding(ROOT, "root", text)]
    return root, link


_A_LINK = "a link stands in its place"


def _is_whole(root: Root) -> bool:
    """Whether its values are of the kinds that they must be."""
    artifacts = root.artifacts
    if not (isinstance(artifacts, dict) and isinstance(root.study, str)):
        return False
    return all(
        is_inside(out)
        and isinstance(files, dict)
        and isinstance(files.get("manifest"), str)
        and all(isinstance(sha256, str) for sha256 in files.values())
        for out, files in artifacts.items()
    )


def _is_newer(error: InputError | None) -> bool:
    """Whether a file cannot be used because newer code has written it."""
    return isinstance(error, OtherVersion) and error.is_newer


class Chain:
    """The manifests of a results folder, each against all that knows it.

    Args:
        results: The results folder.
        artifacts: Those that are looked at.
        root: Its root manifest.
        listing: What lies in the folder.

    Attributes:
        findings: What is wrong.
        doubtful: Artifacts whose manifest is not the one that was written, or cannot be used.
        absent: Artifacts that something names, and whose folder or manifest is not there.
        known: Sha256 of a manifest as its witnesses have it, where they agree.
    """

    def __init__(
        self,
        results: Results,
        artifacts: Mapping[str, Artifact],
        root: Root | None,
        listing: Listing,
    ) -> None:
        self.results, self.artifacts, self.listing = results, artifacts, listing
        listed = root.artifacts if root else {}
        self.root = {out: listed[out]["manifest"] for out in listed}
        self.findings: list[Finding] = []
        self.doubtful: set[str] = set()
        self.witnesses = self._witnesses()
        self.known = self._known()
        self.absent = (self.witnesses.keys() | self.root.keys()) - artifacts.keys()

    def check(self, whole: bool) -> None:
        """Look at all of it.

        Args:
            whole: Whether all artifacts are looked at, so that what the root manifest lists
                beyond them is missing, and what it does not list is an orphan.
        """
        if not whole:
            self.absent &= self.witnesses.keys()
        for artifact in self.artifacts.values():
            if faults := list(self._own(artifact)):
                self.findings += faults
                self.doubtful.add(artifact.out)
        # What a manifest names that does not even agree with itself need not exist.
        self.absent -= {out for out in self.absent - self.root.keys() if not self._trusted(out)}
        self._loops()
        self._changed()
        self._inputs()
        self._members()
        self._swapped()
        self._absent()
        if self.root and whole:
            self._orphans()

    def made_from(self, out: str) -> set[str]:
        """All artifacts that one stands on, itself not counted; also those that are gone."""
        found: set[str] = set()
        waiting = [out]
        while waiting:
            above = self.artifacts.get(waiting.pop())
            new = (set(above.inputs) if above else set()) - found
            found |= new
            waiting += new
        return found

    # ---- what is known of each

    def _witnesses(self) -> dict[str, dict[str, str]]:
        """Sha256 of a manifest, by what was made from it, by its artifact."""
        found: dict[str, dict[str, str]] = {}
        for artifact in self.artifacts.values():
            for name, sha256 in artifact.inputs.items():
                if is_inside(name):
                    found.setdefault(name, {})[artifact.out] = sha256
        return found

    def _known(self) -> dict[str, str]:
        agreed = {
            out: next(iter(by.values()))
            for out, by in self.witnesses.items()
            if len(set(by.values())) == 1
        }
        return agreed | self.root

    # ---- one manifest by itself

    def _own(self, artifact: Artifact) -> Iterator[Finding]:
        path, manifest = f"{artifact.out}/{MANIFEST}", artifact.manifest
        if path in self.listing.links:
            yield Finding(path, "link", _A_LINK, found=self.listing.links[path])
        if manifest is None:
            yield self._unusable(artifact, path)
            return
        if manifest.artifact != artifact.out:
            text = "is the manifest of another place"
            yield Finding(path, "manifest", text, expected=artifact.out, found=manifest.artifact)
        yield from _outside(path, manifest)
        yield from _inconsistent(path, artifact)

    def _unusable(self, artifact: Artifact, path: str) -> Finding:
        if path in self.listing.odd or path in self.listing.folders:
            found = self.listing.odd.get(path, "a folder")
            return Finding(path, "unreadable", "is no plain file", found=found)
        if not artifact.sha256:
            why = str(artifact.error).partition(": ")[2]
            return Finding(path, "unreadable", why or "cannot be read")
        if _is_newer(artifact.error):
            text = "is of a newer version"
            hint = "Look at it with the version of xstilts that made it"
            return Finding(path, "version", text, expected=f"at most {VERSION}", hint=hint)
        return Finding(path, "manifest", str(artifact.error).partition(": ")[2])

    # ---- manifests and their witnesses

    def _loops(self) -> None:
        """Artifacts that are made from each other; each loop is opened at one place, then on."""
        graph = {out: set(artifact.inputs) for out, artifact in self.artifacts.items()}
        while True:
            try:
                TopologicalSorter(graph).prepare()
            except CycleError as error:
                loop: list[str] = error.args[1]
            else:
                return
            graph[loop[1]].discard(loop[0])
            text = "is made from itself, through others" if len(loop) > 2 else "is made from itself"
            self.findings.append(
                Finding(f"{min(loop)}/{MANIFEST}", "loop", text, found=" ← ".join(loop))
            )
            self.doubtful |= set(loop)

    def _changed(self) -> None:
        """Manifests that are not those that others know."""
        for out, artifact in self.artifacts.items():
            expected = self.root.get(out, artifact.sha256)
            if expected != artifact.sha256 and out not in self.doubtful:
                made = [by for by, sha256 in self._trusted(out).items() if sha256 == expected]
                text = "is not the one that root.json lists" + _and_made(made)
                self._doubt(out, "root", text, expected)
        found = True
        while found:  # who is doubted himself is no witness, so one may show the next
            found = False
            for out in sorted(self.artifacts.keys() - self.doubtful - self.root.keys()):
                by = self._trusted(out)
                known = set(by.values())
                if len(known) == 1 and self.artifacts[out].sha256 not in known:
                    text = f"is not the one that {_some(by)} made from"
                    self._doubt(out, "input", text, *known)
                    found = True

    def _doubt(self, out: str, kind: str, text: str, expected: str) -> None:
        place, found = f"{out}/{MANIFEST}", self.artifacts[out].sha256
        self.findings.append(Finding(place, kind, text, _short(expected), _short(found)))
        self.doubtful.add(out)

    def _trusted(self, out: str) -> dict[str, str]:
        """What those say of a manifest whose own is not doubtful."""
        by = self.witnesses.get(out, {})
        return {name: sha256 for name, sha256 in by.items() if name not in self.doubtful}

    def _inputs(self) -> None:
        """Artifacts that were made from another manifest, where neither of both is doubtful."""
        for name in self.artifacts.keys() - self.doubtful:
            found = self.artifacts[name].sha256
            for out, sha256 in self._trusted(name).items():
                if sha256 != found:
                    text = f"was made from another {name}"
                    place = f"{out}/{MANIFEST}"
                    self.findings.append(
                        Finding(place, "input", text, _short(sha256), _short(found))
                    )

    def _members(self) -> None:
        """Specs of members, which an index holds beside their manifests."""
        for out, index in self.artifacts.items():
            if not index.is_index or out in self.doubtful:
                continue
            for name, spec in index.spec["members"].items():
                member = self.artifacts.get(name)
                if member is None or member.manifest is None or name in self.doubtful:
                    continue
                own = spec_sha256(member.manifest.spec)
                if own != spec:
                    text = f"lists another spec of {name}"
                    place = f"{out}/{MANIFEST}"
                    self.findings.append(
                        Finding(place, "manifest", text, _short(own), _short(spec))
                    )

    def _swapped(self) -> None:
        """Two manifests that each say they are of the other's place."""
        says = {
            f"{out}/{MANIFEST}": f"{artifact.manifest.artifact}/{MANIFEST}"
            for out, artifact in self.artifacts.items()
            if artifact.manifest and artifact.manifest.artifact != out
        }
        pairs = {place for place, other in says.items() if says.get(other) == place}
        kept = [f for f in self.findings if not (f.kind == "manifest" and f.path in pairs)]
        for place in sorted(pairs):
            if place < says[place]:
                text = "has changed places with another manifest"
                kept.append(Finding(place, "swapped", text, found=says[place]))
        self.findings = kept

    # ---- what is not there

    def _absent(self) -> None:
        """One finding for all artifacts that are gone for the same reason."""
        reasons: dict[Finding, list[str]] = {}
        for out in sorted(self.absent):
            reasons.setdefault(self._reason(out), []).append(out)
        for finding, outs in reasons.items():
            if len(outs) > 1:
                problem = f"{finding.problem}; {len(outs)} artifacts lay below"
                finding = replace(finding, problem=problem)
            self.findings.append(finding)

    def _reason(self, out: str) -> Finding:
        """Why an artifact that something names is not there."""
        if moved := self._moved_to(out):
            old, new = differ(out, moved)
            text = "has another name now"
            place = (f"{moved}/{MANIFEST}", "manifest", out)
            self.findings = [f for f in self.findings if (f.path, f.kind, f.found) != place]
            if self.artifacts[moved].sha256 == self.known.get(out):
                self.doubtful.discard(moved)
            return Finding(old, "renamed", text, found=new)
        for part in prefixes(out):
            if part in self.listing.links:
                return Finding(part, "link", _A_LINK, found=self.listing.links[part])
            if part in self.listing.errors:
                why = f"the folder cannot be read ({self.listing.errors[part]})"
                return Finding(part, "unreadable", why)
            if part in self.listing.files or part in self.listing.odd:
                what = self.listing.odd.get(part, "a file")
                return Finding(part, "unreadable", "is no folder", found=what)
            if part not in self.listing.folders:
                by = self.witnesses.get(out, {})
                if part != out:
                    return Finding(part, "missing", "the folder is missing")
                return Finding(
                    out, "missing", "the artifact is missing" + _and_made(by, ";", " made from it")
                )
        return Finding(f"{out}/{MANIFEST}", "missing", "the manifest is missing")

    def _moved_to(self, out: str) -> str | None:
        """Where an artifact lies now, by what its manifest says of its place."""
        return next(
            (
                name
                for name, artifact in self.artifacts.items()
                if artifact.manifest and artifact.manifest.artifact == out != name
            ),
            None,
        )

    def _orphans(self) -> None:
        wrong = {finding.path for finding in self.findings}
        for out in self.artifacts.keys() - self.root.keys():
            if f"{out}/{MANIFEST}" not in wrong and not self._is_moved(out):
                text = f"{ROOT} does not list this artifact"
                self.findings.append(Finding(out, "orphan", text, level="note"))

    def _is_moved(self, out: str) -> bool:
        manifest = self.artifacts[out].manifest
        return manifest is not None and manifest.artifact in self.absent


def _outside(path: str, manifest: Manifest) -> Iterator[Finding]:
    """Names of inputs and files that lead out of their folder, and would be looked for there."""
    for name in (*manifest.inputs, *_named(manifest), *manifest.files):
        if not is_inside(name):
            yield Finding(path, "outside", "names what is no path inside", found=repr(name))
            return


def _inconsistent(path: str, artifact: Artifact) -> Iterator[Finding]:
    """Parts of one manifest that must say the same, and do not."""
    manifest = artifact.manifest
    assert manifest is not None
    if odd := sorted(_named(manifest) ^ manifest.inputs.keys()):
        text = "`inputs` and the inputs of `spec` are not the same artifacts"
        yield Finding(path, "manifest", text, found=", ".join(odd))
    elif artifact.is_index and artifact.spec["members"].keys() != manifest.inputs.keys():
        yield Finding(path, "manifest", "`inputs` and `spec.members` are not the same artifacts")
    elif artifact.is_index and manifest.files:
        yield Finding(path, "manifest", "the index of a bundle has no files, and this lists some")


def _named(manifest: Manifest) -> set[str]:
    """Folders that a spec names as inputs."""
    values = manifest.spec.get("inputs", {}).values()
    return {name for value in values for name in ([value] if isinstance(value, str) else value)}


def differ(old: str, new: str) -> tuple[str, str]:
    """Two paths up to where they differ last: what of them was renamed."""
    first, second = old.split("/"), new.split("/")
    while len(first) > 1 and len(second) > 1 and first[-1] == second[-1]:
        first.pop(), second.pop()
    return "/".join(first), "/".join(second)


def _some(names: Iterable[str]) -> str:
    """`a was`, or `a and 3 others were`."""
    first, *others = sorted(names)
    if not others:
        return f"{first} was"
    return f"{first} and {len(others)} other{'s' * (len(others) > 1)} were"


def _and_made(names: Collection[str], link: str = " and", end: str = " made from") -> str:
    return f"{link} {_some(names)}{end}" if names else ""


def _short(sha256: str) -> str:
    return f"sha256 {sha256}"
