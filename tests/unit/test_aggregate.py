"""The aggregate stage: tables worked by hand, intervals, the figure, its errors."""

import csv
import json
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
from safetensors.numpy import save_file

from xstilts.analysis.aggregate import run, summary
from xstilts.analysis.bootstrap import interval, resampled_sums
from xstilts.analysis.heatmap import Gains, draw_gains
from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError
from xstilts.evaluation.metrics.table import METRICS
from xstilts.evaluation.score import score_rows

TABLES = Path("tables")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def target(name, metric="accuracy", languages=("en", "de", "sw"), group="classification"):
    return {
        "name": name,
        "title": name.upper(),
        "metric": metric,
        "group": group,
        "languages": list(languages),
    }


def correct(share, n=20):
    """Statistics of an accuracy: the first examples are right."""
    return np.stack([np.arange(n) < round(share * n), np.ones(n)], axis=1).astype(float)


def cell(recipe, seed, entry, statistics, model="m", layers=None):
    """Publish scores made of statistics by language; the cell."""
    out = f"scores/{model}/{recipe}/seed-{seed}/{entry['name']}"
    metric = METRICS[entry["metric"]]
    rows = [row for code, counts in statistics.items() for row in score_rows(metric, code, counts)]
    with publishing(Path(out), {"stage": "test"}) as draft:
        content = {"target": entry["name"], "metric": metric.name, "rows": rows}
        content["layers"] = layers or {}
        (draft.folder / "scores.json").write_text(json.dumps(content))
        save_file(statistics, draft.folder / "statistics.safetensors")
    return {"model": model, "recipe": recipe, "seed": seed, "target": entry["name"], "scores": out}


def shares(*values, n=20):
    codes = ("en", "de", "sw")
    return {code: correct(value, n) for code, value in zip(codes, values, strict=True)}


def spec(targets, cells, recipes=("none", "mnli"), **changes):
    return {
        "stage": "aggregate",
        "code": "0",
        "study": "trial",
        "source_language": "en",
        "models": ["m"],
        "recipes": list(recipes),
        "seeds": [1, 2],
        "targets": targets,
        "languages": [{"code": code, "name": code.title()} for code in ("en", "de", "sw")],
        "bootstrap": {"samples": 200, "seed": 1},
        "cells": cells,
        "inputs": {
            "scores": [entry["scores"] for entry in cells],
            "layers": [],
            "checkpoints": [],
        },
        **changes,
    }


def table(name):
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def overview(recipe, name, languages="all"):
    keys = (recipe, name, languages)
    rows = [r for r in table("overview.csv") if (r["recipe"], r["target"], r["languages"]) == keys]
    assert len(rows) == 1, keys
    return {
        key: float(rows[0][key]) if rows[0][key] else None
        for key in ("mean", "sd", "seeds", "change")
    }


@pytest.fixture
def trial():
    """Two targets; of `none` on `tatoeba` there is one seed only, as nothing random happens."""
    xnli = target("xnli")
    tatoeba = target("tatoeba", "tatoeba_accuracy", ("de", "sw"), "retrieval")
    foreign = [
        {"de": correct(a), "sw": correct(b)} for a, b in ((0.2, 0.4), (0.5, 0.3), (0.7, 0.5))
    ]
    cells = [
        cell("none", 1, xnli, shares(0.9, 0.6, 0.3)),
        cell("none", 2, xnli, shares(0.8, 0.7, 0.3)),
        cell("mnli", 1, xnli, shares(1.0, 0.8, 0.3)),
        cell("mnli", 2, xnli, shares(0.9, 0.8, 0.4)),
        cell("none", 1, tatoeba, foreign[0]),
        cell("mnli", 1, tatoeba, foreign[1]),
        cell("mnli", 2, tatoeba, foreign[2]),
    ]
    return spec([xnli, tatoeba], cells)


# ---- tables


