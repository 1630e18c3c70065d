"""The report stage: a static site of a whole study."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.record import PROVENANCE
from xstilts.progress import Progress
from xstilts.report import answers, explorer, languages, ledger, overview, prompts, targets
from xstilts.report.assets import STATIC
from xstilts.report.lineage import Lineage
from xstilts.report.material import Material
from xstilts.report.methods import Methods
from xstilts.report.site import Site

#: Endings of the files of tables and answers that a reader may want.
_FILES = (".csv", ".svg", ".md")


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Write the report of a study.

    `index.html` leads to a page per question, target and language, an explorer of all scores, the
    methods, and the lineage of every number. All pages open from disk. The CSV files of tables and
    answers are copied, so the folder can be given away alone; links into the results folder are
    marked, and work where it lies there.

    Args:
        spec: What the tables are told of a study, with `questions` (names of the answers, in
            order), `assets` (`assets_sha256()`), what `facts` gives, and among its inputs
            `tables`, `analysis`, `scores`, and where they exist `check` and `distances`.
        out: The report's folder.

    Raises:
        InputError: If a file is missing or not the one that was published.
    """
    progress = Progress("report", out.as_posix(), 4)
    with publishing(out, spec) as draft:
        material = Material(spec)
        lineage = Lineage([*spec["inputs"]["scores"], *_more(spec)])
        progress.step(1, f"{len(lineage.artifacts)} artifacts")
        methods = Methods(material, lineage)
        site = Site(draft.folder, material)
        _copy_files(material, draft.folder)
        progress.step(2, "files")
        overview.write(site, material)
        answers.write(site, material)
        targets.write(site, material)
        languages.write(site, material)
        explorer.write(site, material)
        progress.step(3, "scores")
        ledger.write(site, material, lineage, methods)
        prompts.write(site, material, lineage)
        draft.record.add(stages=_versions(lineage))
    progress.done(f"{site.pages} pages")


def _more(spec: Mapping[str, Any]) -> Iterable[str]:
    """Further artifacts whose lineage is listed."""
    for role in ("layers", "checkpoints"):
        value = spec["inputs"].get(role, [])
        yield from [value] if isinstance(value, str) else value


def _copy_files(material: Material, folder: Path) -> None:
    """Copy the script, the style, and what can be downloaded."""
    shutil.copytree(STATIC, folder / "static")
    for source, name in ((material.tables, "tables"), (material.analysis, "analysis")):
        for file in sorted(read_manifest(source).files):
            if file.endswith(_FILES):
                place = folder / "files" / name / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(check_file(source, file), place)


def _versions(lineage: Lineage) -> dict[str, dict[str, list[str]]]:
    """Versions of the libraries with which each stage was run, for the report's record.

    They stand beside the artifacts and not in their manifests, so they cannot stand in the pages.
    """
    import json

    found: dict[str, dict[str, set[str]]] = {}
    for out, item in sorted(lineage.artifacts.items()):
        path = Path(out) / PROVENANCE
        if not item.manifest or not path.exists():
            continue
        known = json.loads(path.read_text(encoding="utf-8")).get("versions", {})
        libraries = found.setdefault(item.stage, {})
        for name, version in known.items():
            libraries.setdefault(name, set()).add(version)
    return {
        stage: {name: sorted(versions) for name, versions in sorted(libraries.items())}
        for stage, libraries in sorted(found.items())
    }
