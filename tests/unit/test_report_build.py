"""The report stage: its pages say what the tables, answers and manifests say, and nothing else."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from small_results import MODELS, RECIPES, make_results
from xstilts.analysis import numbers
from xstilts.analysis.answer import Answer, Column
from xstilts.analysis.answer import Table as AnswerTable
from xstilts.artifacts.manifest import read_manifest, sha256_file
from xstilts.errors import InputError
from xstilts.report import assets
from xstilts.report.answers import _table
from xstilts.report.build import run
from xstilts.report.charts import dots, ticks
from xstilts.report.facts import facts
from xstilts.report.lineage import Lineage
from xstilts.report.material import Material
from xstilts.report.site import prose
from xstilts.report.view import Cell

REPORT = Path("report")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of a small study and the spec of its report."""
    folder = tmp_path_factory.mktemp("made") / "small"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        spec = make_results()
        run(spec, REPORT)
    return folder, spec


@pytest.fixture
def spec(made, monkeypatch):
    """In the folder of the results; they must stay as they are."""
    folder, spec = made
    monkeypatch.chdir(folder)
    return spec


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """A copy of the results that may be changed."""
    folder, spec = made
    shutil.copytree(folder, tmp_path / "small")
    monkeypatch.chdir(tmp_path / "small")
    return spec


def page(name):
    return (REPORT / name).read_text(encoding="utf-8")


