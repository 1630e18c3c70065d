"""What the plan says of the artifacts on disk, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError
from xstilts.plan import Plan
from xstilts.published import Published
from xstilts.session import Session

STUDY: dict[str, Any] = {
    "study": "small",
    "models": ["toy-xlmr"],
    "recipes": ["none"],
    "targets": ["toy_nli"],
    "languages": ["qaa", "qab"],
    "source_language": "qaa",
    "toyworld": {
        "sizes": {
            "corpus": {"train": 9},
            "nli": {"train": 9, "dev": 9, "test": 9},
            "parallel": {"test": 9},
            "comparable": {"dev": 9, "test": 9},
        },
    },
    "pretraining": {"corpus": "toy_corpus", "languages": "qaa"},
}
PREDICTIONS = "predictions/toy-xlmr/none/seed-1/toy_nli"
WEIGHTS = "checkpoints/toy-xlmr/none/seed-1/toy_nli"
SCORES = "scores/toy-xlmr/none/seed-1/toy_nli"


def plan_of(**changes: Any) -> Plan:
    return Session.of_config(STUDY | changes, "s.yaml", Path(), main=False).plan


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All artifacts of the small study, of empty files."""
    monkeypatch.chdir(tmp_path)
    for job in plan_of().jobs.values():
        with publishing(Path(job.out), job.spec) as draft:
            for name in job.files:
                (draft.folder / name).parent.mkdir(exist_ok=True)
                (draft.folder / name).write_text("")
    for out, bundle in plan_of().bundles.items():
        with publishing(Path(out), bundle.index):
            pass
    return tmp_path


def stale(plan: Plan, results: Path) -> set[str]:
    return {out for out in plan.jobs if plan.is_stale(out, results)}


def test_what_is_published_is_not_stale(results: Path) -> None:
    assert stale(plan_of(), results) == set()
    assert stale(plan_of(), results / "elsewhere") == set(plan_of().jobs)


def test_another_spec_is_stale(results: Path) -> None:
    training = {"tasks": {"toy_nli": {"learning_rate": 2e-5}}}
    assert stale(plan_of(training=training), results) == {WEIGHTS}


def test_remade_inputs_make_stale(results: Path) -> None:
    manifest = results / WEIGHTS / "manifest.json"
    manifest.write_text(manifest.read_text().replace("\n", "\n "))
    assert stale(plan_of(), results) == {PREDICTIONS}


def test_lost_and_broken_files(results: Path) -> None:
    (results / WEIGHTS / "model.safetensors").unlink()
    (results / SCORES / "manifest.json").write_text("{")
    (results / PREDICTIONS / "qab.jsonl").unlink()
    # The table's input is another one now.
    assert stale(plan_of(), results) == {
        *(WEIGHTS, PREDICTIONS, SCORES, "tables", "analysis"),
    }


def test_artifacts_that_have_lost_files(results: Path) -> None:
    """But for those of bundles, whose jobs are told to run."""
    assert Published(plan_of(), results).lost() == []
    (results / PREDICTIONS / "qab.jsonl").unlink()
    for name in ("scores.csv", "overview.csv"):
        (results / "tables" / name).unlink()
    assert Published(plan_of(), results).lost() == ["tables"]


# ---- bundles


def state_of(results: Path, **changes: Any) -> dict[str, tuple[bool, bool, bool]]:
    """By stage: is the column stale, is it broken, and only by lost files."""
    seen = Published(plan_of(**changes), results)
    return {
        bundle.stage: (seen.is_stale(out), seen.is_broken(out), seen.only_lost(out))
        for out, bundle in seen.plan.bundles.items()
        if bundle.stage in ("evaluate", "score")
    }


FINE, STALE, BROKEN, LOST = (
    (False, False, False),
    (True, False, False),
    (True, True, False),
    (True, True, True),
)