def test_overview_by_hand(trial):
    run(trial, TABLES)
    # XNLI none: seeds (90+60+30)/3 = 60, (80+70+30)/3 = 60; mnli: 70, 70.
    assert overview("none", "xnli") == {"mean": 60, "sd": 0, "seeds": 2, "change": None}
    found = overview("mnli", "xnli")
    assert found["mean"] == pytest.approx(70)
    assert found["change"] == pytest.approx(10)
    # Zero-shot leaves en out: 45 and 50; 55 and 60.
    found = overview("none", "xnli", "zero-shot")
    assert found["mean"] == pytest.approx(47.5)
    assert found["sd"] == pytest.approx(stdev([45, 50]))
    assert overview("mnli", "xnli", "zero-shot")["change"] == pytest.approx(10)
    # Tatoeba has no en: both kinds are alike; one seed of none has no spread.
    for languages in ("all", "zero-shot"):
        assert overview("none", "tatoeba", languages) == {
            "mean": pytest.approx(30),
            "sd": None,
            "seeds": 1,
            "change": None,
        }
        assert overview("mnli", "tatoeba", languages)["change"] == pytest.approx(50 - 30)
    # The average: (60 + 30) / 2 and (70 + 50) / 2; seeds of mnli: (70 + 40) / 2, (70 + 60) / 2.
    assert overview("none", "average")["mean"] == pytest.approx(45)
    assert overview("none", "average")["sd"] is None
    found = overview("mnli", "average")
    assert found["mean"] == pytest.approx(60)
    assert found["sd"] == pytest.approx(stdev([55, 65]))
    assert found["change"] == pytest.approx(15)


def test_scores_are_tidy_and_complete(trial):
    run(trial, TABLES)
    rows = table("scores.csv")
    assert len(rows) == 4 * 3 + 3 * 2
    assert rows[0] == {
        "study": "trial",
        "model": "m",
        "recipe": "none",
        "seed": "1",
        "target": "xnli",
        "language": "en",
        "metric": "accuracy",
        "value": "90.0",
        "n": "20",
        "split": "test",
    }


def test_by_language_with_intervals(trial):
    run(trial, TABLES)
    rows = {(row["recipe"], row["language"]): row for row in table("by_language/xnli.csv")}
    assert list(rows) == [(r, code) for r in ("none", "mnli") for code in ("en", "de", "sw")]
    row = {
        key: value for key, value in rows["mnli", "de"].items() if key not in ("model", "recipe")
    }
    assert float(row["mean"]) == pytest.approx(80)
    assert (row["sd"], row["seeds"], row["n"], row["metric"]) == ("0.0", "2", "20", "accuracy")
    assert 50 < float(row["lower"]) < 80 < float(row["upper"]) <= 100
    assert float(row["change"]) == pytest.approx(15)
    assert 0 <= float(row["change_lower"]) < 15 < float(row["change_upper"]) < 40
    none = rows["none", "de"]
    assert (none["change"], none["change_lower"], none["change_upper"]) == ("", "", "")


def test_equal_predictions_have_a_paired_change_of_exactly_nothing():
    xnli = target("xnli")
    cells = [cell(recipe, 1, xnli, shares(0.9, 0.6, 0.3)) for recipe in ("none", "mnli")]
    run(spec([xnli], cells), TABLES)
    for row in table("by_language/xnli.csv")[3:]:
        assert (row["change"], row["change_lower"], row["change_upper"]) == ("0.0",) * 3
        assert float(row["lower"]) < float(row["upper"])


def test_question_answering_counts_the_mean_of_both_in_the_overview_and_f1_by_language():
    xquad = target("xquad", "squad_f1", ["en"])
    counts = np.array([[0.5, 0, 1], [1, 1, 1]])
    run(spec([xquad], [cell("none", 1, xquad, {"en": counts})]), TABLES)
    assert overview("none", "xquad")["mean"] == pytest.approx((75 + 50) / 2)
    (row,) = table("by_language/xquad.csv")
    assert (row["metric"], row["mean"]) == ("f1", "75.0")


