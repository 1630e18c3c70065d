"""What an audit finds: one line each, that names the place and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

#: fault: something does not hold; note: worth knowing, and no fault.
Level = Literal["fault", "note"]

#: What can be found, by its name in JSON and tables.
KINDS = {
    "changed": "a file has other bytes than in its manifest",
    "truncated": "a file is the beginning of what its manifest lists",
    "missing": "a file, an artifact or a manifest is not there",
    "renamed": "a file has another name than in its manifest",
    "swapped": "two files have each other's bytes",
    "link": "a link stands in the place of a file or folder",
    "stranger": "a file that no manifest lists",
    "orphan": "an artifact that the study does not know",
    "manifest": "a manifest is damaged, or not that of its place",
    "version": "a manifest is of a newer version",
    "input": "an artifact was made from another manifest than lies there",
    "loop": "artifacts are made from each other",
    "outside": "a path leads out of the results folder",
    "unreadable": "a file cannot be read",
    "root": "an artifact is not the one that the root manifest lists",
    "signature": "the root manifest is not the one that was signed",
    "recomputed": "made again from what it stands on, it comes out differently",
    "code": "made by other code than there is now",
    "time": "a file is older than its own making",
}


@dataclass(frozen=True)
class Finding:
    """Something that an audit found.

    Attributes:
        path: The place, below the results folder; of a row, with its number: ``tables/x.csv:3``.
        kind: One of `KINDS`.
        problem: What is wrong, as a sentence without a full stop.
        expected: What would have been right.
        found: What was there instead.
        hint: What to do.
        level: Whether it is a fault.
    """

    path: str
    kind: str
    problem: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    level: Level = "fault"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no kind of finding is called {self.kind!r}")

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.problem}"]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        return f"{self.kind:<10}  " + "; ".join(parts) + (f". {self.hint}" if self.hint else "")

    def content(self) -> dict[str, Any]:
        """For JSON; without what is not known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def faults(findings: Iterable[Finding]) -> list[Finding]:
    """Those that say that something does not hold."""
    return [finding for finding in findings if finding.level == "fault"]