def test_a_column_is_one_bundle_of_each_stage() -> None:
    plan = plan_of(targets=["toy_nli", "toy_retrieval"], seeds=[1, 2], recipes=["none", "toy_nli"])
    members = {out: [job.out for job in bundle.members] for out, bundle in plan.bundles.items()}
    columns = [out for out in members if out.startswith(("bundles/evaluate", "bundles/score"))]
    assert len(columns) == 2 * 2 * 2
    assert members["bundles/evaluate/toy-xlmr/toy_nli/seed-2"] == [
        "predictions/toy-xlmr/toy_nli/seed-2/toy_nli",
        "predictions/toy-xlmr/toy_nli/seed-2/toy_retrieval",
    ]
    # Nothing random happens before retrieval without any training: one seed is enough.
    assert members["bundles/score/toy-xlmr/none/seed-2"] == ["scores/toy-xlmr/none/seed-2/toy_nli"]
    assert "bundles/score/toy-xlmr/none/seed-2" in plan.inputs("tables")
    assert plan.inputs("bundles/score/toy-xlmr/none/seed-2") == [
        "bundles/evaluate/toy-xlmr/none/seed-2"
    ]


def _stands_on_an_index(plan: Plan, out: str) -> bool:
    above = plan.inputs(out)
    return any(name in plan.bundles or _stands_on_an_index(plan, name) for name in above)


def test_languages_that_no_training_reads_are_one_bundle_of_a_data_set() -> None:
    plan = plan_of(targets=["toy_nli", "toy_retrieval"], languages=["qaa", "qab", "qac"])
    members = {out: [job.out for job in bundle.members] for out, bundle in plan.bundles.items()}
    assert members["bundles/fetch/toy_nli"] == ["data/raw/toy_nli/qab", "data/raw/toy_nli/qac"]
    assert members["bundles/tokens/toy-xlmr/toy_nli"] == [
        "data/tokens/toy-xlmr/toy_nli/qab",
        "data/tokens/toy-xlmr/toy_nli/qac",
    ]
    # Nothing is trained on it at all.
    assert members["bundles/prepare/toy_parallel"] == [
        f"data/prepared/toy_parallel/{code}" for code in ("qab", "qac")
    ]
    assert members["bundles/testset/toy-xlmr"] == [job.out for job in plan.of("testset")]
    assert plan.inputs("bundles/testset/toy-xlmr") == [
        "data/tokens/toy-xlmr/toy_nli/qaa",
        "bundles/tokens/toy-xlmr/toy_nli",
        "bundles/tokens/toy-xlmr/toy_parallel",
    ]
    assert "data/prepared/toy_nli/qaa" not in plan.bundle_of
    assert {run.out for run in plan.runs} == {*plan.bundles, *set(plan.jobs) - set(plan.bundle_of)}


@pytest.mark.parametrize("study", ["config.yaml", "studies/paper.yaml"])
def test_no_training_stands_on_an_index(study: str, repository: Path) -> None:
    """Else another language would begin it again."""
    plan = Session.of_file(repository / study, repository).plan
    for stage in ("tokenizer", "pretrain", "translate", "intermediate", "finetune"):
        for job in plan.of(stage):
            assert not _stands_on_an_index(plan, job.out)
            # Nor on one by what it reads unseen.
            assert not any(name in plan.bundle_of for name in job.reads)


#: Data of the language that only tests read, from the top down.
DATA = {
    "fetch": "data/raw/toy_nli/qab",
    "prepare": "data/prepared/toy_nli/qab",
    "tokens": "data/tokens/toy-xlmr/toy_nli/qab",
    "testset": "data/testsets/toy-xlmr/toy_nli",
}


def mended(results: Path, **changes: Any) -> set[str]:
    """Stages whose bundles must run because of what they lost."""
    seen = Published(plan_of(**changes), results)
    return {seen.plan.bundles[out].stage for out in seen.plan.bundles if seen.must_mend(out)}


def lose(results: Path, *names: str) -> None:
    for name in names:
        (results / name / "manifest.json").unlink()


@pytest.mark.parametrize("stage", DATA)
def test_data_that_nothing_reads_any_more_may_be_deleted(results: Path, stage: str) -> None:
    lose(results, DATA[stage])
    assert mended(results) == set()
    seen = Published(plan_of(), results)
    assert stale(seen.plan, results) == {DATA[stage]}


