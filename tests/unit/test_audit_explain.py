"""`xstilts audit explain` on a small results folder made by hand, and on broken ones."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from audit_results import MADE, VALUES, make_results
from small_results import publish
from xstilts import cli
from xstilts.artifacts.manifest import MANIFEST, read_manifest, sha256_file
from xstilts.artifacts.spec import spec_sha256
from xstilts.audit.ancestry import Ancestry, Reader
from xstilts.audit.explain.graph import dot
from xstilts.audit.explain.main import Explainer, Explanation, parse_place
from xstilts.audit.explain.text import text_of
from xstilts.audit.results import open_results
from xstilts.errors import InputError

ROW = 3
CELL = "scores/bert/mnli/seed-1/xnli"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    make_results()
    return folder


def explain(results: Path, *place: Any) -> Explanation:
    return Explainer(open_results(results)).explain(*place)


# ---- the golden test


def hashes(results: Path, out: str) -> str:
    """How the text names a manifest and a spec."""
    spec = spec_sha256(read_manifest(results / out).spec)
    return f"manifest {short(results, out)}, spec {spec[:12]}"


def short(results: Path, out: str) -> str:
    return sha256_file(results / out / MANIFEST)[:12]


def files(results: Path, out: str) -> str:
    name = "content"
    return f"content: sha256 {sha256_file(results / out / name)[:12]}, {len(out)} bytes"


GOLDEN = """\
tables/overview.csv:3
  model bert, recipe mnli, languages all, target xnli, mean 81.0, sd 1.4142135623730951, seeds 2, \
change 5.0
  overview.csv: sha256 {overview}, 226 bytes
  tables: {tables}
  MADE

mean 81.0: mean over 2 seeds of the mean over 2 languages
  seed 1 80.0000: en 84.00, de 76.00  scores/bert/mnli/seed-1/xnli
  seed 2 82.0000: en 86.00, de 78.00  scores/bert/mnli/seed-2/xnli
  gives 81.0: the number in the cell
sd 1.4142135623730951: standard deviation of the seeds' 80.0000, 82.0000
  gives 1.4142135623730951: the number in the cell
seeds 2: seeds with scores
  gives 2: the number in the cell
change 5.0: the mean minus that of `none`: 81.0000 - 76.0000
  `none` 76.0000: mean over 2 seeds of the mean over 2 languages
    seed 1 75.0000: en 80.00, de 70.00  scores/bert/none/seed-1/xnli
    seed 2 77.0000: en 82.00, de 72.00  scores/bert/none/seed-2/xnli
  gives 5.0: the number in the cell

2 cells of the row
  bert, mnli, seed 1, xnli: scores/bert/mnli/seed-1/xnli
  bert, mnli, seed 2, xnli: scores/bert/mnli/seed-2/xnli
2 cells of the recipe `none`, which changes are against
  bert, none, seed 1, xnli: scores/bert/none/seed-1/xnli
  bert, none, seed 2, xnli: scores/bert/none/seed-2/xnli

Chain
  scores/bert/mnli/seed-1/xnli  []
    predictions: predictions/bert/mnli/seed-1/xnli  []
      checkpoint: checkpoints/bert/mnli/seed-1/mnli  []
        model: checkpoints/bert/mnli/seed-1/intermediate  []
          model: models/bert/base  []
          tokens: data/tokens/bert/xnli/en  []
            tokenizer: models/bert/tokenizer  []
            prepared: data/prepared/xnli/en  []
              raw: data/raw/xnli/en  []
        tokens: data/tokens/bert/xnli/en  []  (above)
      testset: data/testsets/bert/xnli  []
        tokens: data/tokens/bert/xnli/en  []  (above)
        tokens: data/tokens/bert/xnli/de  []
          tokenizer: models/bert/tokenizer  []  (above)
          prepared: data/prepared/xnli/de  []
            raw: data/raw/xnli/de  []
      prepared: data/prepared/xnli/en  []  (above)
      prepared: data/prepared/xnli/de  []  (above)
    gold: data/prepared/xnli/en  []  (above)
    gold: data/prepared/xnli/de  []  (above)
  scores/bert/mnli/seed-2/xnli  []
    predictions: predictions/bert/mnli/seed-2/xnli  []
      checkpoint: checkpoints/bert/mnli/seed-2/mnli  []
        model: checkpoints/bert/mnli/seed-2/intermediate  []
          model: models/bert/base  []  (above)
          tokens: data/tokens/bert/xnli/en  []  (above)
        tokens: data/tokens/bert/xnli/en  []  (above)
      testset: data/testsets/bert/xnli  []  (above)
      prepared: data/prepared/xnli/en  []  (above)
      prepared: data/prepared/xnli/de  []  (above)
    gold: data/prepared/xnli/en  []  (above)
    gold: data/prepared/xnli/de  []  (above)
  scores/bert/none/seed-1/xnli  []
    predictions: predictions/bert/none/seed-1/xnli  []
      checkpoint: checkpoints/bert/none/seed-1/mnli  []
        model: models/bert/base  []  (above)
        tokens: data/tokens/bert/xnli/en  []  (above)
      testset: data/testsets/bert/xnli  []  (above)
      prepared: data/prepared/xnli/en  []  (above)
      prepared: data/prepared/xnli/de  []  (above)
    gold: data/prepared/xnli/en  []  (above)
    gold: data/prepared/xnli/de  []  (above)
  scores/bert/none/seed-2/xnli  []
    predictions: predictions/bert/none/seed-2/xnli  []
      checkpoint: checkpoints/bert/none/seed-2/mnli  []
        model: models/bert/base  []  (above)
        tokens: data/tokens/bert/xnli/en  []  (above)
      testset: data/testsets/bert/xnli  []  (above)
      prepared: data/prepared/xnli/en  []  (above)
      prepared: data/prepared/xnli/de  []  (above)
    gold: data/prepared/xnli/en  []  (above)
    gold: data/prepared/xnli/de  []  (above)

