"""`xstilts audit explain`: where a number or a file comes from, down to data and base model."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, check_file
from xstilts.audit.ancestry import Ancestry, Reader, links_of, place_of
from xstilts.audit.explain.example import prediction_at, score_at
from xstilts.audit.explain.facts import Describer, surroundings
from xstilts.audit.explain.grid import Grid
from xstilts.audit.explain.rows import Story, matching, story_of
from xstilts.audit.findings import Finding
from xstilts.audit.results import Place, Results
from xstilts.errors import InputError, nearest
from xstilts.output import check_output, write_json

_PLACE = re.compile(r"(?P<file>.+?):(?P<row>\d+)(?::(?P<column>[^:]+))?")
#: Where the report keeps its copies of tables.
_COPIES = "files/"


def run(options: argparse.Namespace) -> None:
    """Explain a place; print it, and write it as JSON and as a graph if asked to."""
    from xstilts.audit.explain.text import text_of

    path, row, column = parse_place(options.place)
    if options.graph and options.graph.suffix not in (".dot", ".svg"):
        raise InputError(f"--graph {options.graph}", "ends in neither .dot nor .svg")
    check_output("--graph", options.graph)
    place = _locate(path)
    explanation = Explainer(place.results).explain(place.out, place.file, row, column)
    if options.json:
        write_json(options.json, explanation.content(), default=str)
    if options.graph:
        from xstilts.audit.explain.graph import write_graph

        write_graph(explanation.ancestry, options.graph)
    print(text_of(explanation), end="")


def parse_place(text: str) -> tuple[Path, int | None, str | None]:
    """A file, the row and the column: `FILE`, `FILE:ROW`, `FILE:ROW:COLUMN`."""
    parts = _PLACE.fullmatch(text)
    if Path(text).exists() or not parts:
        return Path(text), None, None
    return Path(parts["file"]), int(parts["row"]), parts["column"]


def _locate(path: Path) -> Place:
    """Find an artifact or a file of one.

    Raises:
        InputError: If the path belongs to no results folder, or is one itself.
    """
    place = place_of(path)
    if not place.out:
        raise InputError(
            str(path),
            "is a whole results folder",
            expected="an artifact, a file, or a row of a table in it",
            hint=f"For example {path}/tables/overview.csv:2",
        )
    return place


@dataclass
class Explanation:
    """Where something comes from.

    Attributes:
        out: The artifact that it lies in.
        file: The file; empty for the artifact itself.
        number: The row's number.
        row: The row, by column.
        story: What the row is made from.
        example: The prediction or the score, and the rows that it is of.
        ancestry: The artifacts behind it.
        grid: The study's cells, where the row is made from them.
        own: What is wrong with the place itself.
    """

    describer: Describer
    out: str
    file: str
    number: int | None
    ancestry: Ancestry
    row: Mapping[str, str] = field(default_factory=dict)
    story: Story | None = None
    grid: Grid | None = None
    example: dict[str, Any] | None = None
    own: list[Finding] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The place below the results folder."""
        path = f"{self.out}/{self.file}" if self.file else self.out
        return path if self.number is None else f"{path}:{self.number}"

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong."""
        return [*self.own, *self.ancestry.findings]

    @cached_property
    def environments(self) -> dict[str, int]:
        """Numbers of the environments, devices and versions that the artifacts were made in."""
        outs = dict.fromkeys([self.out, *self.ancestry.artifacts])
        records = (self.describer.reader.provenance(out) for out in outs)
        texts = dict.fromkeys(surroundings(made) for made in records if made)
        return {text: number for number, text in enumerate(texts, start=1)}

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The cells of the row, with the values that they hold."""
        found = []
        for cell, why in self.story.cells if self.story else ():
            entry = {**vars(cell), "why": why}
            if self.grid is not None:
                try:
                    metric = self.grid.overall(cell.target)
                    values = self.grid.values(cell, metric)
                    wanted = self.story.languages if self.story else None
                    entry["metric"] = metric
                    entry["values"] = {
                        code: value
                        for code, value in values.items()
                        if wanted is None or code in wanted
                    }
                except (InputError, LookupError, TypeError, ValueError) as error:
                    entry["unknown"] = str(error)
            found.append(entry)
        return found

    def content(self) -> dict[str, Any]:
        """Everything, for JSON."""
        holder = self.describer.reader.read(self.out)
        found: dict[str, Any] = {
            "place": self.place,
            "artifact": self.out,
            "manifest_sha256": holder.sha256,
            "file_sha256": _recorded(holder, self.file),
        }
        if self.row:
            found["row"] = dict(self.row)
        if self.story:
            found["numbers"] = [number.content() for number in self.story.numbers]
            found["cells"], found["notes"] = self.cells, self.story.notes
        if self.example:
            found["example"] = self.example
        found["starts"] = self.ancestry.starts
        found["artifacts"] = {
            out: self.describer.describe(self.ancestry, out) for out in self.ancestry.artifacts
        }
        found["findings"] = [finding.content() for finding in self.findings]
        return found


