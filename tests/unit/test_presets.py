"""Presets: the numbers of the published systems, written out by hand, and what wins over what."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from xstilts.errors import InputError
from xstilts.plan import Plan
from xstilts.registry import load_registry
from xstilts.session import Session

MBERT, LARGE = "bert-base-multilingual-cased", "xlm-roberta-large"


def plan_of(**study: Any) -> Plan:
    return Session.of_config({"study": "s", **study}, "s.yaml", Path(), main=False).plan


def settings_of(plan: Plan, model: str, task: str) -> dict[str, Any]:
    """The settings of fine-tuning on a task without an intermediate one."""
    return dict(plan.jobs[f"checkpoints/{model}/none/seed-1/{task}"].spec["settings"])


def encodings(plan: Plan) -> dict[str, tuple[int, int]]:
    """Longest sequence and longest question by data set."""
    specs = [job.spec for job in plan.of("tokens")]
    return {
        spec["dataset"]: (spec["encoding"]["max_length"], spec["encoding"]["max_query_length"])
        for spec in specs
    }


# ---- jiant's numbers: e_run_models.sh, d_write_configs.sh, c_tokenize_and_cache.sh

NINE = ["xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc2018", "tatoeba"]


@pytest.fixture(scope="module")
def phang() -> Plan:
    targets = [*NINE, "udpos_hub"]
    recipes = ["none", "hellaswag"]
    return plan_of(preset="phang2020", models=[LARGE], recipes=recipes, targets=targets)


@pytest.mark.parametrize(
    ("task", "epochs", "batch"),
    [
        ("mnli", 2, 32),
        ("pawsx", 5, 32),
        ("udpos", 10, 32),
        ("udpos_hub", 10, 32),
        ("panx", 10, 32),
        ("squad", 2, 16),
        ("tydiqa", 2, 16),
    ],
)
def test_phang2020(phang: Plan, task: str, epochs: int, batch: int) -> None:
    assert settings_of(phang, LARGE, task) == {
        "learning_rate": 1e-5,
        "epochs": epochs,
        "batch_size": batch,
        "warmup": 0.1,
        "warmup_steps": None,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "precision": "fp32",
        "evaluate_every": 1000,
        "evaluate_examples": 500,
        "patience": 30,
        "select": "best",
        # The engine's own: jiant's guides say nothing of them.
        "max_steps": None,
        "adam_beta2": 0.999,
        "dropout": 0.1,
        "micro_batch_tokens": 8192,
        "negatives": None,
        "restarts": 0,
        "lora": None,
        "attention_dropout": None,
        "gradient_checkpointing": False,
        "compile": False,
        "threads": 1,
    }


def test_phang2020_says_nothing_of_an_intermediate_task(phang: Plan) -> None:
    spec = phang.jobs[f"checkpoints/{LARGE}/hellaswag/seed-1/intermediate"].spec
    found = spec["settings"]
    assert (found["learning_rate"], found["warmup"], found["patience"]) == (1e-5, 0.1, 30)
    # The engine's own.
    assert (found["batch_size"], found["epochs"]) == (32, 3.0)


def test_the_lengths_of_phang2020(phang: Plan) -> None:
    found = encodings(phang)
    for name in ("mnli", "xnli", "pawsx", "udpos", "panx", "hellaswag"):
        assert found[name][0] == 256, name
    for name in ("squad", "xquad", "mlqa", "tydiqa"):
        assert found[name] == (384, 64), name
    assert found["bucc2018"][0] == found["tatoeba"][0] == 512
    (squad,) = (job for job in phang.of("tokens") if job.spec["dataset"] == "squad")
    assert squad.spec["encoding"]["doc_stride"] == 128


# ---- XTREME's numbers: scripts/train_*.sh

# Rate of mBERT and of XLM-R Large, epochs, batch, steps between evaluations.
BEST = {
    "mnli": (2e-5, 3e-5, 5, 32, 100),
    "pawsx": (2e-5, 2e-5, 5, 32, 200),
    "panx": (2e-5, 2e-5, 10, 32, 1000),
    "udpos": (2e-5, 2e-5, 10, 32, 500),
    "udpos_hub": (2e-5, 2e-5, 10, 32, 500),
}
# Rate of mBERT and of XLM-R Large, epochs, batch and negatives of each, warm-up steps, decay.
LAST: dict[str, tuple[Any, ...]] = {
    "squad": (3e-5, 3e-5, 3, (32, None), (32, None), 500, 1e-4),
    "tydiqa": (3e-5, 3e-5, 3, (32, None), (32, None), 500, 1e-4),
    "siqa": (2e-5, 3e-5, 5, (32, None), (32, None), None, 0.0),
    "siqa-then-copa": (2e-5, 3e-5, 5, (32, None), (32, None), None, 0.0),
    "squad_retrieval": (2e-5, 2e-5, 3, (16, 4), (16, 4), None, 0.0),
    "mewslix": (2e-5, 1e-5, 2, (256, 64), (32, 8), None, 0.0),
}


@pytest.fixture(scope="module")
def xtreme() -> Plan:
    targets = [*NINE, "udpos_hub", "xcopa", "lareqa_dual", "mewslix"]
    models, recipes = [MBERT, LARGE], ["none", "xnli_en"]
    return plan_of(preset="xtreme", models=models, recipes=recipes, targets=targets)


def test_every_task_of_xtreme_is_tested(xtreme: Plan) -> None:
    tasks = {job.out.split("/")[-1] for job in xtreme.of("finetune")}
    assert tasks == {*BEST, *LAST}
    preset = load_registry().presets["xtreme"].training
    assert {*preset.tasks} == {*BEST, *LAST, "copa", "xnli_en"} - {"siqa-then-copa"}


@pytest.mark.parametrize("model", [MBERT, LARGE])
@pytest.mark.parametrize("task", BEST)
def test_xtreme_takes_the_best_weights(xtreme: Plan, task: str, model: str) -> None:
    small, large, epochs, batch, every = BEST[task]
    assert settings_of(xtreme, model, task) == {
        "learning_rate": small if model == MBERT else large,
        "epochs": epochs,
        "batch_size": batch,
        "warmup": 0.0,
        "warmup_steps": None,
        "weight_decay": 0.0,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "precision": "fp32",
        "evaluate_every": every,
        "evaluate_examples": None,
        "patience": None,
        "select": "best",
        # The engine's own.
        "max_steps": None,
        "adam_beta2": 0.999,
        "dropout": 0.1,
        "micro_batch_tokens": 8192,
        "negatives": None,
        "restarts": 0,
        "lora": None,
        "attention_dropout": None,
        "gradient_checkpointing": False,
        "compile": False,
        "threads": 1,
    }


@pytest.mark.parametrize("model", [MBERT, LARGE])
@pytest.mark.parametrize("task", LAST)
def test_xtreme_takes_the_last_weights(xtreme: Plan, task: str, model: str) -> None:
    small, large, epochs, of_small, of_large, warmup_steps, decay = LAST[task]
    found = settings_of(xtreme, model, task)
    assert found["learning_rate"] == (small if model == MBERT else large)
    assert found["epochs"] == epochs
    assert (found["batch_size"], found["negatives"]) == (of_small if model == MBERT else of_large)
    assert (found["warmup"], found["warmup_steps"]) == (0.0, warmup_steps)
    assert found["weight_decay"] == decay
    assert (found["adam_epsilon"], found["max_grad_norm"]) == (1e-8, 1.0)
    assert (found["select"], found["patience"], found["max_steps"]) == ("last", None, None)
    assert found["precision"] == "fp32"


def test_the_other_training_set_of_xnli(xtreme: Plan) -> None:
    for model in (MBERT, LARGE):
        spec = xtreme.jobs[f"checkpoints/{model}/xnli_en/seed-1/intermediate"].spec
        assert spec["settings"] == settings_of(xtreme, model, "mnli")


def test_the_lengths_of_xtreme(xtreme: Plan) -> None:
    found = encodings(xtreme)
    lengths = {name: found.pop(name) for name in list(found) if "lareqa" in name or "mew" in name}
    lengths["squad_retrieval"] = found.pop("squad_retrieval")
    assert lengths == {
        "lareqa": (256, 96),
        "squad_retrieval": (256, 96),
        "mewslix": (64, 64),
        "mewslix_entities": (64, 64),
        "mewslix_pairs": (64, 64),
    }
    qa = {name: found.pop(name) for name in ("squad", "xquad", "mlqa", "tydiqa")}
    assert set(qa.values()) == {(384, 64)}
    assert found.pop("tatoeba")[0] == found.pop("bucc2018")[0] == 512
    assert {length for length, _ in found.values()} == {128}
    strides = {
        job.spec["encoding"]["doc_stride"]
        for job in xtreme.of("tokens")
        if job.spec["format"] == "question_answering"
    }
    assert strides == {128}


def test_the_study_of_xtremes_baseline(repository: Path) -> None:
    plan = Session.of_file(repository / "studies" / "xtreme.yaml", repository).plan
    tasks = ["mnli", "pawsx", "udpos", "panx", "squad", "tydiqa"]
    assert {job.out for job in plan.of("finetune")} == {
        f"checkpoints/{model}/none/seed-1/{task}" for model in (MBERT, LARGE) for task in tasks
    }
    assert len(plan.of("score")) == 18


# ---- the paper's study on top of phang2020

#: Batch size and epochs; of intermediate tasks as in studies/paper.yaml.
PAPER = {
    "anli_plus": (24, 2),
    "mnli": (32, 2),
    "qqp": (24, 3),
    "squad_v2": (8, 3),
    "squad": (16, 2),
    "hellaswag": (24, 7),
    "ccg": (24, 15),
    "cosmos_qa": (4, 15),
    "commonsense_qa": (4, 10),
    "xnli_de": (24, 2),
    "xnli_ru": (24, 2),
    "xnli_sw": (24, 2),
    "pawsx": (32, 5),
    "udpos": (32, 10),
    "panx": (32, 10),
    "tydiqa": (16, 2),
    "siqa": (32, 5),
    "copa": (32, 5),
}
#: Beside MLM, and of several tasks.
MIXED = {"mlm": (8, 10_000), "multi_task": (24, 3), "multi_task_mlm": (24, 3)}


def test_the_settings_of_the_paper(repository: Path) -> None:
    plan = Session.of_file(repository / "studies" / "paper.yaml", repository).plan
    seen = set()
    for job in [*plan.of("intermediate"), *plan.of("finetune")]:
        recipe, found = job.out.split("/")[2], job.spec["settings"]
        slow = job.stage == "intermediate" and job.spec["mlm"] is not None
        assert found["learning_rate"] == (5e-6 if slow else 1e-5), job.out
        tasks = [task["name"] for task in job.spec["tasks"]]
        key = tasks[0] if len(tasks) == 1 else recipe
        seen.add(key)
        amount = found["max_steps"] or found["epochs"]
        assert (found["batch_size"], amount) == (PAPER | MIXED)[key], job.out
        assert (found["warmup"], found["warmup_steps"]) == (0.1, None)
        assert (found["weight_decay"], found["max_grad_norm"]) == (0.01, 1.0)
        assert (found["evaluate_every"], found["evaluate_examples"]) == (1000, 500)
        assert (found["patience"], found["precision"]) == (30, "bf16")
        assert found["select"] == ("last" if key == "mlm" else "best")
    assert seen == {*PAPER, *MIXED}


# ---- what wins over what

TOY: dict[str, Any] = {
    "study": "s",
    "models": ["toy-xlmr", "toy-bert"],
    "recipes": {"none": {}, "toy_nli": {"tasks": ["toy_nli"]}},
    "targets": ["toy_nli", "toy_qa"],
    "languages": ["qaa"],
    "source_language": "qaa",
    "toyworld": {
        "sizes": {
            "corpus": {"train": 9},
            "nli": {"train": 9, "dev": 9, "test": 9},
            "qa": {"train": 9, "dev": 9, "test": 9},
        }
    },
    "pretraining": {"corpus": ["toy_corpus"]},
    "preset": "mine",
}


def toy_plan(tmp_path: Path, row: dict[str, Any], /, **study: Any) -> Plan:
    """The plan of the toy study with a preset of the user's own."""
    path = tmp_path / "my.yaml"
    rows = {"presets": {"mine": {"title": "Mine", "source": "me", **row}}}
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return plan_of(**(TOY | {"registry": [str(path)]} | study))


