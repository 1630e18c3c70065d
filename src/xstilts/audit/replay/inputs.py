"""Whether what an artifact was made from still lies there, byte by byte."""

from __future__ import annotations

from functools import cache

from xstilts.artifacts.manifest import is_inside, sha256_file
from xstilts.audit.findings import Finding
from xstilts.audit.results import Artifact, Results


class Inputs:
    """Checks artifacts before they are read; each is hashed once.

    Args:
        results: The results folder.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.files = cache(self._files)

    def check(self, artifact: Artifact) -> list[Finding]:
        """What is wrong with the inputs of an artifact."""
        found: list[Finding] = []
        for out, sha256 in sorted(artifact.inputs.items()):
            if not is_inside(out):
                problem = f"{artifact.out} names it as an input, and it leads out"
                found.append(Finding(out, "outside", problem))
                continue
            there = self.results.artifacts.get(out)
            if there is None:
                problem = f"{artifact.out} was made from it, and it is not there"
                found.append(Finding(out, "missing", problem))
            elif there.sha256 != sha256:
                problem = f"{artifact.out} was made from another one"
                found.append(
                    Finding(out, "input", problem, f"manifest {sha256}", there.sha256 or "none")
                )
            else:
                found += self.files(out)
        return found

    def _files(self, out: str) -> list[Finding]:
        """What is wrong with the files of an artifact."""
        artifact = self.results.artifacts[out]
        if artifact.manifest is None:
            return [Finding(out, "manifest", str(artifact.error))]
        found = []
        for name, known in artifact.manifest.files.items():
            finding = self._file(f"{out}/{name}", known["sha256"])
            found += [finding] if finding else []
        return found

    def _file(self, name: str, sha256: str) -> Finding | None:
        path = self.results.path / name
        if not path.resolve().is_relative_to(self.results.path):
            return Finding(name, "outside", "leads out of the results folder")
        try:
            there = sha256_file(path)
        except FileNotFoundError:
            return Finding(name, "missing", "is not there")
        except OSError as error:
            return Finding(name, "unreadable", f"cannot be read ({error.strerror})")
        if there != sha256:
            return Finding(name, "changed", "has other bytes than in its manifest", sha256, there)
        return None
