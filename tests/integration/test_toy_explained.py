"""Every number of the toy study's tables leads to rows of data and to the base model."""

import csv
from pathlib import Path

import pytest

from xstilts.audit.explain.main import Explainer, Explanation
from xstilts.audit.results import open_results

pytestmark = pytest.mark.slow

BASE = "models/toy-xlmr/base"


@pytest.fixture(scope="module")
def explainer(toy: Path) -> Explainer:
    return Explainer(open_results(toy))


def rows(toy: Path, table: str) -> range:
    with (toy / table).open(encoding="utf-8", newline="") as file:
        return range(2, len(list(csv.reader(file))) + 1)


def reaches(found: Explanation) -> None:
    """A chain from the row's scores to source files, prepared rows and the base model."""
    artifacts = found.content()["artifacts"]
    stages = {known["stage"] for known in artifacts.values()}
    assert stages >= {"score", "evaluate", "pretrain", "tokenizer", "tokens", "prepare", "fetch"}
    assert artifacts[BASE]["about"]["made_here_from"]
    prepared = [known for known in artifacts.values() if known["stage"] == "prepare"]
    for known in prepared:
        assert min(known["about"]["rows"].values()) > 0
    # The scores' own test rows are among them, not only the corpus of the base model.
    cells = {cell["target"] for cell in found.cells}
    tests = [known for known in prepared if "test" in known["about"]["rows"]]
    assert len({known["about"]["dataset"] for known in tests}) >= len(cells)
    sources = [known["about"] for known in artifacts.values() if known["stage"] == "fetch"]
    assert all(known["toyworld"]["seed"] == 1 and known["licence"] for known in sources)


def test_every_cell_of_the_overview_reaches_data_and_base_model(
    toy: Path, explainer: Explainer
) -> None:
    with (toy / "tables/overview.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    cells = 0
    for number, row in enumerate(table, start=2):
        found = explainer.explain("tables", "overview.csv", number)
        assert found.findings == []
        reaches(found)
        followed = {known.column for known in found.story.numbers if known.agrees}
        assert followed == {key for key in ("mean", "sd", "seeds", "change") if row[key]}
        cells += len(followed)
    assert cells > 2 * len(table)


@pytest.mark.parametrize("table", ["languages.csv", "trainings.csv", "by_language/toy_qa.csv"])
def test_rows_of_other_tables_follow_too(toy: Path, explainer: Explainer, table: str) -> None:
    for number in rows(toy, f"tables/{table}"):
        found = explainer.explain("tables", table, number)
        assert found.findings == []
        assert any(known.agrees for known in found.story.numbers)


def test_rows_of_the_analysis_reach_data_and_base_model(toy: Path, explainer: Explainer) -> None:
    tables = sorted((toy / "analysis").rglob("*.csv"))
    assert len(tables) > 10
    for table in tables:
        name = table.relative_to(toy / "analysis").as_posix()
        found = explainer.explain("analysis", name, rows(toy, f"analysis/{name}")[-1])
        assert found.findings == []
        reaches(found)
