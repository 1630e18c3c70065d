"""The aggregate stage: tables and the figure of a whole study, from the scores of all its cells."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xstilts.analysis import tables, trainings
from xstilts.analysis.heatmap import draw_gains
from xstilts.analysis.overview import OVERVIEW, gains, markdown, summary
from xstilts.analysis.study import Row, Study
from xstilts.artifacts.publish import publishing
from xstilts.progress import Progress


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Make the tables and the figure of a study.

    Writes `scores.csv` (everything, tidy), `overview.csv` and `.md` (recipes by targets),
    `by_language/<target>.csv` (with bootstrap intervals), `languages.csv` where distances are
    known, `layers.csv` (retrieval by hidden state), `trainings.csv` (one row per checkpoint), and
    `figures/gains.svg` and `.png`.

    Raises:
        InputError: If the scores of a cell are not those of its target, or cannot be compared.
    """
    progress = Progress("aggregate", out.as_posix(), len(spec["targets"]))
    with publishing(out, spec) as draft:
        study = Study(spec)
        folder = draft.folder
        _write_csv(folder / "scores.csv", tables.SCORES_COLUMNS, tables.score_rows(study))
        overview = tables.overview_rows(study)
        _write_csv(folder / OVERVIEW, tables.OVERVIEW_COLUMNS, overview)
        trained = trainings.rows(spec["inputs"]["checkpoints"])
        _write_csv(folder / trainings.TRAININGS, trainings.COLUMNS, trained)
        text = markdown(study, overview, trainings.warning(trained))
        (folder / "overview.md").write_text(text, encoding="utf-8")
        for number, target in enumerate(study.targets, start=1):
            path = folder / "by_language" / f"{target.name}.csv"
            rows = tables.language_rows(study, target)
            _write_csv(path, tables.BY_LANGUAGE_COLUMNS, rows)
            progress.step(number, target.name)
        if layers := list(tables.layer_rows(study)):
            _write_csv(folder / "layers.csv", tables.LAYERS_COLUMNS, layers)
        if rows := tables.distance_rows(study):
            _write_csv(folder / "languages.csv", tables.LANGUAGES_COLUMNS, rows)
        draw_gains(gains(study, overview), folder / "figures")
    progress.done(f"{len(spec['cells'])} cells")


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


__all__ = ["run", "summary"]