def _recorded(artifact: Any, file: str) -> str | None:
    known = artifact.manifest.files.get(file) if artifact.manifest else None
    return str(known["sha256"]) if known else None


class Explainer:
    """Explains places in a results folder; what it has read once, it keeps.

    Args:
        results: The results folder.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.reader = Reader(results)
        self.describer = Describer(self.reader)
        self._grids: dict[str, Grid] = {}

    def explain(
        self, out: str, file: str = "", row: int | None = None, column: str | None = None
    ) -> Explanation:
        """Explain an artifact, a file of it, or a row of that.

        Raises:
            InputError: If there is no such file, row or column.
        """
        if row is None:
            found = self._explanation(out, file, None, [out])
        elif file.endswith(".csv"):
            found = self._table_row(out, file, row, column)
        else:
            found = self._line(out, file, row)
        if file:
            found.own += self._check(out, file)
        return found

    def _explanation(
        self, out: str, file: str, number: int | None, starts: list[str], **more: Any
    ) -> Explanation:
        ancestry = Ancestry(self.reader, starts)
        found = Explanation(self.describer, out, file, number, ancestry, **more)
        if out not in ancestry.artifacts:
            # Of a table, only what its row is made from: are those the scores that it was made of?
            links = [link for link in links_of(self.reader.read(out)) if link.out in starts]
            wrong = (ancestry.mismatch(out, link) for link in links)
            found.own += [finding for finding in wrong if finding]
        return found

    def _check(self, out: str, file: str) -> list[Finding]:
        """Whether a file has the bytes of its manifest."""
        artifact = self.reader.read(out)
        if artifact.manifest is None or file == MANIFEST:
            return []
        if file not in artifact.manifest.files:
            return [Finding(f"{out}/{file}", "stranger", "the manifest does not list this file")]
        try:
            check_file(self.results.path / out, file)
        except InputError as error:
            said = str(error).partition(": ")[2]
            return [Finding(f"{out}/{file}", "changed", said)]
        return []

    def _line(self, out: str, file: str, row: int) -> Explanation:
        artifact = self.reader.read(out)
        if artifact.stage == "evaluate" and file.endswith(".jsonl"):
            example = prediction_at(self.reader, artifact, file, row)
        elif artifact.stage == "score" and file == "scores.json":
            example = score_at(self.reader, artifact, file, row)
        else:
            raise InputError(
                f"{out}/{file}:{row}",
                "has no rows that can be explained",
                expected="a row of a .csv file, a line of predictions (.jsonl) or of scores.json",
                hint="Leave the row out",
            )
        return self._explanation(out, file, row, [out], example=example)

    def _table_row(self, out: str, file: str, number: int, column: str | None) -> Explanation:
        row = _read_row(self.results.path / out / file, f"{out}/{file}", number, column)
        name = file.removeprefix(_COPIES) if out == "report" else f"{out}/{file}"
        holder = self.reader.read(out)
        own: list[Finding] = []
        if out not in self._grids:
            self._grids[out] = Grid(self.results, holder)
        grid, roles = self._grids[out], holder.roles()
        try:
            story = story_of(grid, name, row, roles)
        except InputError as error:
            own.append(Finding(f"{out}/{file}:{number}", "recomputed", str(error)))
            story = matching(grid, row, roles)
        if column is not None:
            story.numbers = [item for item in story.numbers if item.column == column]
        starts = [*(cell.scores for cell, _ in story.cells), *story.starts]
        own += [
            Finding(
                f"{out}/{file}:{number}",
                "recomputed",
                f"the column {item.column!r} does not follow from its cells",
                expected=str(item.gives),
                found=item.cell,
            )
            for item in story.numbers
            if item.agrees is False
        ]
        more: dict[str, Any] = {"row": row, "story": story, "grid": grid}
        found = self._explanation(out, file, number, starts, **more)
        found.own += own
        return found


def _read_row(path: Path, name: str, number: int, column: str | None) -> dict[str, str]:
    """A row of a CSV file; the header is row 1.

    Raises:
        InputError: If there is no such file, row or column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(name, f"cannot be read ({error})") from error
    if not 2 <= number <= len(rows) + 1:
        raise InputError(
            f"{name}:{number}",
            "there is no such row",
            expected=f"2 to {len(rows) + 1} (row 1 is the header)",
            found=str(number),
        )
    row = {key: value for key, value in rows[number - 2].items() if isinstance(key, str)}
    if column is not None and column not in row:
        raise InputError(
            f"{name}:{number}:{column}", "there is no such column", hint=nearest(column, row)
        )
    return row