def test_all_data_may_be_deleted(results: Path) -> None:
    lose(results, *DATA.values())
    assert mended(results) == set()


def test_lost_data_are_put_back_for_what_reads_them(results: Path) -> None:
    lose(results, *DATA.values(), PREDICTIONS)
    assert mended(results) == {*DATA, "evaluate"}


def test_lost_data_are_put_back_for_what_stands_on_another_training(results: Path) -> None:
    lose(results, DATA["testset"])
    training = {"tasks": {"toy_nli": {"learning_rate": 2e-5}}}
    assert mended(results, training=training) == {"testset"}


def test_lost_rows_are_put_back_for_a_score(results: Path) -> None:
    """A score reads them; its manifest knows them by the predictions alone."""
    lose(results, DATA["fetch"], DATA["prepare"], DATA["tokens"], SCORES)
    assert mended(results) == {"fetch", "prepare", "score"}


def test_an_artifact_that_is_not_there_is_not_outdated(results: Path) -> None:
    out = "data/prepared/toy_nli/qaa"
    assert not Published(plan_of(), results).is_outdated(out)
    manifest = results / out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"language": "qaa"', '"language": "qa"'))
    assert Published(plan_of(), results).is_outdated(out)
    manifest.unlink()
    assert not Published(plan_of(), results).is_outdated(out)


def test_a_bundle_that_lies_there_whole(results: Path) -> None:
    assert state_of(results) == {"evaluate": FINE, "score": FINE}


def test_nothing_there_is_stale_but_not_broken(results: Path) -> None:
    assert state_of(results / "elsewhere") == {"evaluate": STALE, "score": STALE}


@pytest.mark.parametrize("name", ["qab.jsonl", "manifest.json"])
def test_a_lost_file_of_a_member(results: Path, name: str) -> None:
    (results / PREDICTIONS / name).unlink()
    assert state_of(results) == {"evaluate": LOST, "score": FINE}


def test_a_lost_file_behind_something_stale(results: Path) -> None:
    (results / PREDICTIONS / "qab.jsonl").unlink()
    training = {"tasks": {"toy_nli": {"learning_rate": 2e-5}}}
    assert state_of(results, training=training)["evaluate"] == BROKEN


def test_a_member_made_again_with_other_bytes(results: Path) -> None:
    manifest = results / PREDICTIONS / "manifest.json"
    manifest.write_text(manifest.read_text().replace("\n", "\n "))
    assert state_of(results) == {"evaluate": BROKEN, "score": STALE}


def test_a_target_less_is_another_index(results: Path) -> None:
    targets = ["toy_nli", "toy_retrieval"]
    assert state_of(results, targets=targets) == {"evaluate": STALE, "score": STALE}


def test_a_new_languages_predictions_are_not_lost(results: Path) -> None:
    assert state_of(results, languages=["qaa", "qab", "qac"])["evaluate"] == STALE


def test_two_artifacts_cannot_have_one_folder(tmp_path: Path) -> None:
    """A task named like the other kind of training."""
    rows = tmp_path / "rows.yaml"
    task = {"title": "T", "datasets": ["toy_nli"], "language": "qaa"}
    target = {
        "title": "T",
        "train": ["intermediate"],
        "dataset": "toy_nli",
        "metric": "accuracy",
        "group": "classification",
        "benchmark": ["own"],
    }
    rows.write_text(json.dumps({"tasks": {"intermediate": task}, "targets": {"t": target}}))
    with pytest.raises(InputError, match=r"two different artifacts .*seed-1/intermediate"):
        plan_of(registry=[str(rows)], recipes=["toy_nli"], targets=["t"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": {"x": {"tasks": ["toy_nli"] * 2}}}, r"recipes\.x\.tasks: 'toy_nli' stands"),
        (
            {"pretraining": {"corpus": "toy_corpus", "languages": ["qaa", "de"]}},
            r"pretraining\.languages: no corpus has 'de'",
        ),
        ({"toyworld": {"sizes": {"nlii": {}}}}, r"toyworld\.sizes\.nlii: unknown .* mean 'nli'"),
        ({"files": {"cgg": "x"}}, r"files\.cgg: unknown data set or model\. Did you mean 'ccg'"),
        (
            {
                "evaluation": {"retrieval": {"layer": 9}},
                "targets": ["toy_retrieval"],
                "languages": ["qab"],
            },
            r"retrieval\.layer: .* 0 to \d+; found 9",
        ),
        (
            {
                "evaluation": {"retrieval": {"layer": "dev"}},
                "targets": ["toy_retrieval"],
                "languages": ["qab"],
            },
            r"retrieval\.layer: dev needs one target .*metric bucc_f1.* found none",
        ),
    ],
)
def test_what_cannot_be_planned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_of(**changes)