def test_without_none_there_is_no_change_but_everything_else():
    xnli = target("xnli")
    run(spec([xnli], [cell("mnli", 1, xnli, shares(0.9, 0.6, 0.3))], recipes=["mnli"]), TABLES)
    assert overview("mnli", "xnli") == {
        "mean": pytest.approx(60),
        "sd": None,
        "seeds": 1,
        "change": None,
    }
    assert {row["change"] for row in table("by_language/xnli.csv")} == {""}
    assert (TABLES / "figures" / "gains.svg").stat().st_size > 1000


def test_a_recipe_without_scores_of_a_target_has_no_average():
    xnli, pawsx = target("xnli"), target("pawsx")
    cells = [
        cell("none", 1, xnli, shares(0.9, 0.6, 0.3)),
        cell("none", 1, pawsx, shares(0.9, 0.6, 0.3)),
        cell("mnli", 1, xnli, shares(0.9, 0.6, 0.3)),
    ]
    run(spec([xnli, pawsx], cells), TABLES)
    found = {(row["recipe"], row["target"]) for row in table("overview.csv")}
    assert ("none", "average") in found
    assert not found & {("mnli", "average"), ("mnli", "pawsx")}
    assert "| mnli | all | 60.0 (+0.0) |  |  |" in (TABLES / "overview.md").read_text()


def test_languages_with_distances(trial):
    run(trial, TABLES)
    assert not (TABLES / "languages.csv").exists()
    languages = [
        {"code": "en", "name": "English", "distance": 0.0},
        {"code": "de", "name": "German", "distance": 0.4},
        {"code": "sw", "name": "Swahili"},
    ]
    run({**trial, "languages": languages}, TABLES)
    rows = {(row["recipe"], row["language"]): row for row in table("languages.csv")}
    assert set(rows) == {(r, code) for r in ("none", "mnli") for code in ("en", "de")}
    german = rows["mnli", "de"]
    assert (german["name"], german["distance"], german["targets"]) == ("German", "0.4", "2")
    # XNLI 65 to 80, Tatoeba 20 to 60.
    assert float(german["mean"]) == pytest.approx((80 + 60) / 2)
    assert float(german["change"]) == pytest.approx((15 + 40) / 2)


def test_markdown(trial):
    run(trial, TABLES)
    lines = (TABLES / "overview.md").read_text(encoding="utf-8").splitlines()
    assert "| Recipe | Languages | XNLI | TATOEBA | Average |" in lines
    assert "| none | all | 60.0 ± 0.0 | 30.0 | 45.0 |" in lines
    assert "| mnli | all | 70.0 ± 0.0 (+10.0) | 50.0 ± 14.1 (+20.0) | 60.0 ± 7.1 (+15.0) |" in lines
    assert "| none | zero-shot | 47.5 ± 3.5 | 30.0 | 38.8 |" in lines


def test_a_group_of_several_targets_has_a_mean():
    targets = [target("a"), target("b"), target("c", group="qa")]
    values = {"a": 0.2, "b": 0.4, "c": 0.9}
    cells = [cell("none", 1, entry, shares(*[values[entry["name"]]] * 3)) for entry in targets]
    run(spec(targets, cells, recipes=["none"]), TABLES)
    assert overview("none", "classification (group)")["mean"] == pytest.approx(30)
    assert overview("none", "average")["mean"] == pytest.approx(50)
    lines = (TABLES / "overview.md").read_text(encoding="utf-8").splitlines()
    assert "| Recipe | Languages | A | B | C | Classification (group) | Average |" in lines
    assert "(group)" not in summary(TABLES)