Scores (4)
  scores/bert/mnli/seed-1/xnli
    <scores/bert/mnli/seed-1/xnli>
    target xnli, metric accuracy
    MADE
  scores/bert/mnli/seed-2/xnli
    <scores/bert/mnli/seed-2/xnli>
    target xnli, metric accuracy
    MADE
  scores/bert/none/seed-1/xnli
    <scores/bert/none/seed-1/xnli>
    target xnli, metric accuracy
    MADE
  scores/bert/none/seed-2/xnli
    <scores/bert/none/seed-2/xnli>
    target xnli, metric accuracy
    MADE

Predictions (4)
  predictions/bert/mnli/seed-1/xnli
    <predictions/bert/mnli/seed-1/xnli>
    target xnli
    MADE
  predictions/bert/mnli/seed-2/xnli
    <predictions/bert/mnli/seed-2/xnli>
    target xnli
    MADE
  predictions/bert/none/seed-1/xnli
    <predictions/bert/none/seed-1/xnli>
    target xnli
    MADE
  predictions/bert/none/seed-2/xnli
    <predictions/bert/none/seed-2/xnli>
    target xnli
    MADE

Fine-tuned checkpoint (4)
  checkpoints/bert/mnli/seed-1/mnli
    <checkpoints/bert/mnli/seed-1/mnli>, code bb, seed 1
    trained on mnli, 7 steps
    MADE
  checkpoints/bert/mnli/seed-2/mnli
    <checkpoints/bert/mnli/seed-2/mnli>, code bb, seed 2
    trained on mnli, 7 steps
    MADE
  checkpoints/bert/none/seed-1/mnli
    <checkpoints/bert/none/seed-1/mnli>, code bb, seed 1
    trained on mnli, 7 steps
    MADE
  checkpoints/bert/none/seed-2/mnli
    <checkpoints/bert/none/seed-2/mnli>, code bb, seed 2
    trained on mnli, 7 steps
    MADE

Intermediate checkpoint (2)
  checkpoints/bert/mnli/seed-1/intermediate
    <checkpoints/bert/mnli/seed-1/intermediate>, code bb, seed 1
    trained on mnli, 7 steps
    MADE
  checkpoints/bert/mnli/seed-2/intermediate
    <checkpoints/bert/mnli/seed-2/intermediate>, code bb, seed 2
    trained on mnli, 7 steps
    MADE

Base model (1)
  models/bert/base
    <models/bert/base>
    name bert
    from Hub someone/bert at f00d
    {base}
    MADE

Tokenizer (1)
  models/bert/tokenizer
    <models/bert/tokenizer>
    name bert
    from Hub someone/bert at f00d
    {tokenizer}
    MADE

Test data (1)
  data/testsets/bert/xnli
    <data/testsets/bert/xnli>
    MADE

Sub-words (2)
  data/tokens/bert/xnli/en
    <data/tokens/bert/xnli/en>
    xnli/en, encoding max_length 128
    MADE
  data/tokens/bert/xnli/de: manifest []

