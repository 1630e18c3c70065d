"""What more tasks bring: planted curves, orders and tasks are found, and gaps are said."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planted import planted_study
from xstilts.analysis.answer import Answer, Table, write_answer
from xstilts.analysis.questions.number.answer import answer
from xstilts.analysis.questions.number.curve import Curve, curve_of
from xstilts.analysis.study import Study
from xstilts.nested import drawn_orders, set_name

TASKS = [f"task{place}" for place in range(1, 9)]
TARGETS: dict[str, dict[str, Any]] = {
    "tatoeba": {"kind": "bitext", "title": "Tatoeba", "train": []},
    "lareqa": {"kind": "answer_retrieval", "title": "LAReQA"},
    "xnli": {"kind": "nli", "title": "XNLI"},
}


def saturating(number: int) -> float:
    """4 points for each of three tasks, then nothing."""
    return 4.0 * min(number, 3)


def planted(
    curve: Callable[[int], float] = saturating,
    added: Mapping[str, float] = {},
    *,
    orders: int = 4,
    seeds: int = 3,
    noise: float = 0.5,
    sets: float = 0.0,
    targets: Iterable[str] = ("tatoeba",),
    drop: Callable[[str, int], bool] = lambda recipe, seed: False,
    draw: int = 1,
    **changes: Any,
) -> Study:
    """A study with nested sets.

    Args:
        curve: Points by number of tasks.
        added: Points of single tasks in a set.
        orders: Orders.
        seeds: Seeds.
        noise: SD over seeds and languages.
        sets: SD over sets.
        targets: Targets.
        drop: Which cells are missing.
        draw: Seed of the noise.
        changes: Of the spec.
    """
    rng, rows = np.random.default_rng(draw), dict[str, Any](none={"tasks": []})
    chains = [
        [set_name(order[:size]) for size in range(1, len(TASKS) + 1)]
        for order in drawn_orders(TASKS, orders, 1)
    ]
    for order in drawn_orders(TASKS, orders, 1):
        for size in range(1, len(TASKS) + 1):
            rows[set_name(order[:size])] = {"tasks": sorted(order[:size])}
    scores: dict[tuple[str, str, str], Any] = {}
    for target in targets:
        base = rng.normal(40, 8, 8)
        for name, row in rows.items():
            tasks = row["tasks"]
            rise = curve(len(tasks)) + sum(added.get(task, 0.0) for task in tasks)
            values = base + rise + rng.normal(0, sets) + rng.normal(0, noise, (seeds, 8))
            if not tasks and not TARGETS[target].get("train", [target]):
                values = values[:1]
            for seed in range(len(values)):
                if drop(name, seed + 1):
                    values[seed] = np.nan
            scores["m", name, target] = values
    return planted_study(
        scores,
        targets=TARGETS,
        **{
            "recipes": rows,
            "orders": chains,
            "models": {"m": {"title": "Model M"}},
            **changes,
        },
    )


def table(found: Answer, name: str) -> Table:
    return next(table for table in found.tables if table.name == name)


def rows(found: Answer, name: str) -> list[dict[str, Any]]:
    return list(table(found, name).rows)


def curve(study: Study, target: str = "tatoeba") -> Curve:
    found = curve_of(study, "m", target)
    assert found is not None
    return found


# ---- the curve and its knee


def test_a_planted_saturating_curve_is_recovered() -> None:
    found = answer(planted())
    (summary,) = rows(found, "number_summary")
    assert summary["knee"] == pytest.approx(3, abs=0.3)
    assert summary["low"] <= 3 <= summary["high"]
    assert summary["before"] == pytest.approx(4, abs=0.3)
    assert summary["after"] == pytest.approx(0, abs=0.3)
    assert summary["fewest"] == 3
    gains = {row["tasks"]: row for row in rows(found, "number_curve")}
    assert gains[0]["gain_why"] == "Nothing random happens before this score."
    assert gains[0]["seeds"] == 1
    for number in range(1, 9):
        assert gains[number]["gain_value"] == pytest.approx(saturating(number), abs=0.7)
        assert gains[number]["gain_verdict"] == "higher"
    (text,) = found.says
    assert text.startswith("Model M on Tatoeba: the mean score is ")
    assert "3 tasks are the fewest that cannot be told apart from it" in text or (
        summary["best"] == 3
    )
    assert "The knee lies at " in text


def test_a_straight_line_has_no_knee() -> None:
    found = answer(planted(lambda number: 2.0 * number))
    (summary,) = rows(found, "number_summary")
    assert "knee" not in summary
    assert summary["why"] == "One straight line fits as well as two."
    assert (summary["best"], summary["fewest"]) == (8, 8)
    assert "No knee is shown: one straight line fits as well as two." in found.says[0]
    assert "every smaller number scores lower" in found.says[0]


def test_steps_are_points_of_each_further_task() -> None:
    found = rows(answer(planted(noise=0.1)), "number_steps")
    wanted = [4, 4, 4, 0, 0, 0, 0, 0]
    assert [row["value"] for row in found] == pytest.approx(wanted, abs=0.3)
    assert [row["verdict"] for row in found[:3]] == ["higher"] * 3
    assert all(row["verdict"] != "higher" for row in found[3:])
    assert [row["pairs"] for row in found] == [4] * 8
    assert [row["fall"] for row in found[:3]] == [0, 0, 0]


def test_wider_steps_are_divided_by_their_tasks() -> None:
    study = planted(lambda number: 2.0 * number, noise=0.1)
    chains = [[chain[0], chain[3], chain[7]] for chain in study.orders]
    study.orders = chains
    found = curve(study)
    assert found.sizes == [0, 1, 4, 8]
    assert [step.gain.value for step in found.steps()] == pytest.approx([2, 2, 2], abs=0.2)
    # Four tasks at once: what each of them adds is not known.
    assert all(added.places == (1,) for added in found.added())


def test_adding_harms() -> None:
    found = answer(planted(lambda number: 5.0 * min(number, 2) - 3.0 * max(0, number - 2)))
    (summary,) = rows(found, "number_summary")
    assert (summary["best"], summary["fewest"]) == (2, 2)
    assert "lowers the score" in found.says[0]


def test_no_effect_is_not_told_apart() -> None:
    told = 0
    for draw in range(20):
        gains = curve(planted(lambda number: 0.0, draw=draw)).gains().values()
        told += any(gain.verdict != "cannot be told apart" for gain in gains)
    assert told <= 3


# ---- orders and tasks


def test_a_planted_order_effect_is_found() -> None:
    found = answer(planted(sets=2.0, noise=0.5))
    every = rows(found, "number_orders")[-1]
    assert every["tasks"] == "all"
    assert every["p"] < 0.001
    assert every["sd_sets"] == pytest.approx(2, rel=0.35)
    assert every["sd_seeds"] == pytest.approx(0.5 / 8**0.5, rel=0.4)
    assert "Sets of the same number of tasks differ (F = " in found.says[0]
    assert "All orders share the set of 8 tasks" in found.says[0]


def test_without_an_order_effect_there_is_none() -> None:
    every = rows(answer(planted()), "number_orders")[-1]
    assert every["p"] > 0.01
    assert every["sd_sets"] < 0.2


def test_tasks_that_help_and_harm_are_named() -> None:
    found = answer(planted(lambda number: 1.0 * number, {"task1": 3, "task2": -4}, orders=8))
    parts = {row["task"]: row for row in rows(found, "number_added")}
    assert parts["task1"]["value"] == pytest.approx(4, abs=0.3)
    assert parts["task2"]["value"] == pytest.approx(-3, abs=0.3)
    assert parts["task3"]["value"] == pytest.approx(1, abs=0.3)
    assert parts["task1"]["beside_value"] == pytest.approx(3 + 1 / 8, abs=0.3)
    assert parts["task1"]["beside_verdict"] == parts["task1"]["verdict"] == "higher"
    assert parts["task2"]["beside_verdict"] == parts["task2"]["verdict"] == "lower"
    assert parts["task1"]["places"] == "1 2 3 4 5 6 7 8"
    assert "Tasks that lower the score when they are added: task2 (−" in found.says[0]


# ---- what a study may lack


def test_one_seed_says_no_interval() -> None:
    found = answer(planted(seeds=1))
    assert any(text.startswith("With one seed") for text in found.cannot)
    (summary,) = rows(found, "number_summary")
    assert summary["fewest"] is None
    assert summary.get("knee") is None
    for name in ("number_curve", "number_steps", "number_added"):
        for row in rows(found, name):
            assert row.get("low", row.get("gain_low")) is None
    assert "[" not in found.says[0].split("At the same number")[0]


def test_one_order_says_no_order_effect() -> None:
    found = answer(planted(orders=1, seeds=4))
    assert any(text.startswith("With one order") for text in found.cannot)
    assert not [table for table in found.tables if table.name == "number_orders"]
    (summary,) = rows(found, "number_summary")
    assert summary["knee"] == pytest.approx(3, abs=0.3)


def test_missing_cells_are_left_out_and_said() -> None:
    study = planted(drop=lambda recipe, seed: recipe.count("+") == 4 and "task1" in recipe)
    found = answer(study)
    missing = curve(study).missing
    assert missing
    assert any(f"Model M on Tatoeba: {missing[0]}" in text for text in found.cannot)
    assert rows(found, "number_summary")[0]["knee"] == pytest.approx(3, abs=0.3)


def test_a_seed_that_one_set_lacks_leaves_out_the_set() -> None:
    study = planted(drop=lambda recipe, seed: recipe == "task1+task2" and seed == 2)
    found = curve(study)
    assert found.seeds == (1, 2, 3)
    assert found.missing in ([], ["task1+task2"])


def test_without_none_the_first_task_is_not_judged() -> None:
    found = answer(planted(drop=lambda recipe, seed: recipe == "none"))
    assert any("not known what the first task brings" in text for text in found.cannot)
    assert rows(found, "number_steps")[0]["start"] == 1
    assert "against none" not in found.says[0]


def test_constant_scores() -> None:
    found = answer(planted(lambda number: 0.0, noise=0.0))
    (summary,) = rows(found, "number_summary")
    assert summary["why"] == "All scores are equal."
    assert (summary["best"], summary["fewest"]) == (0, 0)
    assert found.says


def test_recipes_of_different_sizes_without_orders() -> None:
    study = planted(lambda number: 1.0 * number, orders=2)
    study.orders = []
    found = answer(study)
    assert any("does not nest its sets" in text for text in found.cannot)
    steps = rows(found, "number_steps")
    assert [row["value"] for row in steps] == pytest.approx([1.0] * 8, abs=0.6)
    assert {row["pairs"] for row in steps} == {1}


def test_single_tasks_alone_are_no_curve() -> None:
    scores = {("m", name, "tatoeba"): np.ones((2, 3)) for name in ("none", "a", "b")}
    recipes = {"none": {"tasks": []}, "a": {"tasks": ["a"]}, "b": {"tasks": ["b"]}}
    found = answer(planted_study(scores, targets=TARGETS, recipes=recipes))
    assert found.says == found.tables == found.figures == ()
    (text,) = found.cannot
    assert "Add the key `nested`" in text


def test_recipes_with_mlm_or_translations_are_no_sets() -> None:
    names = {"none": [], "a": ["a"], "a_mlm": ["a"], "b": ["a", "b"], "b_de": ["a", "b"]}
    scores = {("m", name, "xnli"): np.arange(6.0).reshape(2, 3) for name in names}
    recipes = {
        name: {"tasks": tasks, "mlm": "mlm" in name, "translate": ["x"] if "de" in name else []}
        for name, tasks in names.items()
    }
    found = curve(planted_study(scores, targets=TARGETS, recipes=recipes), "xnli")
    assert found.sets == {0: ["none"], 1: ["a"], 2: ["b"]}


# ---- several targets and models, files


def test_retrieval_comes_first_and_the_rest_is_short() -> None:
    found = answer(planted(targets=("xnli", "lareqa", "tatoeba")))
    heads = [text.split(":")[0] for text in found.says]
    assert heads == [
        "Model M on LAReQA",
        "Model M on Tatoeba",
        "Model M on the other targets",
    ]
    assert [figure.name for figure in found.figures] == [
        "number",
        "number_added",
        "number_others",
        "number_added_others",
    ]


def test_without_retrieval_it_is_said() -> None:
    found = answer(planted(targets=("xnli",)))
    assert any("no scores on retrieval" in text for text in found.cannot)


def test_files_are_the_same_bytes_and_rounded(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_answer(answer(planted()), tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert "number.svg" in names
    for name in names:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
        assert first == second
    assert json.loads((tmp_path / "first" / "answer.json").read_text())["question"] == "number"
    with (tmp_path / "first" / "number_curve.csv").open() as file:
        cells = [cell for row in csv.DictReader(file) for cell in row.values()]
    assert all(len(cell.partition(".")[2]) <= 6 for cell in cells if cell[:1].isdigit())