def test_summary_is_aligned_and_narrow():
    targets = [target(f"target-{i}") for i in range(7)]
    cells = [
        cell(recipe, 1, entry, shares(0.9, value, 0.3))
        for entry in targets
        for recipe, value in (("none", 0.6), ("a-recipe-with-a-name", 0.3))
    ]
    recipes = ["none", "a-recipe-with-a-name"]
    run(spec(targets, cells, recipes), TABLES)
    text = summary(TABLES)
    lines = text.splitlines()
    assert max(map(len, lines)) < 100
    assert lines[0] == "m, all languages"
    assert lines[1].split() == ["recipe", *(f"target-{i}" for i in range(6))]
    assert lines[3].split() == ["a-recipe-with-a-name", *["50.0", "-10.0"] * 6]
    assert text.count("average") == 2
    assert "m, zero-shot (without the source language)" in lines
    with pytest.raises(InputError, match="the overview is missing"):
        summary(Path("nowhere"))


def test_five_targets_fit_into_one_block():
    targets = [target(name) for name in ("toy-nli", "toy-choice", "toy-qa", "toy-tags", "toy-find")]
    cells = [cell("none", 1, entry, shares(0.9, 0.6, 0.3)) for entry in targets]
    run(spec(targets, cells, ["none"]), TABLES)
    assert summary(TABLES).count("recipe") == 2


def test_two_runs_give_the_same_bytes(trial):
    files = []
    for _ in range(2):
        run(trial, TABLES)
        files.append(read_manifest(TABLES).files)
    assert files[0] == files[1]
    assert set(files[0]) == {
        "scores.csv",
        "trainings.csv",
        "overview.csv",
        "overview.md",
        "by_language/xnli.csv",
        "by_language/tatoeba.csv",
        "figures/gains.svg",
        "figures/gains.png",
    }


GROUPS = {
    "classification": ("pawsx", "xnli"),
    "tagging": ("panx", "udpos"),
    "qa": ("xquad", "mlqa", "tydiqa"),
    "retrieval": ("bucc2018", "tatoeba"),
}


def test_the_overview_of_xtremes_scores_is_official(shared: Path):
    path = shared / "golden" / "scores" / "expected.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    tasks = {name: part for name, part in expected.items() if isinstance(part, dict)}
    targets, cells = [], []
    for name, part in tasks.items():
        # Statistics that give the official values back: 100 examples with sums made to measure.
        metric = "squad_f1" if "exact_match" in part else "accuracy"
        values = part["f1" if metric == "squad_f1" else next(iter(part))]
        statistics = {}
        for code, value in values.items():
            columns = (
                [value / 100, part["exact_match"][code] / 100]
                if metric == "squad_f1"
                else [value / 100]
            )
            statistics[code] = np.tile([*columns, 1.0], (100, 1))
        group = next(group for group, names in GROUPS.items() if name in names)
        targets.append(target(name, metric, values, group))
        cells.append(cell("none", 1, targets[-1], statistics))
    run(spec(targets, cells, bootstrap={"samples": 2, "seed": 1}), TABLES)
    assert len(tasks) == 9
    for name, part in tasks.items():
        assert overview("none", name)["mean"] == pytest.approx(part["avg_metric"], abs=1e-9)
    assert overview("none", "average")["mean"] == pytest.approx(expected["all_task"], abs=1e-9)
    for group in GROUPS:
        found = overview("none", f"{group} (group)")["mean"]
        assert found == pytest.approx(expected[group], abs=1e-9)


# ---- bad input


def test_scores_of_another_target_metric_or_language_are_an_error():
    xnli = target("xnli")
    good = cell("none", 1, xnli, shares(0.9, 0.6, 0.3))
    with pytest.raises(InputError, match=r"scores\.json: holds other scores.*'swa'.*found.*'sw'"):
        run(spec([target("xnli", languages=("en", "de", "swa"))], [good]), TABLES)
    with pytest.raises(InputError, match="holds other scores"):
        run(spec([target("pawsx")], [{**good, "target": "pawsx"}]), TABLES)
    with pytest.raises(InputError, match="holds other scores"):
        run(spec([target("xnli", "tatoeba_accuracy")], [good]), TABLES)
    with pytest.raises(InputError, match="no metric is called 'acc'"):
        run(spec([target("xnli", "acc")], [good]), TABLES)
    assert not TABLES.exists()