Prepared rows (2)
  data/prepared/xnli/en
    <data/prepared/xnli/en>, code aa
    xnli/en
    rows test 3
    MADE
  data/prepared/xnli/de: manifest []; rows test 3

Source files (2)
  data/raw/xnli/en
    <data/raw/xnli/en>
    xnli
    from Hub facebook/xnli, en at beef
    licence CC BY-NC 4.0 (the registry of this version)
    en.parquet: sha256 abababababab, 5 bytes
    MADE
  data/raw/xnli/de: manifest []; at beef

Environments
  1  conda; H100; Linux; 8 CPUs; python 3.11.7, torch 2.13.0
"""
MAKING = (
    "commit c0ffeec0ffee, peak 2.5 GB, environment 1",
    "made 10:00 to 11:00 on node7, SLURM job 42",
)


def golden(results: Path) -> str:
    """The expected text, with sha256 of what lies there put in."""
    text = GOLDEN.format(
        overview=sha256_file(results / "tables" / "overview.csv")[:12],
        tables=hashes(results, "tables"),
        base=files(results, "models/bert/base"),
        tokenizer=files(results, "models/bert/tokenizer"),
    )
    for manifest in results.rglob(MANIFEST):
        out = manifest.parent.relative_to(results).as_posix()
        text = text.replace(f"<{out}>", hashes(results, out))
        text = text.replace(f" {out}  []", f" {out}  {short(results, out)}")
        text = text.replace(f" {out}: manifest []", f" {out}: manifest {short(results, out)}")
    lines = []
    for line in text.splitlines():
        space = line[: -len("MADE")]
        lines += [space + part for part in MAKING] if line.strip() == "MADE" else [line]
    return "\n".join(lines) + "\n"


def test_the_whole_text_of_a_cell(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["audit", "explain", "tables/overview.csv:3"])
    assert capsys.readouterr().out == golden(results)


# ---- rows


def test_only_the_named_column_is_followed(results: Path) -> None:
    found = explain(results, "tables", "overview.csv", ROW, "change")
    assert [number.column for number in found.story.numbers] == ["change"]
    assert {cell["recipe"] for cell in found.cells} == {"none", "mnli"}


def test_a_number_that_does_not_follow_is_named(results: Path) -> None:
    found = explain(results, "tables", "overview.csv", 4)
    wrong = [number.column for number in found.story.numbers if number.agrees is False]
    assert wrong == ["mean", "change"]
    assert [item.kind for item in found.own] == ["recomputed", "recomputed"]
    assert "gives 81.0: NOT the number in the cell" in text_of(found)


def test_a_row_of_unknown_names_is_said_so_and_its_cells_are_those_that_match(
    results: Path,
) -> None:
    found = explain(results, "tables", "overview.csv", 5)
    assert "is no row of this table ('unknown')" in found.own[0].problem
    assert {cell["scores"] for cell in found.cells} == {
        f"scores/bert/{recipe}/seed-{seed}/xnli" for recipe, seed in VALUES
    }


def test_rows_of_the_analysis_lead_to_all_cells_that_match(results: Path) -> None:
    named = explain(results, "analysis", "gains.csv", 2)
    assert [cell["recipe"] for cell in named.cells] == ["mnli", "mnli", "none", "none"]
    nameless = explain(results, "analysis", "gains.csv", 3)
    assert len(nameless.cells) == len(VALUES)
    assert nameless.story.notes[0].startswith("All cells of the study")


def test_a_prediction_leads_to_its_row_and_source_file(results: Path) -> None:
    out = "predictions/bert/mnli/seed-1/xnli"
    found = explain(results, out, "de.jsonl", 2)
    rows = found.example["prepared"]["rows"]
    assert rows == {"test.parquet": {"row": 2, "content": {"id": "test-1", "text": "de 1"}}}
    assert list(found.example["source"]["files"]) == ["content"]
    assert found.ancestry.starts == [out]


def test_a_value_of_scores_leads_to_its_predictions_and_gold(results: Path) -> None:
    lines = (results / CELL / "scores.json").read_text().splitlines()
    row = next(i for i, line in enumerate(lines, start=1) if '"de"' in line)
    score = explain(results, CELL, "scores.json", row).example["score"]
    assert score["value"] == VALUES["mnli", 1]["de"]
    assert score["gold"] == "data/prepared/xnli/de"
    with pytest.raises(InputError, match="no score stands there"):
        explain(results, CELL, "scores.json", 2)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("tables/overview.csv:1", "expected 2 to 5"),
        ("tables/overview.csv:6", "expected 2 to 5"),
        ("tables/overview.csv:3:maen", "Did you mean 'mean'"),
        ("tables/absent.csv:3", "there is no such file"),
        (".", "is a whole results folder"),
        ("models/bert/base/content:1", "has no rows that can be explained"),
        ("predictions/bert/mnli/seed-1/xnli/de.jsonl:9", "expected 1 to 3"),
    ],
)
def test_places_that_are_none(
    results: Path, capsys: pytest.CaptureFixture[str], place: str, said: str
) -> None:
    assert cli.main(["audit", "explain", place]) == 2
    assert said in capsys.readouterr().err


def test_a_place_is_a_file_a_row_and_a_column(tmp_path: Path) -> None:
    assert parse_place("a/b.csv:12:mean") == (Path("a/b.csv"), 12, "mean")
    assert parse_place("a/b.csv:12") == (Path("a/b.csv"), 12, None)
    odd = tmp_path / "b.csv:12"
    odd.write_text("")
    assert parse_place(str(odd)) == (odd, None, None)


# ---- what is broken is said in place


def kinds(found: Explanation) -> dict[str, list[str]]:
    return {
        out: [item.kind for item in items]
        for out, items in found.ancestry.problems.items()
        if items
    }


def test_a_missing_ancestor_is_said_in_place(results: Path) -> None:
    shutil.rmtree(results / "models/bert/base")
    found = explain(results, "tables", "overview.csv", ROW)
    assert kinds(found) == {"models/bert/base": ["missing"]}
    assert "model: models/bert/base  (missing)" in text_of(found)
    states = found.content()["artifacts"]["checkpoints/bert/none/seed-1/mnli"]["inputs"]
    assert states[0]["state"] == "missing"


def test_another_manifest_than_recorded_is_said_in_place(results: Path) -> None:
    recorded = short(results, "data/raw/xnli/en")
    shutil.rmtree(results / "data/raw/xnli/en")
    publish("data/raw/xnli/en", {"stage": "fetch", "dataset": "other", "inputs": {}})
    found = explain(results, CELL)
    assert kinds(found) == {"data/prepared/xnli/en": ["input"]}
    assert f"(other manifest than recorded: {recorded})" in text_of(found)


def test_scores_made_again_since_the_tables_are_said(results: Path) -> None:
    manifest = read_manifest(results / CELL)
    text = (results / CELL / "scores.json").read_text()
    shutil.rmtree(results / CELL)
    publish(CELL, {**manifest.spec, "again": 1}, scores__json=text)
    found = explain(results, "tables", "overview.csv", ROW)
    assert [(item.kind, item.path) for item in found.own] == [("input", "tables")]


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda text: text[:-20], "manifest"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version"),
        (lambda text: text.replace("f00d", "dead"), "manifest"),
        (lambda text: text.replace("models/bert/base", "models/other/base"), "manifest"),
        (lambda text: text.replace('"f00d"', "NaN"), "manifest"),
        (lambda text: "[" * 9, "manifest"),
    ],
)
def test_a_damaged_manifest_is_said_in_place(results: Path, edit: Any, kind: str) -> None:
    path = results / "models/bert/base" / MANIFEST
    path.write_text(edit(path.read_text()))
    found = explain(results, CELL)
    assert kind in kinds(found)["models/bert/base"]
    assert "raw: data/raw/xnli/en" in text_of(found)
    json.dumps(found.content())


def test_a_loop_and_a_way_out_are_said_and_end(results: Path) -> None:
    out = "data/raw/xnli/en"
    shutil.rmtree(results / out)
    inputs = {"a": CELL, "b": "../elsewhere"}
    (results.parent / "elsewhere").mkdir()
    (results.parent / "elsewhere" / MANIFEST).write_text("{}")
    publish(out, {"stage": "fetch", "dataset": "xnli", "inputs": inputs})
    found = explain(results, CELL)
    assert "loop" in kinds(found)[CELL]
    assert kinds(found)["../elsewhere"] == ["outside"]
    around = next(item.problem for item in found.findings if item.kind == "loop")
    assert around.startswith(f"is made from itself: {CELL} from ")
    assert around.endswith(f" from {CELL}")
    assert "raw: data/raw/xnli/en" in text_of(found)


def test_many_inputs_are_summed_up_but_for_those_with_something_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for code in "abcdef":
        publish(f"raw/{code}", {"stage": "fetch", "inputs": {}})
        publish(f"rows/{code}", {"stage": "prepare", "inputs": {"raw": f"raw/{code}"}})
    publish("model", {"stage": "pretrain", "inputs": {"tokens": [f"rows/{c}" for c in "abcdef"]}})
    shutil.rmtree("raw/d")
    text = text_of(explain(tmp_path, "model"))
    tree = text[text.index("Chain") : text.index("\n\n", text.index("Chain"))]
    assert [line.split("  (")[0].split()[:2] for line in tree.splitlines()[1:]] == [
        ["model", short(tmp_path, "model")],
        ["tokens:", "rows/a"],
        ["raw:", "raw/a"],
        ["tokens:", "rows/d"],
        ["raw:", "raw/d"],
        ["tokens:", "…"],
    ]
    assert "tokens: … and 4 more: b, c, e, f" in tree
    assert "raw: raw/d  (missing)" in tree


def test_deep_chains_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    above: dict[str, str] = {}
    for number in range(1100):
        out = publish(f"deep/{number}", {"stage": "x", "inputs": above})
        above = {"model": out}
    ancestry = Ancestry(Reader(open_results(tmp_path)), [out])
    assert len(ancestry.artifacts) == 1100
    assert not ancestry.findings
    assert "model: deep/0 " in text_of(explain(tmp_path, out))


def test_changed_files_are_said(results: Path) -> None:
    (results / CELL / "scores.json").write_text("{}")
    found = explain(results, "tables", "overview.csv", ROW)
    assert "scores.json: has another size than in its manifest" in found.own[-1].problem
    assert [item.kind for item in explain(results, CELL, "scores.json").own] == ["changed"]


def test_records_that_are_missing_or_odd_are_said(results: Path) -> None:
    (results / CELL / "provenance.json").unlink()
    base = results / "models/bert/base" / "provenance.json"
    base.write_text('{"git": 3, "attempts": [1], "environment": null, "versions": []}')
    text = text_of(explain(results, CELL))
    assert "no record of its making" in text
    assert "commit unknown" in text


# ---- JSON and graphs


def test_json_is_complete(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    cli.main(["audit", "explain", f"tables/overview.csv:{ROW}", "--json", str(file)])
    content = json.loads(file.read_text())
    raw = content["artifacts"]["data/raw/xnli/de"]
    assert raw["about"]["revision"] == "beef"
    assert raw["provenance"] == MADE
    assert raw["manifest_sha256"] == sha256_file(results / "data/raw/xnli/de" / MANIFEST)
    assert content["cells"][0]["values"] == VALUES["mnli", 1]
    assert content["numbers"][0]["terms"][0]["of"][0]["of"][1] == {"name": "de", "value": 76.0}
    assert content["findings"] == []


def test_a_graph_has_a_box_for_each_data_set_and_one_way_each(
    results: Path, tmp_path: Path
) -> None:
    found = explain(results, "scores/bert/none/seed-1/xnli")
    text = dot(found.ancestry)
    assert [line for line in text.splitlines() if "->" in line] == [
        '  "checkpoints/bert/none/seed-1/mnli" -> "predictions/bert/none/seed-1/xnli"',
        '  "data/prepared/xnli" -> "data/tokens/bert/xnli"',
        '  "data/raw/xnli" -> "data/prepared/xnli"',
        '  "data/testsets/bert" -> "predictions/bert/none/seed-1/xnli"',
        '  "data/tokens/bert/xnli" -> "checkpoints/bert/none/seed-1/mnli"',
        '  "data/tokens/bert/xnli" -> "data/testsets/bert"',
        '  "models/bert/base" -> "checkpoints/bert/none/seed-1/mnli"',
        '  "models/bert/tokenizer" -> "data/tokens/bert/xnli"',
        '  "predictions/bert/none/seed-1/xnli" -> "scores/bert/none/seed-1/xnli"',
    ]
    assert '"Source files\\ndata/raw/xnli\\n2: de, en"' in text
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "c.dot")]
    for path in paths:
        cli.main(["audit", "explain", f"tables/overview.csv:{ROW}", "--graph", str(path)])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert "Predictions" in paths[2].read_text()


def test_a_graph_of_another_kind_is_refused(results: Path) -> None:
    assert cli.main(["audit", "explain", "tables", "--graph", "x.png"]) == 2


def test_nothing_is_written_into_the_results(results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    with (results / "tables/overview.csv").open() as file:
        count = len(list(csv.reader(file)))
    for row in range(2, count + 1):
        text_of(explain(results, "tables", "overview.csv", row))
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before