def put(section: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section.setdefault(path[-1], {})["learning_rate"] = value


#: Places of one setting, each winning over all before it.
PLACES = [
    ["default"],
    ["intermediate"],
    ["models", "toy-xlmr", "default"],
    ["tasks", "toy_nli"],
    ["models", "toy-xlmr", "tasks", "toy_nli"],
]


@pytest.mark.parametrize("count", range(1, 12))
def test_each_later_place_wins(tmp_path: Path, count: int) -> None:
    """The preset's five, the study's five, and the recipe's own: the last one given counts."""
    preset: dict[str, Any] = {}
    study: dict[str, Any] = {}
    places = [(section, path) for section in (preset, study) for path in PLACES]
    for number, (section, path) in enumerate(places[:count], start=1):
        put(section, path, number / 1000)
    own = {"learning_rate": 11 / 1000} if count == 11 else {}
    recipes = {"none": {}, "toy_nli": {"tasks": ["toy_nli"], "training": own}}
    plan = toy_plan(tmp_path, {"training": preset}, training=study, recipes=recipes)
    made = "seed-1/intermediate"
    first = plan.jobs[f"checkpoints/toy-xlmr/toy_nli/{made}"].spec["settings"]
    assert first["learning_rate"] == count / 1000
    # The other model has nothing of the first one's.
    without = [n for n in range(1, count + 1) if n == 11 or "models" not in places[n - 1][1]]
    other = plan.jobs[f"checkpoints/toy-bert/toy_nli/{made}"].spec["settings"]
    assert other["learning_rate"] == max(without) / 1000


def test_stages_and_tasks_have_their_own(tmp_path: Path) -> None:
    training = {
        "intermediate": {"learning_rate": 1e-3},
        "finetune": {"learning_rate": 2e-3},
        "tasks": {"toy_qa": {"batch_size": 5}, "toy_nli": {"batch_size": 6}},
    }
    recipes = {"none": {}, "both": {"tasks": ["toy_nli", "toy_qa"]}}
    plan = toy_plan(tmp_path, {"training": training}, recipes=recipes)
    folder = "checkpoints/toy-xlmr/both/seed-1"
    found = {
        name: plan.jobs[f"{folder}/{name}"].spec["settings"]
        for name in ("intermediate", "toy_nli", "toy_qa")
    }
    assert {name: row["learning_rate"] for name, row in found.items()} == {
        "intermediate": 1e-3,
        "toy_nli": 2e-3,
        "toy_qa": 2e-3,
    }
    # Of several tasks in one training none has a say.
    assert {name: row["batch_size"] for name, row in found.items()} == {
        "intermediate": 32,
        "toy_nli": 6,
        "toy_qa": 5,
    }


def test_no_preset_speaks_of_pretraining(tmp_path: Path) -> None:
    training = {
        "default": {"learning_rate": 0.1},
        "models": {"toy-xlmr": {"default": {"epochs": 9}}},
    }
    settings = toy_plan(tmp_path, {"training": training}).jobs["models/toy-xlmr/base"].spec
    assert settings["settings"]["learning_rate"] == 1e-5
    assert settings["settings"]["epochs"] == 3.0


def test_a_share_of_the_study_wins_over_steps_of_the_preset(tmp_path: Path) -> None:
    preset = {"training": {"default": {"warmup_steps": 500, "max_steps": 1000}}}
    folder = "checkpoints/toy-xlmr/none/seed-1/toy_nli"

    def of(**training: Any) -> tuple[Any, ...]:
        plan = toy_plan(tmp_path, preset, training={"default": training})
        found = plan.jobs[folder].spec["settings"]
        return tuple(found[key] for key in ("warmup", "warmup_steps", "epochs", "max_steps"))

    assert of() == (0.1, 500, 3.0, 1000)
    assert of(warmup=0.2) == (0.2, None, 3.0, 1000)
    assert of(epochs=2) == (0.1, 500, 2.0, None)
    assert of(epochs=2, max_steps=7, warmup_steps=3) == (0.1, 3, 2.0, 7)


def test_encodings_are_overridden_too(tmp_path: Path) -> None:
    preset = {
        "encoding": {
            "default": {"max_length": 40},
            "datasets": {
                "question_answering": {"max_length": 60, "doc_stride": 28, "max_query_length": 20},
                "toy_qa": {"max_query_length": 18},
            },
        }
    }

    def of(encoding: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
        plan = toy_plan(tmp_path, preset, encoding=encoding)
        found = {job.spec["dataset"]: job.spec["encoding"] for job in plan.of("tokens")}
        keys = ("max_length", "doc_stride", "max_query_length")
        return {
            name: tuple(found[name][key] for key in keys)  # type: ignore[misc]
            for name in ("toy_nli", "toy_qa")
        }

    assert of({}) == {"toy_nli": (40, 20, 20), "toy_qa": (60, 28, 18)}
    assert of({"default": {"max_length": 62}}) == {"toy_nli": (62, 31, 31), "toy_qa": (62, 28, 18)}
    assert of({"datasets": {"toy_qa": {"doc_stride": 9}}})["toy_qa"] == (60, 9, 18)
    # Windows of 32 sub-words that advanced by 28 would leave text out.
    assert of({"default": {"max_length": 32}}) == {"toy_nli": (32, 16, 16), "toy_qa": (32, 16, 16)}


def test_a_preset_may_know_more_than_the_study(tmp_path: Path) -> None:
    training = {
        "tasks": {"panx": {"epochs": 1}},
        "models": {"xlm-roberta-large": {"tasks": {"panx": {"epochs": 2}}}},
    }
    toy_plan(tmp_path, {"training": training, "encoding": {"datasets": {"xquad": {}}}})


# ---- bad input


@pytest.mark.parametrize(
    ("preset", "parts"),
    [
        ({"training": {"tasks": {"panxx": {}}}}, ["training.tasks", "'panxx'", "'panx'"]),
        ({"training": {"models": {"toy-brt": {}}}}, ["training.models", "model", "'toy-bert'"]),
        (
            {"training": {"models": {"toy-bert": {"tasks": {"panxx": {}}}}}},
            ["training.models.toy-bert.tasks", "'panx'"],
        ),
        ({"training": {"model": {}}}, ["training.model: unknown key", "'models'"]),
        ({"training": {"default": {"epoch": 1}}}, ["training.default: epoch", "'epochs'"]),
        ({"training": {"finetune": {"epochs": 0}}}, ["training.finetune: epochs", "found 0"]),
        ({"training": {"intermediate": {"epochs": "x"}}}, ["training.intermediate: epochs"]),
        ({"training": {"tasks": {"panx": {"epochs": 0}}}}, ["training.tasks.panx: epochs"]),
        (
            {"training": {"models": {"toy-bert": {"default": {"epochs": 0}}}}},
            ["training.models.toy-bert.default: epochs"],
        ),
        (
            {"training": {"models": {"toy-bert": {"tasks": {"panx": {"warmup_steps": -1}}}}}},
            ["training.models.toy-bert.tasks.panx: warmup_steps", "-1"],
        ),
        ({"encoding": {"datasets": {"xquadd": {}}}}, ["encoding.datasets", "'xquad'"]),
        (
            {"encoding": {"datasets": {"xquad": {"max_length": 2}}}},
            ["encoding.datasets.xquad: max_length", "found 2"],
        ),
        ({"encoding": {"default": {"length": 9}}}, ["encoding.default: length", "'max_length'"]),
        ({"sources": "x"}, ["'sources'", "'source'"]),
    ],
)
def test_a_wrong_preset_is_explained(
    tmp_path: Path, preset: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        toy_plan(tmp_path, preset)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'my.yaml'}: presets.mine")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("study", "parts"),
    [
        ({"preset": "phang2021"}, ["s.yaml: preset", "'phang2021'", "Did you mean 'phang2020'"]),
        ({"training": {"models": {"toy-brt": {}}}}, ["training.models.toy-brt", "'toy-bert'"]),
        ({"training": {"models": {LARGE: {}}}}, [f"training.models.{LARGE}", "no such model"]),
        (
            {"training": {"models": {"toy-bert": {"tasks": {"toy_pos": {}}}}}},
            ["training.models.toy-bert.tasks.toy_pos", "trains no such task"],
        ),
        (
            {"training": {"models": {"toy-bert": {"tasks": {"toy_qa": {"epochs": 0}}}}}},
            ["s.yaml: training.models.toy-bert.tasks.toy_qa: epochs", "found 0"],
        ),
        # Nothing uses it: toy_nli has no encoding of its own, and no training is of this stage.
        (
            {"recipes": ["none"], "training": {"intermediate": {"epoch": 0}}},
            ["s.yaml: training.intermediate: epoch", "'epochs'"],
        ),
        (
            {"encoding": {"datasets": {"xquad": {"max_length": 2}}}},
            ["s.yaml: encoding.datasets.xquad: max_length"],
        ),
        (
            {"preset": "phang2020"},
            ["encoding", "positions of toy-", "at most 64", "preset 'phang2020'"],
        ),
    ],
)
def test_a_wrong_study_is_explained(
    tmp_path: Path, study: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        toy_plan(tmp_path, {}, **study)
    message = str(caught.value)
    assert message.startswith("s.yaml")
    for part in parts:
        assert part in message


def test_a_shorter_model_can_have_a_preset_too(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, {}, preset="phang2020", encoding={"default": {"max_length": 64}})
    (found,) = (
        job.spec["encoding"]
        for job in plan.of("tokens")
        if job.out == "data/tokens/toy-bert/toy_qa/qaa"
    )
    assert found == {"max_length": 64, "doc_stride": 32, "max_query_length": 32}