def test_all_trainings_wait_for_all_data() -> None:
    jobs = plan_of().jobs
    data = {job.out for job in jobs.values() if job.stage in ("prepare", "tokens", "testset")}
    inputs = jobs["data/check"].spec["inputs"]
    assert data <= {*inputs["data"], *inputs["held"]}


def test_what_the_check_is_not_shown_is_an_input_of_what_it_is_shown() -> None:
    jobs = plan_of().jobs
    seen, waiting = set[str](), list(jobs["data/check"].inputs)
    while waiting:
        out = waiting.pop()
        seen.add(out)
        waiting.extend(jobs[out].inputs)
    held = jobs["data/check"].spec["inputs"]["held"]
    assert held
    assert set(held) <= seen


def test_the_dev_pairs_choose_the_layer_of_every_retrieval_target() -> None:
    targets = ["toy_nli", "toy_retrieval", "toy_mining"]
    languages = ["qaa", "qab", "qac"]
    retrieval = {"retrieval": {"layer": "dev"}}
    jobs = plan_of(targets=targets, languages=languages, evaluation=retrieval).jobs
    (sweep,) = (job for job in jobs.values() if job.stage == "sweep" and "/none/" in job.out)
    assert sweep.spec["target"] == "toy_mining"
    assert sweep.spec["languages"] == ["qab", "qac"]
    users = [job for job in jobs.values() if sweep.out in job.inputs]
    chosen = {job.spec["target"] for job in users if job.stage == "evaluate"}
    assert chosen == {"toy_retrieval", "toy_mining"}
    assert not any(job.stage == "sweep" for job in plan_of(targets=targets).jobs.values())


def decoding(target: str, **evaluation: Any) -> dict[str, Any]:
    """What an evaluation is told of answers."""
    (job,) = plan_of(targets=[target], languages="all", evaluation=evaluation).of("evaluate")
    return dict(job.spec["decode"])


@pytest.mark.parametrize(
    ("target", "evaluation", "more"),
    [
        ("xquad", {}, {}),
        # A threshold is nothing to a target whose questions all have answers.
        ("xquad", {"null_threshold": 1.5}, {}),
        ("xquad", {"answer_text": "white_space"}, {"tokenizer": "models/toy-xlmr/tokenizer"}),
        ("squad_v2", {}, {"null_threshold": 0.0}),
        ("squad_v2", {"null_threshold": -1}, {"null_threshold": -1.0}),
    ],
)
def test_how_answers_are_decoded(
    target: str, evaluation: dict[str, Any], more: dict[str, Any]
) -> None:
    assert decoding(target, **evaluation) == {"n_best": 20, "max_answer_length": 30} | more


def test_squad_v2_is_not_reported_on_rows_that_chose_the_weights() -> None:
    """The Hub's validation set is the target's test set, so dev is held out from train."""
    jobs = plan_of(targets=["squad_v2"], languages="all").jobs
    row = jobs["data/prepared/squad_v2_target/en"].spec["row"]
    assert row["splits"] == {"train": "train", "test": "validation"}
    assert row["holdout"] > 0
    (training,) = (job for job in jobs.values() if job.stage == "finetune")
    assert training.spec["inputs"]["tokens"] == ["data/tokens/toy-xlmr/squad_v2_target/en"]