def text_of(name):
    """Words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(name)))


# ---- numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.25, "+1.2"), (-1.26, "−1.3"), (0.04, "0.0"), (-0.04, "0.0"), (0, "0.0"), (None, "–")],
)
def test_changes_have_signs_and_zero_has_none(value, shown):
    assert numbers.signed(value) == shown


def test_numbers_for_people():
    assert numbers.plain(-0.04) == "0.0"
    assert numbers.plain(-12.34, 2) == "−12.34"
    assert numbers.p_value(0.0004) == "<0.001"
    assert numbers.p_value(0.05) == "0.050"
    assert numbers.whole(12345.0) == "12,345"
    assert [numbers.size(n) for n in (0, 999, 1000, 999_999, 2_500_000_000)] == [
        *("0 bytes", "999 bytes", "1.0 kB", "1.0 MB", "2.5 GB")
    ]
    assert numbers.interval(1, None) == ""
    assert numbers.listed(["a"]) == "a"
    assert numbers.listed(["a", "b", "c"]) == "a, b and c"


def test_colours_are_strong_where_gains_are():
    gains = [-50, -10, -5, -2, -0.5, -0.4, 0, 0.4, 0.5, 2, 5, 10, 50]
    assert [numbers.heat(gain) for gain in gains] == [-4, -4, -3, -2, -1, 0, 0, 0, 1, 2, 3, 4, 4]
    assert numbers.heat(None) is None


def test_ticks_are_round_and_span_the_range():
    assert ticks(-3.2, 7.1) == [-4, -2, 0, 2, 4, 6, 8]
    assert ticks(0, 0.9, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert len(ticks(5, 5)) >= 1


def test_a_chart_without_gains_is_none():
    assert dots("Gains", {"mnli": {}}, "language") is None
    chart = dots("Gains", {"mnli": {"German": 1.0, "Thai": -3.0}}, "language")
    assert chart is not None
    assert "mnli: mean −1.0 over 2 languages from −3.0 to +1.0" in chart.alt


def test_prose_marks_names_and_escapes():
    assert prose("Add `xcopa` & <more>, 95 % of it") == (
        "Add <code>xcopa</code> &amp; &lt;more&gt;, 95\N{NO-BREAK SPACE}% of it"
    )
    assert prose("an odd ` quote") == "an odd ` quote"


# ---- the whole


def test_same_inputs_give_the_same_bytes(spec, tmp_path):
    out = Path("again")
    run(spec, out)
    first, second = read_manifest(REPORT), read_manifest(out)
    shutil.rmtree(out)
    assert first.files == second.files
    assert {"index.html", "explorer.html", "static/scores.js"} <= first.files.keys()


def test_pages_hold_no_date_machine_or_version(spec):
    content = "".join(path.read_text() for path in REPORT.rglob("*.html"))
    assert "3.11.7" not in content
    stages = json.loads((REPORT / "provenance.json").read_text())["stages"]
    assert stages["finetune"] == {"python": ["3.11.7"]}
    assert "provenance.json" not in read_manifest(REPORT).files


def test_overview_holds_the_numbers_of_the_tables(spec):
    with (REPORT / "files/tables/overview.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    cells = re.findall(r'<td class="num[^"]*" data-v="([^"]+)">.*?</td>', page("index.html"))
    shown = [round(float(value), 6) for value in cells]
    for row in rows:
        assert shown.count(round(float(row["mean"]), 6)) >= 1
    assert len(shown) == len(rows)


def test_what_is_wrong_is_said_first(spec):
    text = text_of("index.html")
    assert "1 of 58 trainings learnt nothing (collapsed): checkpoints/own/two/seed-2/pawsx." in text
    assert "own / none / pawsx / seed 1, own / none / pawsx / seed 2, own / qqp / xquad" in text
    assert "1 test set has fewer than 100 examples; the smallest is PAWS-X in Chinese" in text
    assert "There is one seed" not in text


def test_one_seed_is_said(spec):
    assert "There is one seed." in " ".join(Material({**spec, "seeds": [1]}).warnings())


def test_a_target_without_none_has_no_change(spec):
    row = re.search(r"<th[^>]*><a[^>]*>German</a></th>.*?</tr>", page("targets/pawsx.html"), re.S)
    assert row
    table = page("targets/pawsx.html").rpartition("PAWS-X by language, Own")[2]
    assert "change" not in table.partition("</table>")[0]


def test_names_are_escaped(spec):
    for path in REPORT.rglob("*.html"):
        assert "<small>" not in path.read_text()
    assert "Own &lt;small&gt; model" in page("index.html")
    assert "A second &lt;paragraph&gt;." in page("questions/tasks.html")


def test_an_answer_that_cannot_be_given_says_why(spec):
    assert "This study cannot answer the question." in page("questions/reasoning.html")
    assert "The study has no such target." in page("questions/reasoning.html")
    assert "This study cannot say." in page("index.html")


def test_methods_are_those_of_the_artifacts(spec):
    text = text_of("methods.html")
    assert "Big Encoder (2 blocks, 1.5 million parameters) is a pretrained encoder." in text
    assert "Its weights are someone/big-encoder, revision f00d." in text
    assert "was pretrained from scratch in this study" in text
    assert "fine-tuning were run with seeds 1 and 2" in text
    assert "200 bootstrap samples" in text
    assert "learning rate 1e−5; batch 32; warm-up 10 %" in text
    assert "Tatoeba: layer 1, pooling mean." in text
    assert "0123456789abcdef0123456789abcdef" in text
    assert "CC-BY-NC-4.0" in text
    assert "392,700" in text
    assert "Gains are paired." in text


def test_distances_stand_on_the_pages_of_languages(spec):
    assert "How far apart in the family tree. (lang2vec)" in text_of("languages/de.html")
    assert "0.50" in text_of("languages/de.html")


def test_files_for_download_are_copies(spec):
    for name in ("scores.csv", "by_language/xnli.csv", "figures/gains.svg"):
        assert (REPORT / "files/tables" / name).read_bytes() == Path("tables", name).read_bytes()
    name = "tasks/gains.csv"
    assert (REPORT / "files/analysis" / name).read_bytes() == Path("analysis", name).read_bytes()


def test_explorer_has_every_mean_over_seeds(spec):
    text = (REPORT / "static/scores.js").read_text()
    data = json.loads(text.removeprefix("window.XSTILTS = ").removesuffix(";\n"))
    line = data["values"]["big-encoder"]["xnli"]["accuracy"]["mnli"]
    # 0.80 + 0.04 + 0.01 and 0.02 in English, less by language.
    assert line == pytest.approx([85.5, 80.5, 65.5, 73.5])
    assert "none" not in data["values"]["own"]["pawsx"]["accuracy"]


# ---- lineage


def test_lineage_names_manifests_specs_and_files(spec):
    out = "scores/big-encoder/mnli/seed-1/xnli"
    manifest, text = read_manifest(Path(out)), page("lineage/cells/big-encoder/mnli.html")
    assert f'id="{out}"' in text
    assert sha256_file(Path(out, "manifest.json")) in text
    for entry in manifest.files.values():
        assert entry["sha256"] in text
    assert 'id="xnli-seed-1"' in text
    assert f"../../../../{out}/provenance.json" in text
    for model in MODELS:
        for recipe in RECIPES:
            assert (REPORT / f"lineage/cells/{model}/{recipe}.html").is_file()


def test_a_chain_goes_from_scores_to_the_model(spec):
    lineage = Lineage(spec["inputs"]["scores"])
    chain = list(lineage.chain("scores/own/mnli/seed-2/pawsx"))
    assert [item.stage for item in chain] == [
        *("score", "evaluate", "finetune", "intermediate", "pretrain")
    ]
    assert lineage.changed == lineage.gone == []
    assert {"fetch", "prepare", "tokens", "testset"} <= {
        item.stage for item in lineage.artifacts.values()
    }


def test_what_is_gone_or_was_made_again_is_said(copied):
    shutil.rmtree("data/raw/xnli/sw")
    changed = Path("checkpoints/own/mnli/seed-1/pawsx")
    expected = sha256_file(changed / "manifest.json")
    text = (changed / "manifest.json").read_text()
    (changed / "manifest.json").write_text(text.replace("\n", "\n ", 1))
    run(copied, REPORT)
    assert "no longer among the results" in page("lineage/data/xnli.html")
    assert "1 artifact was made again" in text_of("lineage.html")
    content = page("lineage/cells/own/mnli.html")
    assert "It was made again since" in content
    assert expected in content


# ---- what may be missing


def test_without_none_no_gain_is_known(copied):
    recipes = {name: row for name, row in RECIPES.items() if name != "none"}
    spec = {**copied, "recipes": recipes}
    spec["cells"] = [cell for cell in copied["cells"] if cell["recipe"] != "none"]
    run(spec, REPORT)
    assert "no recipe none, so no gains are known" in text_of("index.html")


def test_without_questions_counts_and_distances(copied):
    inputs = {k: v for k, v in copied["inputs"].items() if k not in ("check", "distances")}
    run({**copied, "questions": [], "datasets": {}, "tasks": {}, "inputs": inputs}, REPORT)
    assert not (REPORT / "questions.html").exists()
    assert "questions.html" not in page("index.html")
    assert "Family tree" not in page("languages/de.html")


def test_an_answer_that_is_missing_is_an_error(copied):
    with pytest.raises(InputError, match=r"lists no file 'number/answer\.json'"):
        run({**copied, "questions": ["tasks", "number"]}, REPORT)


def test_tables_that_were_changed_are_an_error(copied):
    with Path("tables/overview.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match="another size than in its manifest"):
        run(copied, REPORT)


# ---- tables of answers


COLUMNS = (
    Column("model", "Model", "model"),
    Column("recipe", "Recipe", "recipe"),
    Column("target", "Target", "target"),
    Column("value", "Gain", "gain"),
    Column("low", "Low", "gain"),
    Column("high", "High", "gain"),
    Column("adjusted", "p", "p"),
    Column("verdict", "Verdict"),
    Column("why", "Why not"),
)


def drawn(spec, *rows):
    answer, table = Answer("tasks", "Which?"), AnswerTable("gains", "Gains", COLUMNS, rows)
    return _table(Material(spec), answer, table)


def row(**changes):
    keys = {column.key: None for column in COLUMNS}
    return keys | {"model": "own", "recipe": "mnli", "target": "xnli", "value": -4.0} | changes


def test_intervals_and_tests_stand_below_their_value(spec):
    bounds = {"low": -6.0, "high": -2.0, "adjusted": 0.01, "verdict": "lower"}
    found = drawn(spec, row(**bounds), row(value=3.0, verdict="cannot be told apart"))
    assert [column.title for column in found.columns] == ["Model", "Recipe", "Target", "Gain"]
    assert found.rows[0][3] == Cell(
        "−4.0",
        -4.0,
        href="lineage/cells/own/mnli.html#xnli",
        note="[−6.0, −2.0]\np\N{NO-BREAK SPACE}0.010\nlower",
        heat=-2,
    )
    # What cannot be told apart has no colour; without bounds there is no interval.
    assert found.rows[1][3].heat is None
    assert found.rows[1][3].note == "cannot be told apart"


def test_a_reason_is_shown_and_what_is_blank_is_not(spec):
    found = drawn(spec, row(why="one seed"))
    assert [column.title for column in found.columns][-1] == "Why not"
    one = {**spec, "models": {"own": MODELS["own"]}}
    assert drawn(one, row()).columns[0].title == "Recipe"
    blank = drawn(one, row(value=None))
    assert [column.title for column in blank.columns] == ["Recipe", "Target"]


# ---- what the spec holds


def test_assets_are_hashed_by_name_and_bytes(tmp_path, monkeypatch):
    def digest():
        assets.assets_sha256.cache_clear()
        return assets.assets_sha256()

    before = digest()
    shutil.copytree(assets.STATIC, tmp_path / "static")
    shutil.copytree(assets.TEMPLATES, tmp_path / "templates")
    monkeypatch.setattr(assets, "STATIC", tmp_path / "static")
    monkeypatch.setattr(assets, "TEMPLATES", tmp_path / "templates")
    assert digest() == before
    for name in ("static/report.css", "static/report.js", "templates/base.html"):
        path = tmp_path / name
        text = path.read_text()
        path.write_text(f"{text} ")
        assert digest() != before
        path.write_text(text)
    monkeypatch.undo()
    assert digest() == before


def test_facts_are_rows_of_the_registry_that_are_used():
    from xstilts.registry import load_registry

    specs = [
        {"stage": "prepare", "dataset": "xnli"},
        {"stage": "finetune", "tasks": [{"name": "mnli"}]},
        {"stage": "score", "target": "tatoeba"},
    ]
    found = facts(load_registry([]), specs)
    assert found["datasets"].keys() == {"xnli"}
    assert found["datasets"]["xnli"]["licence"]
    assert found["tasks"] == {"mnli": {"title": "MNLI", "datasets": ["mnli"]}}


def test_gains_that_are_all_nothing_have_an_axis():
    from xstilts.report.charts import dots, ticks

    assert ticks(0.0, 0.0) == ticks(-1.0, 1.0)
    chart = dots("Gains", {"mnli": {"de": 0.0, "sw": 0.0}}, "language")
    assert chart is not None
    assert "nan" not in chart.svg


def test_a_page_holds_the_first_rows_of_a_long_table():
    from types import SimpleNamespace

    from xstilts.analysis.answer import Answer, Column
    from xstilts.analysis.answer import Table as AnswerTable
    from xstilts.report.answers import MOST_ROWS, _table

    rows = [{"n": number} for number in range(MOST_ROWS + 1200)]
    table = AnswerTable("long", "Long", (Column("n", "Number", "n"),), rows)
    material = SimpleNamespace(models={"m": {}})
    shown = _table(material, Answer("distance", "Distance"), table)
    assert len(shown.rows) == MOST_ROWS
    assert "the first 300 of 1,500 rows; the CSV has all" in shown.caption
