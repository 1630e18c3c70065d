"""What is known of one artifact: its manifest, the record of its making, and what it stands for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

from xstilts.artifacts.manifest import check_file
from xstilts.artifacts.spec import spec_sha256
from xstilts.audit.ancestry import Ancestry, Link, Reader, links_of
from xstilts.audit.results import Artifact
from xstilts.errors import InputError
from xstilts.report.lineage import STAGES

Facts = dict[str, Any]

_TITLES = {
    **STAGES,
    "aggregate": "Tables",
    "analyse": "Analysis",
    "report": "Report",
    "check": "Check of the data",
    "distances": "Distances of the languages",
    "transferability": "Measures of transferability",
}


def title_of(artifact: Artifact) -> str:
    """What an artifact is called."""
    if artifact.is_index:
        return f"Index of a bundle ({artifact.stage})"
    return _TITLES.get(artifact.stage, artifact.stage.capitalize() or "Unknown")


class Describer:
    """Describes artifacts of a results folder, each once.

    Args:
        reader: Reads their manifests.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.about = cache(self._about)

    def describe(self, ancestry: Ancestry, out: str) -> Facts:
        """Everything that is known of an artifact, for JSON."""
        artifact = self.reader.read(out)
        found: Facts = {
            "title": title_of(artifact),
            "stage": artifact.stage,
            "manifest_sha256": artifact.sha256 or None,
            "spec_sha256": spec_sha256(artifact.spec) if artifact.manifest else None,
            "fingerprint": artifact.spec.get("fingerprint"),
            "seed": artifact.spec.get("seed"),
            "inputs": [self._input(ancestry, out, link) for link in ancestry.links[out]],
            "about": self.about(out),
            "files": artifact.manifest.files if artifact.manifest else {},
            "spec": artifact.spec,
            "provenance": self.reader.provenance(out) or None,
        }
        problems = ancestry.problems[out]
        return {**found, "problems": [finding.content() for finding in problems]}

    def _input(self, ancestry: Ancestry, out: str, link: Link) -> Facts:
        there = self.reader.read(link.out).sha256
        state = "other manifest than recorded" if ancestry.mismatch(out, link) else "as recorded"
        return {
            "role": link.role,
            "artifact": link.out,
            "recorded": link.recorded or None,
            "found": there or None,
            "state": state if there else "missing",
        }

    def _about(self, out: str) -> Facts:
        """What an artifact stands for, by its stage; a file that cannot be used is named."""
        artifact = self.reader.read(out)
        make = _ABOUT.get(artifact.stage)
        if make is None or artifact.is_index:
            return {}
        try:
            return {key: value for key, value in make(self, artifact).items() if value is not None}
        except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
            # A spec is whatever a manifest says; one of an odd shape tells nothing, and stops none.
            return {"unknown": str(error)}

    def file(self, artifact: Artifact, name: str) -> Any:
        """A JSON file of an artifact, with the bytes of its manifest; None where it has none."""
        if artifact.manifest is None or name not in artifact.manifest.files:
            return None
        return json.loads(
            check_file(self.reader.results.path / artifact.out, name).read_text(encoding="utf-8")
        )

    # ---- by stage

    def fetch(self, artifact: Artifact) -> Facts:
        """Source files: where they are from, at which revision, and under which licence."""
        spec = artifact.spec
        lock = spec.get("lock") or {}
        return {
            "dataset": spec["dataset"],
            "config": spec.get("config"),
            "source": source_of(spec.get("source") or {}),
            "revision": lock.get("revision"),
            "toyworld": spec.get("toyworld"),
            "files": lock.get("files") or (artifact.manifest.files if artifact.manifest else None),
            "licence": self.licence(spec["dataset"]),
        }

    def rows(self, artifact: Artifact) -> Facts:
        """Prepared or translated rows: how many, by split."""
        spec = artifact.spec
        splits = (self.file(artifact, "report.json") or {}).get("splits")
        translator = spec.get("translator") or {}
        return {
            "dataset": spec.get("dataset"),
            "language": spec.get("language"),
            "translator": translator.get("name"),
            "rows": {split: known["rows"] for split, known in splits.items()} if splits else None,
            "splits": splits,
        }

    def tokens(self, artifact: Artifact) -> Facts:
        """Sub-words: their limits, and sequences and sub-words by split."""
        spec = artifact.spec
        return {
            "dataset": spec.get("dataset"),
            "language": spec.get("language"),
            "format": spec.get("format"),
            "encoding": spec.get("encoding"),
            "splits": (self.file(artifact, "meta.json") or {}).get("splits"),
        }

    def prompts(self, artifact: Artifact) -> Facts:
        """Prompts: which one, of what data, with how many examples before a question."""
        spec = artifact.spec
        return {
            **self.tokens(artifact),
            "prompt": {key: spec["prompt"].get(key) for key in ("name", "version", "words")},
            "shots": (spec.get("shots") or {}).get("number"),
        }

    def merged(self, artifact: Artifact) -> Facts:
        """Whole weights: which adapter was put into which ones."""
        account = self.file(artifact, "training.json") or {}
        inputs = artifact.spec["inputs"]
        return {
            "adapter": inputs["adapter"],
            "into": inputs["model"],
            "steps": account.get("steps"),
        }

    def testset(self, artifact: Artifact) -> Facts:
        """Test data of a target in all its languages."""
        return {
            "target": artifact.spec.get("target"),
            "languages": artifact.spec.get("languages"),
            "sizes": self.file(artifact, "languages.json"),
        }

    def model(self, artifact: Artifact) -> Facts:
        """A base model, translator or tokenizer: from the Hub, or made here, and from what."""
        spec = artifact.spec
        row = spec.get("model") or spec.get("translator") or {}
        lock = spec.get("lock") or {}
        corpora = [self.corpus(link.out) for link in links_to_text(artifact)]
        return {
            "name": row.get("name"),
            "source": f"Hub {row['hub']}" if row.get("hub") else None,
            "revision": lock.get("revision"),
            "made_here_from": list(dict.fromkeys(corpora)) or None,
            "architecture": row.get("scratch"),
            "steps": (self.file(artifact, "training.json") or {}).get("steps"),
            "files": lock.get("files") or (artifact.manifest.files if artifact.manifest else None),
        }

    def corpus(self, out: str) -> str:
        """Name of the data behind an artifact: data set and language."""
        spec = self.reader.read(out).spec
        return f"{spec.get('dataset', out)}/{spec.get('language', '?')}"

    def checkpoint(self, artifact: Artifact) -> Facts:
        """A fine-tuned checkpoint: its tasks and steps."""
        spec = artifact.spec
        account = self.file(artifact, "training.json") or {}
        return {
            "tasks": [task["name"] for task in spec.get("tasks", ())],
            "mlm": spec.get("mlm"),
            "settings": spec.get("settings"),
            "steps": account.get("steps"),
            "restarts": len(account.get("restarts", ())) or None,
            "collapsed": account.get("collapsed") or None,
        }

    def predictions(self, artifact: Artifact) -> Facts:
        """Predictions: of which target, how, in which languages."""
        spec = artifact.spec
        names = ("target", "head", "decode", "languages")
        return {name: spec.get(name) for name in names}

    def scores(self, artifact: Artifact) -> Facts:
        """Scores: of which target, by which metric, and the values."""
        spec = artifact.spec
        content = self.file(artifact, "scores.json") or {}
        return {
            "target": spec.get("target") or content.get("target"),
            "metric": spec.get("metric") or content.get("metric"),
            "languages": spec.get("languages"),
            "values": content.get("rows"),
        }

    # ---- licences

    def licence(self, dataset: str) -> Facts | None:
        """Licence of a data set: as the study's report has it, else today's registry."""
        if known := self._recorded.get(dataset, {}).get("licence"):
            return {"name": known, "from": "the report's spec"}
        from xstilts.registry import load_registry

        row = load_registry().datasets.get(dataset)
        return {"name": row.licence, "from": "the registry of this version"} if row else None

    @cached_property
    def _recorded(self) -> Mapping[str, Facts]:
        found = self.reader.read("report").spec.get("datasets")
        return found if isinstance(found, Mapping) else {}


