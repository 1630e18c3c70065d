"""Nested sets of tasks: orders, names, recipes, plans, and what is refused."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from xstilts.config import Study, load_study
from xstilts.errors import InputError
from xstilts.nested import LONGEST, chains, drawn_orders, set_name
from xstilts.session import Session

TASKS = ["toy_nli", "toy_qa", "toy_pos"]
STUDY: dict[str, Any] = {
    "study": "nested",
    "models": ["toy-xlmr"],
    "recipes": ["none"],
    "targets": ["toy_retrieval"],
    "languages": ["qab"],
    "source_language": "qaa",
    "toyworld": {
        "sizes": {
            name: {"train": 9, "dev": 9, "test": 9}
            for name in ("corpus", "nli", "qa", "pos", "parallel")
        }
    },
    "pretraining": {"corpus": "toy_corpus", "languages": "qaa"},
    "encoding": {"default": {"max_length": 64}},
}


def study(nested: Any, **changes: Any) -> Study:
    return load_study(STUDY | {"nested": nested} | changes, "s.yaml")


def plan_of(nested: Any, **changes: Any) -> Any:
    content = STUDY | {"nested": nested} | changes
    return Session.of_config(content, "s.yaml", Path(), main=False).plan


# ---- orders


@pytest.mark.parametrize("number", range(2, 10))
def test_each_task_stands_once_at_each_place(number: int) -> None:
    tasks = [f"t{place}" for place in range(number)]
    for first in (0, number) if number > 3 else (0,):
        square = drawn_orders(tasks, first + number, 1)[first:]
        assert all(sorted(order) == tasks for order in square)
        assert all(len(set(column)) == number for column in zip(*square, strict=True))


@pytest.mark.parametrize("number", [4, 6, 8])
def test_of_an_even_number_each_task_follows_each_other_once(number: int) -> None:
    square = drawn_orders([f"t{place}" for place in range(number)], number, 7)
    follows = Counter(pair for order in square for pair in pairwise(order))
    assert set(follows.values()) == {1}
    assert len(follows) == number * (number - 1)


def test_an_order_does_not_depend_on_their_number_or_on_the_list() -> None:
    many = drawn_orders("abcde", 12, 3)
    assert drawn_orders("edcba", 5, 3) == many[:5]
    assert drawn_orders("abcde", 12, 4) != many
    assert len(set(many)) == 12


@pytest.mark.parametrize("number", range(2, 6))
def test_all_orders_can_be_drawn(number: int) -> None:
    tasks = "abcde"[:number]
    assert len(set(drawn_orders(tasks, math.factorial(number), 1))) == math.factorial(number)


def test_the_draw_is_the_same_on_every_machine() -> None:
    assert drawn_orders("abc", 3, 1) == [("c", "b", "a"), ("a", "c", "b"), ("b", "a", "c")]


# ---- names


def test_a_name_holds_the_tasks_by_the_alphabet() -> None:
    assert set_name(["squad", "mnli"]) == set_name(("mnli", "squad")) == "mnli+squad"


def test_a_long_name_is_cut_and_stays_unique() -> None:
    tasks = [f"quite_a_long_name_of_a_task_{place}" for place in range(9)]
    names = [set_name(tasks[:size]) for size in range(1, 10)]
    names.append(set_name([*tasks[:8], "quite_a_long_name_of_a_task_x"]))
    assert len(set(names)) == 10
    assert max(map(len, names)) <= LONGEST
    assert names[8].startswith(f"{tasks[0]}+{tasks[1]}+{tasks[2]}+6more-")


def test_the_papers_nine_tasks_are_readable() -> None:
    nine = "anli_plus+ccg+commonsense_qa+cosmos_qa+hellaswag+mnli+qqp+squad+squad_v2"
    assert set_name(nine.split("+")) == nine


# ---- recipes


def test_each_set_is_one_recipe_with_the_settings() -> None:
    settings = {"sampling": "temperature", "temperature": 2, "cap": 5, "training": {"epochs": 2}}
    found = study({"tasks": TASKS, "orders": 6, **settings})
    sets = {frozenset(recipe.tasks) for recipe in found.recipes.values()}
    assert len(found.recipes) == len(sets) == 2**3
    pair = found.recipes["toy_nli+toy_qa"]
    assert (pair.tasks, pair.exponent, pair.cap) == (("toy_nli", "toy_qa"), 0.5, 5)
    assert found.recipes["toy_qa"].temperature is None  # one task is not drawn
    assert found.recipes["toy_qa"].training == {"epochs": 2}


def test_orders_are_chains_of_recipes() -> None:
    lists = [["toy_nli", "toy_qa", "toy_pos"], ["toy_qa", "toy_nli", "toy_pos"]]
    found = study({"tasks": TASKS, "orders": lists})
    assert chains(found) == [
        ["toy_nli", "toy_nli+toy_qa", "toy_nli+toy_pos+toy_qa"],
        ["toy_qa", "toy_nli+toy_qa", "toy_nli+toy_pos+toy_qa"],
    ]
    # Of these sizes both orders have the same sets.
    assert len(chains(study({"tasks": TASKS, "orders": lists, "sizes": [3, 2]}))) == 1


def test_a_recipe_that_is_there_is_used() -> None:
    recipes = {
        "none": None,
        "toy_nli": None,
        "all": {"tasks": ["toy_qa", "toy_pos", "toy_nli"], "sampling": "uniform"},
    }
    found = study({"tasks": TASKS, "orders": 3, "sampling": "uniform"}, recipes=recipes)
    assert all(chain[-1] == "all" for chain in chains(found))
    assert len(found.recipes) == 1 + 3 + 3 + 1
    # So a study that was written out again is the same study.
    assert load_study(found.model_dump(mode="json"), "s.yaml") == found


def test_without_the_key_nothing_changes() -> None:
    assert chains(load_study(STUDY, "s.yaml")) == []
    plan = Session.of_config(STUDY, "s.yaml", Path(), main=False).plan
    assert "orders" not in plan.jobs["tables"].spec


def test_more_orders_sizes_and_tasks_change_no_artifact() -> None:
    two = {"tasks": TASKS[:2], "orders": 1, "sizes": [2]}
    wider: list[tuple[Any, int]] = [
        (two | {"orders": 2}, 0),  # the other order of the same set
        (two | {"sizes": [1, 2]}, 1),
        ({"tasks": TASKS, "orders": 6}, 6),
    ]
    of_all = ("check", "aggregate", "analyse", "report")
    small = plan_of(two).jobs.items()
    jobs = {out: job.text for out, job in small if job.stage not in of_all}
    for nested, trained in wider:
        plan = plan_of(nested)
        assert {out: plan.jobs[out].text for out in jobs} == jobs
        assert len(plan.of("intermediate")) == 1 + trained


def test_the_plan_tells_the_analyses_the_orders() -> None:
    spec = plan_of({"tasks": TASKS, "orders": 2, "sizes": [1, 3]}).jobs["tables"].spec
    assert [len(chain) for chain in spec["orders"]] == [2, 2]
    assert {name for chain in spec["orders"] for name in chain} <= set(spec["recipes"])


def test_wildcards_match_the_names() -> None:
    import re

    content = STUDY | {"nested": {"tasks": TASKS, "orders": 6}}
    session = Session.of_config(content, "s.yaml", Path(), main=False)
    pattern = f"checkpoints/toy-xlmr/(?P<recipe>{session.constraints['recipe']})/seed-1"
    for name in session.study.recipes:
        match = re.fullmatch(pattern, f"checkpoints/toy-xlmr/{name}/seed-1")
        assert match is not None
        assert match["recipe"] == name


# ---- what is refused


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ("{tasks: [toy_nli, toy_qaa], orders: 1}", "nested.tasks: unknown task 'toy_qaa'"),
        ("{tasks: [toy_nli, toy_qa], orders: 1, sizes: [3]}", "no 3 tasks for a size of 3"),
        ("{tasks: [toy_nli, toy_qa], orders: 1, sizes: [1, 1]}", "1 stands twice under sizes"),
        ("{tasks: [toy_nli, toy_nli], orders: 1}", "'toy_nli' stands twice under tasks"),
        ("{tasks: [toy_nli], orders: 1}", "nested.tasks: list should have at least 2"),
        ("{tasks: [toy_nli, toy_qa], orders: 3}", "2 tasks have 2 orders, not 3"),
        ("{tasks: [toy_nli, toy_qa], orders: 0}", "nested.orders: input should be greater than 0"),
        ("{tasks: [toy_nli, toy_qa]}", "nested.orders: the key is missing"),
        ("{tasks: [toy_nli, toy_qa], orders: 1, size: 2}", "nested.size: unknown key. Did you me"),
        (
            "{tasks: [toy_nli, toy_qa], orders: [[toy_nli, toy_qa], [toy_nli, toy_qa]]}",
            "order 2 stands there twice",
        ),
        (
            "{tasks: [toy_nli, toy_qa], orders: [[toy_nli, toy_pos]]}",
            "order 1 must hold each task once: see 'toy_pos'",
        ),
        ("{tasks: [toy_nli, toy_qa], orders: [[toy_nli]]}", "each task once: see 'toy_qa'"),
        ("{tasks: [toy_nli, toy_qa], orders: 1, temperature: 2}", "temperature belong together"),
        (
            "{tasks: [toy_nli, toy_qa], orders: 1, training: {epoch: 1}}",
            "nested.training: epoch: u",
        ),
        ("[toy_nli]", "nested: input should be a mapping"),
    ],
)
def test_faults(nested: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        plan_of(yaml.safe_load(nested))
    assert message in str(error.value)
    assert str(error.value).startswith("s.yaml: nested")


def test_a_name_that_another_recipe_has() -> None:
    recipes = {"none": None, "toy_nli": {"tasks": ["toy_nli"], "training": {"epochs": 9}}}
    with pytest.raises(InputError, match="would be the recipe 'toy_nli', and the study has anoth"):
        study({"tasks": TASKS, "orders": 3}, recipes=recipes)


# ---- the studies of the repository


def test_the_full_study(repository: Path) -> None:
    plan = Session.of_file(repository / "studies" / "nested.yaml", repository).plan
    stages = Counter(job.stage for job in plan.jobs.values())
    sets, seeds, models = 5 * 8 + 1, 3, 2
    assert stages["intermediate"] == sets * seeds * models
    # squad for LAReQA with a QA encoder, squad_retrieval for the dual encoder; also after `none`
    assert stages["finetune"] == (sets + 1) * seeds * models * 2
    # nothing random happens before Tatoeba and BUCC without intermediate training
    assert stages["score"] == ((sets + 1) * seeds * 4 - 2 * (seeds - 1)) * models
    spec = plan.jobs["tables"].spec
    assert [len(chain) for chain in spec["orders"]] == [9] * 5
    assert len({chain[0] for chain in spec["orders"]}) == 5
    assert len({chain[-1] for chain in spec["orders"]}) == 1
    # Each set is trained for as many steps, with the same batches.
    trainings = [job.spec for job in plan.of("intermediate")]
    assert {spec["settings"]["max_steps"] for spec in trainings} == {20000}
    assert {task["batch_size"] for spec in trainings for task in spec["tasks"]} == {32}
    assert {spec["settings"]["learning_rate"] for spec in trainings} == {1e-5}


@pytest.mark.parametrize(("name", "sets"), [("toy_nested", 3 * 4 + 1), ("slices_nested", 7)])
def test_small_studies(repository: Path, name: str, sets: int) -> None:
    session = Session.of_file(repository / "studies" / f"{name}.yaml", repository)
    seeds = len(session.study.seeds)
    assert len(session.plan.of("intermediate")) == sets * seeds
    assert len(session.plan.jobs["tables"].spec["orders"]) == 3
