"""The artifacts behind the scores, from their manifests: what each was made from, and its bytes.

Dates, machines and versions are not in it: they stand in each artifact's `provenance.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, Manifest, read_manifest, sha256_file
from xstilts.artifacts.spec import spec_sha256

#: What the artifact of a stage is called.
STAGES = {
    "score": "Scores",
    "evaluate": "Predictions",
    "sweep": "Choice of a hidden state",
    "finetune": "Fine-tuned checkpoint",
    "intermediate": "Intermediate checkpoint",
    "merge": "Checkpoint with its adapter merged",
    "pretrain": "Base model, pretrained here",
    "fetch_model": "Base model",
    "tokenizer": "Tokenizer",
    "testset": "Test data",
    "tokens": "Sub-words",
    "prompts": "Prompts",
    "prepare": "Prepared rows",
    "translate": "Translated rows",
    "fetch": "Source files",
    "fetch_translator": "Translator",
}
#: Inputs of scores and predictions that the test data hold already: they are not listed again.
_OF_TEST_DATA = {"tokens", "prepared", "gold", "pool", "pool_tokens", "pool_prepared"}


@dataclass(frozen=True)
class Artifact:
    """An artifact and what its manifest says.

    Attributes:
        out: Its folder below the results folder.
        manifest: Its manifest; None where the folder is gone.
        sha256: Of the manifest; empty where the folder is gone.
        expected: What those made from it recorded; differs where it was made again since.
    """

    out: str
    manifest: Manifest | None
    sha256: str
    expected: set[str] = field(default_factory=set)

    @property
    def stage(self) -> str:
        """Its stage, by its manifest."""
        return str(self.manifest.spec.get("stage", "")) if self.manifest else ""

    @property
    def title(self) -> str:
        """What it is."""
        title = STAGES.get(self.stage, self.stage.capitalize() or "Artifact")
        lora = (self.spec.get("settings") or {}).get("lora")
        return title.replace("checkpoint", "adapter") if lora else title

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its spec; empty where it is gone."""
        return self.manifest.spec if self.manifest else {}

    @property
    def spec_sha256(self) -> str:
        """Sha256 of its spec."""
        return spec_sha256(self.manifest.spec) if self.manifest else ""

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """Size and sha256 of each file."""
        return self.manifest.files if self.manifest else {}

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(int(entry["size"]) for entry in self.files.values())

    @property
    def changed(self) -> bool:
        """Whether something was made from other bytes of it than there are now."""
        return self.manifest is not None and bool(self.expected - {self.sha256})

    @property
    def inputs(self) -> list[tuple[str, list[str]]]:
        """Folders that it was made from, by role; without what the test data hold."""
        found = []
        for role, value in self.spec.get("inputs", {}).items():
            if self.stage in ("score", "evaluate", "sweep") and role in _OF_TEST_DATA:
                continue
            names = [value] if isinstance(value, str) else list(dict.fromkeys(value))
            if names:
                found.append((role.replace("_", " "), names))
        return sorted(found)

    @property
    def page(self) -> str:
        """The page that lists it, from the root of the report."""
        return page_of(self.out)

    @property
    def href(self) -> str:
        """Its place on that page."""
        return href_of(self.out)


def page_of(out: str) -> str:
    """The page that lists an artifact, from the root of the report."""
    parts = out.split("/")
    if parts[0] in ("scores", "predictions", "checkpoints", "merged", "layers") and len(parts) > 2:
        return f"lineage/cells/{parts[1]}/{parts[2]}.html"
    if parts[0] == "models":
        return f"lineage/models/{parts[1]}.html"
    if parts[0] == "data" and len(parts) > 2:
        of_model = ("tokens", "prompts", "questions", "testsets")
        kind = "models" if parts[1] in of_model else "data"
        return f"lineage/{kind}/{parts[2]}.html"
    return "lineage/other.html"


def href_of(out: str) -> str:
    """An artifact's place on its page."""
    return f"{page_of(out)}#{out}"


class Lineage:
    """All artifacts that scores stand on, found from manifest to manifest.

    Args:
        outs: Folders to begin with.
    """

    def __init__(self, outs: Iterable[str]) -> None:
        self.artifacts: dict[str, Artifact] = {}
        expected: dict[str, set[str]] = {}
        waiting = list(dict.fromkeys(outs))
        for out in waiting:
            path = Path(out) / MANIFEST
            manifest = read_manifest(path.parent) if path.exists() else None
            sha256 = sha256_file(path) if manifest else ""
            self.artifacts[out] = Artifact(out, manifest, sha256, expected.setdefault(out, set()))
            for name, known in (manifest.inputs if manifest else {}).items():
                if name not in expected:
                    waiting.append(name)
                expected.setdefault(name, set()).add(known)

    def __getitem__(self, out: str) -> Artifact:
        return self.artifacts[out]

    def of(self, *stages: str) -> list[Artifact]:
        """Artifacts of some stages, in the order of their folders."""
        found = (item for item in self.artifacts.values() if item.stage in stages)
        return sorted(found, key=lambda item: item.out)

    @cached_property
    def pages(self) -> dict[str, list[Artifact]]:
        """The artifacts of each page."""
        found: dict[str, list[Artifact]] = {}
        for out in sorted(self.artifacts):
            found.setdefault(page_of(out), []).append(self.artifacts[out])
        return found

    def chain(self, out: str) -> Iterator[Artifact]:
        """From scores through predictions and checkpoints to the model."""
        roles = ("predictions", "checkpoint", "adapter", "model")
        while out in self.artifacts:
            item = self.artifacts[out]
            yield item
            named = item.spec.get("inputs", {})
            out = next((named[role] for role in roles if isinstance(named.get(role), str)), "")

    @property
    def gone(self) -> list[str]:
        """Folders that are there no longer."""
        return sorted(out for out, item in self.artifacts.items() if item.manifest is None)

    @property
    def changed(self) -> list[str]:
        """Folders that were made again, with other bytes, after something was made from them."""
        return sorted(out for out, item in self.artifacts.items() if item.changed)
