"""A study as a Workflow Run RO-Crate: an archive, and `ro-crate-metadata.json` that describes it.

It follows the profile Provenance Run Crate 0.5, on RO-Crate 1.1: the workflow, an action for each
artifact that was made, from what, by which code and versions, and when. Named with sha256, size and
path are the manifest of every artifact, and every file of data sets, models, checkpoints, tables,
answers and distances; the files of scores, predictions, sub-words and the report stand in their
manifests. A file that was left out has no path in the crate; its `@id` is an arcp URI below one
UUID, which is made from the sha256 of `root.json`. People and machines are not named.
"""

from __future__ import annotations

import mimetypes
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.root import ROOT, SIGNATURE
from xstilts.artifacts.spec import canonical, sha256_text
from xstilts.audit.export.archive import Archive, Member
from xstilts.audit.extra import extra
from xstilts.audit.finished import Finished
from xstilts.audit.results import REFERENCES, SOURCES, Artifact
from xstilts.report.lineage import STAGES

#: Stages of which no file but the manifest is named: thousands of files that nobody cites.
_BY_MANIFEST = (
    *("evaluate", "score", "sweep", "tokens", "prompts", "testset", "transferability", "report"),
)
#: What a study is made for.
_RESULTS = ("aggregate", "analyse", "report")
#: Keys of a spec that name its inputs, which an action has as its objects.
_INPUTS = ("inputs", "cells")
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_TERMS = "https://w3id.org/ro/terms/workflow-run/context"
_COMPLETED = "http://schema.org/CompletedActionStatus"
_BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_WORKFLOW = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
_FORMATS = {
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
    ".npy": "application/octet-stream",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    "": "text/plain",
}
_UNSTATED = "not stated; each data set and base model has a licence of its own"


def describe_crate(study: Finished, archive: Archive, folder: Path, licence: str | None) -> int:
    """Write `ro-crate-metadata.json` into the folder of an archive.

    Args:
        study: The study.
        archive: What was written.
        folder: Where.
        licence: Licence of the results: a URL or a name.

    Returns:
        The number of its entities.
    """
    maker = _Maker(study, archive, folder)
    maker.make(licence or _UNSTATED)
    maker.crate.metadata.write(folder)
    return len(list(maker.crate.get_entities()))