def links_to_text(artifact: Artifact) -> list[Link]:
    """Inputs that hold text that a model or tokenizer was made from."""
    return [link for link in links_of(artifact) if link.role in ("tokens", "corpus")]


def surroundings(made: Mapping[str, Any]) -> str:
    """Environment, device and versions of a record, as one text."""
    place, device = made.get("environment", {}), made.get("device", {})
    parts = [place.get("kind", "unknown environment")]
    parts += [f"image {place['image']}"] if "image" in place else []
    parts += [f"{key} {value}" for key, value in sorted(place.get("labels", {}).items())]
    parts += [device[key] for key in ("gpu", "platform") if key in device]
    parts += [f"{device['cpus']} CPUs"] if "cpus" in device else []
    versions = made.get("versions", {})
    return "; ".join([*parts, ", ".join(f"{name} {versions[name]}" for name in sorted(versions))])


def source_of(source: Mapping[str, Any]) -> str:
    """Where source files are from, in words."""
    if hub := source.get("hub"):
        return f"Hub {hub}"
    if urls := source.get("urls"):
        names = list(urls.values()) if isinstance(urls, Mapping) else list(urls)
        return str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    if kind := source.get("toyworld"):
        return f"toy world ({kind})"
    if files := source.get("files"):
        return f"files of the user's own ({', '.join(files)})"
    return str(source.get("kind", "unknown"))


_ABOUT: dict[str, Callable[[Describer, Artifact], Facts]] = {
    "fetch": Describer.fetch,
    "prepare": Describer.rows,
    "translate": Describer.rows,
    "tokens": Describer.tokens,
    "prompts": Describer.prompts,
    "testset": Describer.testset,
    "tokenizer": Describer.model,
    "fetch_model": Describer.model,
    "fetch_translator": Describer.model,
    "pretrain": Describer.model,
    "intermediate": Describer.checkpoint,
    "finetune": Describer.checkpoint,
    "merge": Describer.merged,
    "evaluate": Describer.predictions,
    "score": Describer.scores,
}
