"""Steps and sub-words: hand-worked, and beside the rule that trainings follow."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tiny import FORMATS, TEXT, settings_of_process, training_spec, write_world
from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.cluster.work import Data, Work, work_of
from xstilts.config import load_study
from xstilts.data.lock import Lock
from xstilts.plan import Job, Plan, make_plan
from xstilts.registry import load_registry
from xstilts.training.settings import Training
from xstilts.training.stages import _fine_tuning, fine_tune

NOWHERE = Path("no such folder")


def study_of(**changes: Any) -> Plan:
    content: dict[str, Any] = {
        "study": "s",
        "models": ["xlm-roberta-base"],
        "recipes": ["none"],
        "targets": ["xnli"],
        "languages": ["en", "de"],
        "training": {"default": {"batch_size": 32, "epochs": 2, "evaluate_every": 1000}},
    }
    return make_plan(load_study(content | changes, "s.yaml"), load_registry(), Lock(), "s.yaml")


def training(plan: Plan, ending: str) -> Work:
    (out,) = [out for out in plan.jobs if out.startswith("checkpoints/") and out.endswith(ending)]
    return work_of(plan.jobs[out], Data(plan, NOWHERE))


# ---- by hand, from the registry's rows


def test_epochs_of_known_rows() -> None:
    work = training(study_of(), "seed-1/mnli")
    # 392,702 rows in batches of 32 are 12,272 a pass
    assert (work.steps, work.source, work.missing) == (24_544, "known", ())
    # 30 words of 1.4 sub-words and 4 special ones, twice over all rows
    assert work.tokens == pytest.approx(2 * 392_702 * 46)
    # 25 looks at the first 500 dev rows
    assert work.forward == pytest.approx(25 * 500 * 46)
    assert work.at_most is False


def test_steps_that_are_given_need_no_rows() -> None:
    settings = {"default": {"batch_size": 32, "max_steps": 100, "patience": 2}}
    settings["default"]["evaluate_every"] = 30
    work = training(study_of(training=settings), "seed-1/mnli")
    assert (work.steps, work.source) == (100, "known")
    assert work.tokens == pytest.approx(100 * 32 * 46, rel=1e-3)
    assert work.forward == pytest.approx(4 * 500 * 46)  # at 30, 60, 90 and 100
    assert work.at_most  # four looks, patience of two


def test_a_mixture_has_the_steps_of_all_its_tasks_up_to_the_cap() -> None:
    recipe = {"tasks": ["mnli", "qqp"], "cap": 100_000}
    plan = study_of(recipes={"mix": recipe}, training={"default": {"batch_size": 24, "epochs": 3}})
    work = training(plan, "mix/seed-1/intermediate")
    assert work.steps == 2 * 3 * 4167  # 100,000 / 24 is 4,166.7
    # half of the steps each: 24 rows of 46 sub-words of MNLI, of 22.3 x 1.4 + 4 of QQP
    assert work.tokens == pytest.approx(12_501 * 24 * (46 + 35.22), rel=1e-3)


def test_text_beside_tasks_adds_its_share_of_steps() -> None:
    mlm = {"corpus": ["wikipedia"], "share": 0.2, "batch_size": 8}
    plan = study_of(recipes={"both": {"tasks": ["mnli"], "mlm": mlm}})
    work = training(plan, "both/seed-1/intermediate")
    assert work.steps == 30_680  # 24,544 / 0.8
    # a fifth of them reads 8 full rows of 128
    assert work.tokens == pytest.approx(24_544 * 32 * 46 + 6_136 * 8 * 128, rel=1e-3)


def test_choices_are_rows_of_the_model() -> None:
    plan = study_of(recipes={"swag": {"tasks": ["hellaswag"]}})
    work = training(plan, "swag/seed-1/intermediate")
    assert work.steps == 2 * 1248  # 39,905 / 32
    assert work.tokens == pytest.approx(2 * 39_905 * 4 * (34.2 * 1.4 + 4))


def test_windows_of_long_contexts_are_assumed() -> None:
    encoding = {"default": {"max_length": 128}}
    plan = study_of(targets=["xquad"], encoding=encoding)
    work = training(plan, "seed-1/squad")
    # 138.6 x 1.4 + 4 = 198 sub-words: two windows of 128 that advance by 64, and one more
    assert (work.steps, work.source) == (2 * 8_213, "assumed")


def test_rows_that_nobody_knows_are_named() -> None:
    plan = study_of()
    registry = replace(plan.registry, datasets=dict(plan.registry.datasets))
    registry.datasets["mnli"] = registry.datasets["mnli"].model_copy(update={"rows": {}})
    lost = Plan(plan.study, registry, plan.where, plan.jobs)
    work = training(lost, "seed-1/mnli")
    assert (work.steps, work.source, work.missing) == (None, "unknown", ("mnli",))


def test_a_held_out_dev_set_is_taken_from_the_training_rows() -> None:
    plan = study_of(targets=["tydiqa"], languages=["en"])
    rows = Data(plan, NOWHERE).rows("data/prepared/tydiqa/en")
    assert rows["train"] == (pytest.approx(3326.4), "assumed")
    assert rows["dev"] == (pytest.approx(369.6), "assumed")
    assert rows["test"] == (440.0, "known")


def test_predictions_read_every_language_once() -> None:
    plan = study_of()
    job = plan.jobs["predictions/xlm-roberta-base/none/seed-1/xnli"]
    work = work_of(job, Data(plan, NOWHERE))
    assert (work.steps, work.tokens, work.rows) == (None, 0, 2 * 5010)
    assert work.forward == pytest.approx(2 * 5010 * (26.2 * 1.4 + 4))


def test_a_translation_has_the_rows_of_its_source() -> None:
    plan = study_of(recipes={"de": {"tasks": ["qqp"], "translate": "opus-mt-en-de"}})
    work = work_of(plan.jobs["data/translated/qqp/opus-mt-en-de"], Data(plan, NOWHERE))
    assert (work.rows, work.source) == (363_846 + 40_430, "known")
    assert training(plan, "de/seed-1/intermediate").steps == 2 * 11_371  # ceil(363,846 / 32)


# ---- beside what a training does


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    before = Path.cwd()
    os.chdir(folder)
    write_world()
    for out in Path("tokens").iterdir():
        publish_with_sizes(out)
    os.chdir(before)
    return folder


def publish_with_sizes(out: Path) -> None:
    """Publish tiny tokens again, with the sizes that the stage writes into meta.json."""
    meta = json.loads((out / "meta.json").read_text())
    splits = {split: (out / f"{split}.safetensors").read_bytes() for split in meta["splits"]}
    for split in splits:
        arrays = load_file(out / f"{split}.safetensors")
        sizes = {"sequences": len(arrays["offsets"]) - 1, "tokens": len(arrays["input_ids"])}
        meta["splits"][split] |= sizes
    with publishing(out, read_manifest(out).spec) as draft:
        for split, content in splits.items():
            (draft.folder / f"{split}.safetensors").write_bytes(content)
        (draft.folder / "meta.json").write_text(json.dumps(meta))


def spec_of(names: tuple[str, ...], text: bool, **settings: Any) -> dict[str, Any]:
    spec = training_spec({name: name for name in names}, TEXT if text else None, **settings)
    spec["settings"] = Training.model_validate(spec["settings"]).model_dump(mode="json")
    return spec


def counted(spec: dict[str, Any], world: Path) -> Work:
    """Work of a training whose tokens are there."""
    read = spec["inputs"]["tokens"]
    jobs = {out: Job("tokens", out, read_manifest(world / out).spec) for out in read}
    study = load_study({"study": "s", "models": ["m"], "recipes": ["none"], "targets": ["t"]}, "s")
    out = "checkpoints/tiny/none/seed-3/out"
    return work_of(Job("finetune", out, spec), Data(Plan(study, load_registry(), "s", jobs), world))


@pytest.mark.parametrize("epochs", [0.3, 1, 1.5, 4])
@pytest.mark.parametrize("cap", [None, 17])
@pytest.mark.parametrize(
    ("names", "text"),
    [(FORMATS, False), (FORMATS, True), (FORMATS[:1], False), (FORMATS[:1], True), ((), True)],
)
def test_steps_are_those_of_the_training(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    text: bool,
    cap: int | None,
    epochs: float,
) -> None:
    monkeypatch.chdir(world)
    spec = spec_of(names, text, max_steps=None, epochs=epochs)
    spec["sampling"] = {"exponent": 0.5, "cap": cap}
    assert counted(spec, world).steps == _fine_tuning(spec).steps


def test_sub_words_and_seconds_are_in_the_record(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    settings_of_process(monkeypatch)
    spec = spec_of(FORMATS[:1], False, max_steps=None, epochs=2, patience=None)
    fine_tune(spec, Path("checkpoints/out"))
    record = json.loads(Path("checkpoints/out/provenance.json").read_text())
    work = counted(spec, world)
    assert (work.steps, work.tokens) == (record["steps"], record["tokens"])
    assert 0 < record["seconds"] < 60
    assert 0 < record["dev_seconds"] < 60


def test_data_of_another_plan_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = study_of()
    out = "data/prepared/mnli/en"
    raw = plan.jobs[plan.jobs[out].spec["inputs"]["raw"]]
    monkeypatch.chdir(tmp_path)
    for job, change in ((raw, {}), (plan.jobs[out], {"fingerprint": "of older code"})):
        with publishing(Path(job.out), {**job.spec, **change}) as draft:
            report = {"splits": {"train": {"rows": 70}, "dev": {"rows": 7}}}
            (draft.folder / "report.json").write_text(json.dumps(report))
    assert Data(plan, tmp_path).rows(out)["train"] == (70.0, "counted")
    with_other = dict(plan.jobs)
    with_other[raw.out] = replace(raw, spec={**raw.spec, "layout": "lines"})
    other = Plan(plan.study, plan.registry, plan.where, with_other)
    assert Data(other, tmp_path).rows(out)["train"] == (392_702.0, "known")