class _Maker:
    """Makes the entities of a crate."""

    def __init__(self, study: Finished, archive: Archive, folder: Path) -> None:
        self.study, self.archive, self.folder = study, archive, folder
        self.model = extra("rocrate.model")
        self.crate = extra("rocrate.rocrate").ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_TERMS)
        self.members = {member.name: member for member in archive.all}
        # Two exports of one study name what they leave out alike.
        base = uuid.uuid5(uuid.NAMESPACE_URL, sha256_file(study.results.path / ROOT))
        self.elsewhere = f"arcp://uuid,{base}/"
        self.made = {out: item for out, item in study.artifacts.items() if not item.is_index}

    def make(self, licence: str) -> None:
        """Make all entities."""
        self._root(licence)
        for out, item in self.made.items():
            self._dataset(out, item)
        for name in (ROOT, SIGNATURE, REFERENCES):
            if name in self.members:
                self._file(name, self.members[name])
        sources = [name for name in self.members if name.startswith(f"{SOURCES}/")]
        workflow = self._workflow()
        files = [
            self._file(name, self.members[name]) for name in sources if name != workflow["@id"]
        ]
        actions = [self._action(out, item) for out, item in self.made.items()]
        run = self._run(workflow, files)
        self._engine(run)
        self.crate.root_dataset["mentions"] = [run, *actions]

    # ---- small parts

    def _add(self, identifier: str, **properties: Any) -> dict[str, str]:
        """Add an entity that is no file; `kind` is its type. A reference to it."""
        if identifier not in self.crate:  # `get` would look at all entities
            properties = {"@type": properties.pop("kind"), **_known(properties)}
            self.crate.add(self.model.ContextEntity(self.crate, identifier, properties))
        return {"@id": identifier}

    def _licence(self, text: str) -> dict[str, str]:
        is_url = re.match(r"https?://\S+$", text)
        identifier = text if is_url else "#licence/" + quote(text, safe="")
        return self._add(identifier, kind="CreativeWork", name=text)

    def _file(self, name: str, member: Member, **properties: Any) -> dict[str, str]:
        sha256 = member.sha256 or sha256_file(self.folder / name)
        row = {"sha256": sha256, "size": member.size}
        return self._add_file(self.folder / name, name, name, row, properties)

    def _add_file(
        self,
        source: Any,
        place: str | None,
        name: str,
        row: Mapping[str, Any],
        properties: Mapping[str, Any],
    ) -> dict[str, str]:
        known = {
            "name": name,
            "contentSize": str(row["size"]),
            "sha256": row["sha256"],
            "encodingFormat": _format(name),
            **properties,
        }
        entity = self.model.File(self.crate, source, place, properties=known)
        self.crate.add(entity)
        return {"@id": entity.id}

    # ---- the crate

    def _root(self, licence: str) -> None:
        root, study = self.crate.root_dataset, self.study.root.study
        root["name"] = f"xstilts study {study}"
        root["description"] = (
            f"Results of the study {study}: intermediate-task training before zero-shot "
            "cross-lingual transfer. Every artifact, what it was made from, and how."
        )
        root["license"] = self._licence(licence)
        if self.study.end:
            root["datePublished"] = self.study.end
        root["conformsTo"] = [
            self._add(place, kind="CreativeWork", name=name, version=place.rpartition("/")[2])
            for place, name in _PROFILES.items()
        ]

    # ---- artifacts

    def _dataset(self, out: str, item: Artifact) -> None:
        parts = [self._file(f"{out}/{MANIFEST}", self.members[f"{out}/{MANIFEST}"])]
        if item.stage not in _BY_MANIFEST and item.manifest:
            files = item.manifest.files
            parts += [self._part(f"{out}/{name}", files[name]) for name in sorted(files)]
        properties = {
            "name": out,
            "description": _title(item),
            "hasPart": parts,
            **self._of_data(item),
        }
        place = self.folder / out
        self.crate.add(self.model.Dataset(self.crate, place, out, properties=_known(properties)))

    def _part(self, name: str, row: Mapping[str, Any]) -> dict[str, str]:
        """A file of an artifact, in the crate or left out of it."""
        if name in self.members:
            return self._file(name, self.members[name])
        text = f"Not in this crate; {REFERENCES} lists it."
        return self._add_file(self.elsewhere + quote(name), None, name, row, {"description": text})

    def _of_data(self, item: Artifact) -> dict[str, Any]:
        """Licence and source of a data set or of a model."""
        found: dict[str, Any] = {}
        row = self.study.datasets.get(str(item.spec.get("dataset")), {})
        if row.get("licence"):
            found["license"] = self._licence(str(row["licence"]))
        based = [
            self._add(place, kind="CreativeWork", name=place, version=version)
            for place, version in sources_of(item)
        ]
        return found | ({"isBasedOn": based} if based else {})

    # ---- what made them

    @cached_property
    def _tools(self) -> dict[str, dict[str, str]]:
        """The tool of each artifact: a stage, as of its code and its libraries."""
        return {out: self._tool(out, item) for out, item in self.made.items()}

    def _tool(self, out: str, item: Artifact) -> dict[str, str]:
        record = self.study.records[out]
        versions: Mapping[str, str] = record.get("versions", {})
        git, code = record.get("git") or {}, item.spec.get("fingerprint")
        key = canonical([item.stage, code, versions, git])
        identifier = f"#stage/{item.stage}/{sha256_text(key)[:12]}"
        version = [versions.get("xstilts"), git.get("commit"), code and f"code {code}"]
        if git.get("dirty"):
            version.append("with changes that are in no commit")
        needs = [
            self._add(
                f"#software/{name}/{quote(number)}",
                kind="SoftwareApplication",
                name=name,
                softwareVersion=number,
            )
            for name, number in versions.items()
        ]
        return self._add(
            identifier,
            kind="SoftwareApplication",
            name=f"xstilts stage {item.stage}",
            description=f"Makes: {_title(item)}",
            softwareVersion=", ".join(str(part) for part in version if part),
            softwareRequirements=needs,
        )

    def _action(self, out: str, item: Artifact) -> dict[str, str]:
        spec = {key: value for key, value in item.spec.items() if key not in _INPUTS}
        value = self._add(
            f"#spec/{quote(out)}", kind="PropertyValue", name="spec", value=canonical(spec)
        )
        objects = [{"@id": f"{quote(name)}/"} for name in item.inputs if name in self.made]
        attempts = len(self.study.records[out].get("attempts", ()))
        return self._add(
            f"#action/{quote(out)}",
            kind="CreateAction",
            name=f"{item.stage} {out}",
            description=f"{_title(item)}; attempts: {attempts}",
            startTime=self.study.started(out),
            endTime=self.study.ended(out),
            actionStatus=_COMPLETED,
            instrument=self._tools[out],
            object=[*objects, value],
            result={"@id": f"{quote(out)}/"},
        )

    # ---- the workflow

    def _workflow(self) -> dict[str, str]:
        name = f"{SOURCES}/Snakefile"
        there = name in self.members
        source = self.folder / name if there else self.elsewhere + name
        properties: dict[str, Any] = {"name": "xstilts", "@type": _WORKFLOW}
        properties["encodingFormat"] = _format(name)
        if there:
            member = self.members[name]
            properties |= {"sha256": sha256_file(self.folder / name)}
            properties |= {"contentSize": str(member.size)}
        workflow = self.crate.add_workflow(
            source,
            name if there else None,
            properties=properties,
            main=True,
            lang="snakemake",
            lang_version=self._versions("snakemake"),
        )
        workflow["conformsTo"] = {"@id": _BIOSCHEMAS}
        workflow["version"] = self._versions("xstilts")
        workflow["hasPart"] = list({tool["@id"]: tool for tool in self._tools.values()}.values())
        workflow["step"] = list(self._steps.values())
        return {"@id": workflow.id}

    def _versions(self, package: str) -> str:
        rows = (record.get("versions", {}) for record in self.study.records.values())
        return ", ".join(sorted({row[package] for row in rows if package in row})) or "unknown"

    @cached_property
    def _steps(self) -> dict[str, dict[str, str]]:
        """A step of the workflow for each stage, in the order in which they first began."""
        first: dict[str, str] = {}
        for out, item in self.made.items():
            began = self.study.started(out) or ""
            first[item.stage] = min(first.get(item.stage, began), began)
        order = sorted(first, key=lambda stage: (first[stage], stage))
        return {
            stage: self._add(
                f"#step/{stage}",
                kind="HowToStep",
                name=stage,
                position=str(position),
                workExample=self._tools_of(stage),
            )
            for position, stage in enumerate(order, start=1)
        }

    def _tools_of(self, stage: str) -> list[dict[str, str]]:
        found = (self._tools[out] for out, item in self.made.items() if item.stage == stage)
        return list({tool["@id"]: tool for tool in found}.values())

    def _run(self, workflow: Mapping[str, str], files: Iterable[Any]) -> dict[str, str]:
        """The run of the workflow: from the study and its files to tables, answers, report."""
        content = self.study.root.content
        given = [
            self._add(
                f"#study/{quote(key)}",
                kind="PropertyValue",
                name=key,
                value=value if isinstance(value, str) else canonical(value),
            )
            for key, value in sorted(content.items())
        ]
        return self._add(
            "#run",
            kind="CreateAction",
            name=f"Run of the study {self.study.root.study}",
            description="From the study and its files to tables, answers and report",
            startTime=self.study.start,
            endTime=self.study.end,
            actionStatus=_COMPLETED,
            instrument=dict(workflow),
            object=[{"@id": ROOT}, *files, *given],
            result=[{"@id": f"{quote(out)}/"} for out in self.study.of(*_RESULTS)],
        )

    def _engine(self, run: Mapping[str, str]) -> None:
        """Snakemake, which ran each action as a step."""
        version = self._versions("snakemake")
        engine = self._add(
            "#snakemake", kind="SoftwareApplication", name="Snakemake", softwareVersion=version
        )
        controls = [
            self._add(
                f"#control/{quote(out)}",
                kind="ControlAction",
                name=f"orchestrate {item.stage} {out}",
                instrument=self._steps[item.stage],
                object={"@id": f"#action/{quote(out)}"},
            )
            for out, item in self.made.items()
        ]
        self._add(
            "#orchestration",
            kind="OrganizeAction",
            name=f"Run of Snakemake {version}",
            startTime=self.study.start,
            endTime=self.study.end,
            instrument=engine,
            object=controls,
            result=dict(run),
        )


def _known(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known; a list of one is that one, as the specification recommends."""
    known = {key: value for key, value in properties.items() if value not in (None, "", [])}
    return {
        key: value[0] if isinstance(value, list) and len(value) == 1 else value
        for key, value in known.items()
    }


def _format(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return _FORMATS.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")


def _title(item: Artifact) -> str:
    return STAGES.get(item.stage, item.stage)


def sources_of(item: Artifact) -> Iterator[tuple[str, str | None]]:
    """Where the files of a fetched data set or model come from: addresses and revisions."""
    row = item.spec.get("source") or item.spec.get("model") or item.spec.get("translator") or {}
    revision = (item.spec.get("lock") or {}).get("revision") or row.get("revision")
    if item.stage not in ("fetch", "fetch_model", "fetch_translator"):
        return
    if hub := row.get("hub"):
        kind = "datasets/" if item.stage == "fetch" else ""
        tree = f"/tree/{revision}" if revision else ""
        yield f"https://huggingface.co/{kind}{hub}{tree}", revision
    for place in _addresses(row):
        yield place, None


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, str) and re.match(r"https?://[^\s{}]+$", value):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _addresses(part)
    elif isinstance(value, list):
        for part in value:
            yield from _addresses(part)