def test_cells_with_other_examples_are_an_error():
    xnli = target("xnli")
    cells = [
        cell("none", 1, xnli, shares(0.9, 0.6, 0.3)),
        cell("mnli", 1, xnli, shares(0.9, 0.6, 0.3, n=10)),
    ]
    message = r"mnli.*: en: has other examples.*\(20, 2\) as in scores/m/none.*found \(10, 2\)"
    with pytest.raises(InputError, match=message):
        run(spec([xnli], cells), TABLES)


def test_missing_and_changed_scores_are_errors():
    xnli = target("xnli")
    good = cell("none", 1, xnli, shares(0.9, 0.6, 0.3))
    with pytest.raises(InputError, match="an input is missing"):
        run(spec([xnli], [{**good, "scores": "scores/none-such"}]), TABLES)
    path = Path(good["scores"]) / "scores.json"
    path.write_text(path.read_text().replace("90.0", "91.0"))
    with pytest.raises(InputError, match="has other bytes than in its manifest"):
        run(spec([xnli], [good]), TABLES)


# ---- bootstrap


def test_resampled_sums_are_of_as_many_examples_and_paired():
    statistics = np.random.default_rng(0).random((50, 2))
    columns = np.concatenate([np.ones((50, 1)), statistics, statistics + 1], axis=1)
    sums = resampled_sums(columns, 300, (1, 2))
    assert sums.shape == (300, 5)
    np.testing.assert_array_equal(sums[:, 0], 50)
    np.testing.assert_allclose(sums[:, 3] - sums[:, 1], 50)
    np.testing.assert_array_equal(sums, resampled_sums(columns, 300, (1, 2)))
    assert not np.array_equal(sums, resampled_sums(columns, 300, (1, 3)))


def test_resamples_do_not_depend_on_the_block(monkeypatch):
    columns = np.random.default_rng(0).integers(0, 9, (50, 2)).astype(float)
    whole = resampled_sums(columns, 30, (1,))
    monkeypatch.setattr("xstilts.analysis.bootstrap._BLOCK", 120)
    np.testing.assert_array_equal(whole, resampled_sums(columns, 30, (1,)))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    n = 400
    columns = np.random.default_rng(3).standard_normal((n, 1))
    low, high = interval(resampled_sums(columns, 4000, (1,))[:, 0] / n)
    half = 1.96 * columns.std() / n**0.5
    assert (low, high) == pytest.approx(
        (columns.mean() - half, columns.mean() + half), abs=half / 10
    )


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial_ in range(300):
        sample = (generator.random((100, 1)) < 0.7).astype(float)
        low, high = interval(resampled_sums(sample, 300, (trial_,))[:, 0] / 100)
        covered += low <= 0.7 <= high
    assert 0.90 < covered / 300 < 0.98


# ---- figure


