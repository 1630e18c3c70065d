"""A page with every prompt of a study: its templates, its words, and what it makes of some rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file
from xstilts.report.lineage import Artifact, Lineage
from xstilts.report.material import Material
from xstilts.report.site import Site
from xstilts.report.view import Cell, Column, Table

PAGE = "prompts.html"


@dataclass(frozen=True)
class Example:
    """A row as it was rendered.

    Attributes:
        id: The row's id.
        split: Its split.
        context: What stands before the answer.
        answers: What was asked for, or trained on: each, and whether it is the right one.
    """

    id: str
    split: str
    context: str
    answers: list[tuple[str, bool]]


@dataclass
class Use:
    """What a prompt made of a data set in one language.

    Attributes:
        title: The data set's title, and its splits.
        language: The language's name.
        words: Language of the prompt's words where there are several; their values.
        examples: The first rows of each split.
        shots: Examples before every question.
        out: The artifact.
    """

    title: str
    language: str
    words: Mapping[str, str]
    examples: list[Example]
    shots: list[Mapping[str, str]]
    out: Artifact


@dataclass
class Prompt:
    """A prompt of a study.

    Attributes:
        name: Its name.
        title: What it asks.
        source: Whose wording it is.
        version: Its version.
        templates: What each template is for, and the template.
        uses: What it made of each data set and language.
    """

    name: str
    title: str
    source: str
    version: int
    templates: list[tuple[str, str]]
    uses: list[Use] = field(default_factory=list)

    @property
    def words(self) -> Table | None:
        """Its words in the languages that the study uses; None where it has none."""
        rows: dict[tuple[str, ...], list[str]] = {}
        names = list(dict.fromkeys(word for use in self.uses for word in use.words))
        for use in self.uses:
            values = tuple(use.words.get(word, "") for word in names)
            if use.language not in rows.setdefault(values, []):
                rows[values].append(use.language)
        if not names:
            return None
        cells = [
            [Cell(", ".join(languages)), *(Cell(value) for value in values)]
            for values, languages in rows.items()
        ]
        columns = [Column("Rows in"), *(Column(name) for name in names)]
        return Table(f"Words of {self.name}", columns, cells, sortable=False)


def write(site: Site, material: Material, lineage: Lineage) -> None:
    """Write `prompts.html`; nothing where a study asks no decoder in words."""
    if material.spec.get("prompts"):
        found = prompts_of(material, lineage)
        site.write(PAGE, "prompts.html", "Prompts", prompts=found)


def prompts_of(material: Material, lineage: Lineage) -> list[Prompt]:
    """The prompts of a study, by name, with their uses in the order of data sets and languages.

    What is rendered is the same for all models; the first one's is shown.
    """
    found: dict[str, Prompt] = {}
    seen = set[tuple[str, ...]]()
    for item in lineage.of("prompts"):
        kind, _, dataset, language = item.out.split("/")[1:5]
        if (kind, dataset, language) in seen:
            continue
        seen.add((kind, dataset, language))
        name = item.spec["prompt"]["name"]
        prompt = found.setdefault(name, _prompt(material, item))
        prompt.uses.append(_use(material, item))
    return [found[name] for name in sorted(found)]


def _prompt(material: Material, item: Artifact) -> Prompt:
    spec = item.spec["prompt"]
    facts = material.spec.get("prompts", {}).get(spec["name"], {})
    return Prompt(
        spec["name"],
        str(facts.get("title") or spec["name"]),
        str(facts.get("source") or ""),
        spec["version"],
        list(_templates(spec)),
    )


def _templates(spec: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What each template of a prompt is for, and the template itself."""
    if spec.get("context"):
        yield "Before the answer", spec["context"]
    yield "Between them", json.dumps(spec.get("delimiter", ""), ensure_ascii=False)
    choice = spec.get("choice")
    if isinstance(choice, Mapping):
        yield from ((f"Answer {label}", template) for label, template in choice.items())
    elif choice:
        yield "Each choice", choice
    if spec.get("answer"):
        yield "Answer", spec["answer"]
    if choice:
        yield "Without the question (PMI)", spec.get("free") or "the beginning of a text"


def _use(material: Material, item: Artifact) -> Use:
    spec = item.spec
    row = material.spec.get("datasets", {}).get(spec["dataset"], {})
    return Use(
        f"{row.get('title') or spec['dataset']}, {' and '.join(spec['splits'])}",
        material.language_name(spec["language"]),
        spec["prompt"].get("words") or {},
        list(_examples(_file(item, "examples.json") or {}, spec["prompt"].get("delimiter", ""))),
        _file(item, "shots.json") or [],
        item,
    )


def _file(item: Artifact, name: str) -> Any:
    """A JSON file of an artifact; None where it is gone."""
    if name not in item.files:
        return None
    return json.loads(check_file(Path(item.out), name).read_text(encoding="utf-8"))


def _examples(content: Mapping[str, Any], delimiter: str) -> Iterable[Example]:
    for split, rows in content.items():
        for row in rows:
            texts = row.get("choices") or ([row["answer"]] if "answer" in row else [])
            right = row.get("label", 0)
            answers = [(delimiter + text, place == right) for place, text in enumerate(texts)]
            yield Example(row["id"], split, row["context"], answers)