# ---- mixtures

MIXTURE: dict[str, Any] = {
    "recipes": {"two": {"tasks": ["toy_nli", "toy_paraphrase"], "mlm": {"corpus": "toy_corpus"}}},
    "toyworld": {
        "sizes": STUDY["toyworld"]["sizes"] | {"paraphrase": {"train": 9, "dev": 9, "test": 9}}
    },
}
TWO = "checkpoints/toy-xlmr/two/seed-1/intermediate"


def mixture(section: dict[str, Any] | None = None, **recipe: Any) -> dict[str, Any]:
    """Spec of a mixture of two tasks and text."""
    recipes = {"two": MIXTURE["recipes"]["two"] | recipe}
    plan = plan_of(**MIXTURE | {"recipes": recipes, "training": section or {}})
    return dict(plan.jobs[TWO].spec)


@pytest.mark.parametrize(
    ("recipe", "exponent", "cap"),
    [
        ({}, 1.0, None),
        ({"sampling": "uniform"}, 0.0, None),
        ({"cap": 5}, 1.0, 5),
        ({"sampling": "temperature", "temperature": 4, "cap": 7}, 0.25, 7),
    ],
)
def test_sampling(recipe: dict[str, Any], exponent: float, cap: int | None) -> None:
    assert mixture(**recipe)["sampling"] == {"exponent": exponent, "cap": cap}


def test_each_task_of_a_mixture_has_its_own_batches() -> None:
    training = {"default": {"batch_size": 16}, "tasks": {"toy_nli": {"batch_size": 4}}}
    assert [task["batch_size"] for task in mixture(training)["tasks"]] == [4, 16]
    whole = mixture(training, training={"batch_size": 8})
    assert [task["batch_size"] for task in whole["tasks"]] == [8, 8]
    assert whole["mlm"]["batch_size"] == 8
    mlm = {"corpus": "toy_corpus", "batch_size": 2, "learning_rate": 5e-6}
    assert mixture(training, mlm=mlm)["mlm"] | {"tokens": []} == {
        "share": 0.1,
        "exponent": 0.3,
        "mask": 0.15,
        "learning_rate": 5e-6,
        "batch_size": 2,
        "tokens": [],
    }


def test_tasks_share_a_head_where_the_registry_says_so(tmp_path: Path) -> None:
    rows = tmp_path / "rows.yaml"
    rows.write_text(
        "tasks:\n"
        "  again: {title: Again, datasets: [toy_nli], language: qaa, head: toy_nli}\n"
        "  wrong: {title: Wrong, datasets: [toy_paraphrase], language: qaa, head: toy_nli}\n"
    )
    recipes = {"two": {"tasks": ["toy_nli", "again"]}}
    study = MIXTURE | {"recipes": recipes, "registry": [str(rows)]}
    tasks = plan_of(**study).jobs[TWO].spec["tasks"]
    assert [(task["name"], task["head"]) for task in tasks] == [
        ("toy_nli", "toy_nli"),
        ("again", "toy_nli"),
    ]
    recipes["two"]["tasks"][1] = "wrong"
    with pytest.raises(InputError, match=r"recipes.two.tasks: 'wrong' cannot share the head"):
        plan_of(**study)


def test_pairs_that_are_each_others_negatives_must_fit_at_once() -> None:
    study = {
        "models": ["xlm-roberta-base"],
        "targets": ["lareqa_dual"],
        "languages": ["en"],
        "source_language": "en",
        "encoding": {"datasets": {"answer_retrieval": {"max_length": 256}}},
        "training": {"default": {"batch_size": 32}},
    }
    with pytest.raises(InputError, match=r"64 x 256 sub-words .*at least 16384; found 8192") as it:
        plan_of(**study)
    assert "negatives" in str(it.value)
    plan_of(**study | {"training": {"default": {"batch_size": 32, "negatives": 16}}})