def test_the_figure_shows_every_gain_and_ignores_the_users_settings(tmp_path, monkeypatch):
    import matplotlib as mpl

    gains = Gains(["mnli", "qqp"], ["XNLI", "Average"], {"m": [[1.25, -30.0], [None, 0.04]]})
    draw_gains(gains, tmp_path / "a")
    monkeypatch.setitem(mpl.rcParams, "font.size", 20.0)
    draw_gains(gains, tmp_path / "b")
    for name in ("gains.svg", "gains.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # Matplotlib writes a text's characters beside its outlines.
    svg = (tmp_path / "a" / "gains.svg").read_text(encoding="utf-8")
    for text in ("mnli", "qqp", "XNLI", "Average", "+1.2", "\N{MINUS SIGN}30.0", "0.0"):
        assert f"<!-- {text} -->" in svg
    assert mpl.rcParams["font.size"] == 20.0


def test_retrieval_by_hidden_state():
    """Test accuracy of every layer, and the dev pairs' F1 with the choice made on it."""
    entry = target("tatoeba", "tatoeba_accuracy", ("en", "de", "sw"))
    layers = {"de": [10.0, 30.0], "sw": [5.0, 15.0]}
    cells = [cell("none", 1, entry, shares(0.5, 0.5, 0.5), layers=layers)]
    sweep = [{"language": "de", "layer": 0, "f1": 1.0, "threshold": 1.1}]
    sweep += [{"language": "de", "layer": 1, "f1": 7.0, "threshold": 1.2}]
    with publishing(Path("layers/m/none/seed-1"), {"stage": "test"}) as draft:
        content = {"target": "bucc2018", "layer": 1, "rows": sweep}
        (draft.folder / "layers.json").write_text(json.dumps(content))
    inputs = {"scores": [cells[0]["scores"]], "layers": ["layers/m/none/seed-1"]}
    inputs["checkpoints"] = []
    run(spec([entry], cells, recipes=["none"], inputs=inputs), TABLES)
    rows = table("layers.csv")
    keys = ("target", "language", "layer", "metric", "value", "split", "chosen")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("tatoeba", "de", "0", "accuracy", "10.0", "test", ""),
        ("tatoeba", "de", "1", "accuracy", "30.0", "test", ""),
        ("tatoeba", "sw", "0", "accuracy", "5.0", "test", ""),
        ("tatoeba", "sw", "1", "accuracy", "15.0", "test", ""),
        ("bucc2018", "de", "0", "f1", "1.0", "dev", "False"),
        ("bucc2018", "de", "1", "f1", "7.0", "dev", "True"),
    ]


def checkpoint(name, dev, collapsed=(), restarts=0):
    """Publish what the tables need of a training with these dev scores after 10, 20, ... steps."""
    out = f"checkpoints/m/none/seed-1/{name}"
    history = [{"step": 10 * n, "loss": 1.0, "dev": entry} for n, entry in enumerate(dev, 1)]
    found = [
        {"task": "nli", "reason": reason, "evidence": "seen", "step": 9} for reason in collapsed
    ]
    account = {"steps": 10 * len(dev), "restarts": [{}] * restarts, "collapsed": found}
    with publishing(Path(out), {"stage": "finetune", "name": name}) as draft:
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        (draft.folder / "history.jsonl").write_text(lines)
        (draft.folder / "training.json").write_text(json.dumps(account))
    return out


def test_trainings_and_those_that_learnt_nothing():
    entry = target("xnli")
    cells = [cell("none", 1, entry, shares(0.5, 0.5, 0.5))]
    checkpoints = [
        checkpoint(
            "nli", [{"nli": 0.2, "qa": 0.4}, {"nli": 0.8, "qa": 0.6}, {"nli": 0.5, "qa": 0}]
        ),
        checkpoint("text", [{}, {}]),
        checkpoint("bad", [{"nli": 0.3}], ["flat", "one answer"], 2),
    ]
    inputs = {"scores": [cells[0]["scores"]], "layers": [], "checkpoints": checkpoints}
    run(spec([entry], cells, recipes=["none"], inputs=inputs), TABLES)
    rows = [tuple(row.values())[1:] for row in table("trainings.csv")]
    assert rows == [
        ("30", "0.7", "20", "0", "", ""),
        ("20", "", "", "0", "", ""),
        ("10", "0.3", "10", "2", "nli: flat; nli: one answer", "seen; seen"),
    ]
    said = "COLLAPSED, 1 of 3 trainings (see trainings.csv): checkpoints/m/none/seed-1/bad"
    assert summary(TABLES).splitlines()[-1] == said
    assert f"**{said}**" in (TABLES / "overview.md").read_text(encoding="utf-8")


def test_nothing_is_said_where_all_learnt_something():
    cells = [cell("none", 1, target("xnli"), shares(0.5, 0.5, 0.5))]
    run(spec([target("xnli")], cells, recipes=["none"]), TABLES)
    assert "COLLAPSED" not in summary(TABLES) + (TABLES / "overview.md").read_text()
    assert table("trainings.csv") == []
