"""Against the published: which figures have a counterpart, and what is said where none fits."""

import numpy as np
import pytest

from planted import planted_study
from xstilts.analysis.answer import read_answer, write_answer
from xstilts.analysis.questions.published.answer import answer
from xstilts.registry import load_registry

MODEL = "xlm-roberta-large"


def entry(**changes):
    """A row as the plan hands it over."""
    return {
        "name": "paper",
        "title": "A paper",
        "source": "its table 1",
        "model": MODEL,
        "recipe": "none",
        "split": "test",
        "scores": {},
        "languages": {},
        "means": [],
        "notes": {},
        "own_languages": {"xnli": 3, "panx": 3},
        **changes,
    }


def study(published, **more):
    scores = {
        (MODEL, "none", "xnli"): [[80, 70, 60], [82, 70, 64]],
        (MODEL, "none", "panx"): [[60, 50, 40], [60, 50, 46]],
        (MODEL, "mnli", "xnli"): [[83, 73, 66], [85, 73, 64]],
        (MODEL, "mnli", "panx"): [[60, 50, 40], [60, 50, 40]],
    }
    recipes = {
        "none": {"tasks": [], "mlm": False, "translate": []},
        "mnli": {"tasks": ["mnli"], "mlm": False, "translate": []},
    }
    models = {MODEL: {"title": "XLM-R Large", "kind": "encoder"}}
    return planted_study(scores, published=published, recipes=recipes, models=models, **more)


def rows(*published, **more):
    (table,) = answer(study(list(published), **more)).tables
    return table.rows


def test_a_mean_over_the_same_languages_is_compared():
    (row,) = rows(entry(scores={"xnli": {"accuracy": 72.0}}))
    assert (row["ours"], row["difference"]) == (71.0, -1.0)
    # Seeds 70 and 72: half of Student's interval with one degree of freedom is 12.706 x 1.
    assert row["low"] == pytest.approx(71 - 12.7062, abs=1e-3)
    assert row["high"] == pytest.approx(71 + 12.7062, abs=1e-3)


def test_a_mean_over_other_languages_is_shown_without_a_difference():
    (row,) = rows(entry(scores={"xnli": {"accuracy": 72.0}}, languages={"xnli": 15}))
    assert row["difference"] is None
    assert "theirs is over 15 languages, ours over 3" in row["remarks"]


def test_figures_by_language():
    found = rows(entry(scores={"xnli": {"accuracy": {"en": 81.0, "l2": 60.0, "ko": 1.0}}}))
    assert [(row["language"], row["difference"]) for row in found] == [("en", 0.0), ("l2", 2.0)]


def test_means_over_targets_and_gains():
    means = [
        {"targets": ["xnli", "panx"], "value": 60.0, "gain": False},
        {"targets": ["xnli", "panx"], "value": 2.0, "gain": True},
        {"targets": ["xnli", "bucc2018"], "value": 9.0, "gain": True},
    ]
    found = rows(entry(recipe=["mnli"], means=means))
    assert [row["ours"] for row in found] == pytest.approx([(74 + 50) / 2, (3 - 1) / 2])
    assert [row["metric"] for row in found] == ["task score", "gain over none"]


def test_the_recipe_of_each_target_that_dev_chose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dev = {
        (MODEL, "none", "xnli"): [0.5, 0.5],
        (MODEL, "mnli", "xnli"): [0.6, 0.7],
        (MODEL, "none", "panx"): [0.9, 0.8],
        (MODEL, "mnli", "panx"): [0.7, 0.7],
    }
    best = entry(recipe="best", scores={"xnli": {"accuracy": 70.0}, "panx": {"f1": 50.0}})
    targets = {"panx": {"metric": "seqeval_f1"}}
    found = rows(best, dev=dev, targets=targets)
    assert [row["recipe"] for row in found] == ["mnli", "none"]


def test_a_system_that_the_study_does_not_have():
    squad = entry(recipe=["squad"], scores={"xnli": {"accuracy": 72.0}})
    found = answer(study([squad]))
    assert not found.tables
    assert "no published figures of XLM-R Large" in found.cannot[0]


def test_it_can_be_written_and_read(tmp_path):
    found = answer(study([entry(scores={"xnli": {"accuracy": 72.0}}, notes={"all": "odd"})]))
    write_answer(found, tmp_path)
    again = read_answer(tmp_path / "answer.json")
    assert again.says == found.says
    assert again.tables[0].rows[0]["remarks"] == "odd"
    assert (tmp_path / "published.svg").exists()


def test_every_figure_names_a_source_and_values_of_its_metric():
    from xstilts.evaluation.metrics.table import metric_named

    registry = load_registry()
    for row in registry.published.values():
        assert row.source
        for target, values in row.scores.items():
            metric = metric_named(registry.targets[target].metric)
            assert values.keys() <= metric.finish(np.ones(len(metric.columns))).keys(), row.name
