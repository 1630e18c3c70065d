"""Seconds, GPU-hours, disk and the command `xstilts plan`."""

import argparse
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files
from xstilts.artifacts.publish import input_manifests
from xstilts.artifacts.record import PROVENANCE
from xstilts.cli import main
from xstilts.cluster.costs import as_json, check_gpus, costs_of, lines_of, task_of
from xstilts.cluster.rates import (
    CALIBRATION,
    Calibration,
    Measured,
    Rates,
    kind_of,
    least,
    read_calibration,
    shipped,
    write_calibration,
)
from xstilts.cluster.sizes import Size, size_of
from xstilts.cluster.spent import measure, seconds_of, spent_of, spent_table, write_plan
from xstilts.config import load_study
from xstilts.data.lock import Lock
from xstilts.errors import InputError
from xstilts.plan import Plan, make_plan
from xstilts.registry import load_registry
from xstilts.session import Session

NOWHERE = Path("no such folder")
MADE = "2026-01-01T00:00:00+00:00"
SETTINGS = {"precision": "bf16", "gradient_checkpointing": False}


def study_of(**changes: Any) -> Plan:
    content: dict[str, Any] = {
        "study": "s",
        "models": ["xlm-roberta-base"],
        "recipes": ["none", "qqp"],
        "targets": ["xnli", "xquad", "mlqa"],
        "languages": ["en", "de"],
        "seeds": [1, 2],
        "training": {"default": {"precision": "bf16", "max_steps": 100}},
        "preset": "phang2020",
    }
    return make_plan(load_study(content | changes, "s.yaml"), load_registry(), Lock(), "s.yaml")


# ---- rates


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a100", "a100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("nvidia_a100_80gb_pcie", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100 pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA A10", "a10"),
        ("Some New-GPU", "some new gpu"),
    ],
)
def test_slurms_name_and_the_drivers_are_one_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_operations_by_hand() -> None:
    size = Size(200, 10**9, 10, 1, 1, 1)
    rates = Rates("a100")
    # 6e9 operations at 30 % of 312 TFLOP/s; ten blocks of half a millisecond and 200 parameters
    both, sure = rates.training("m", size, SETTINGS)
    assert both == (pytest.approx(6e9 / 93.6e12), pytest.approx(0.005 + 4e-9))
    assert sure == "assumed"
    again, _ = rates.training("m", size, SETTINGS | {"gradient_checkpointing": True})
    assert again is not None
    assert again[0] == pytest.approx(8e9 / 93.6e12)
    # predictions are in fp32: 2e9 at 60 % of 19.5
    assert rates.prediction("m", size) == (pytest.approx(2e9 / 11.7e12), "assumed")
    # a V100 has no bf16
    old, _ = Rates("v100").training("m", size, SETTINGS)
    assert old is not None
    assert old[0] == pytest.approx(6e9 / 9.42e12)


def test_an_unknown_gpu_has_no_rate_until_it_is_measured() -> None:
    size = Size(1, 1, 1, 1, 1, 1)
    rates = Rates("new")
    assert rates.training("m", size, SETTINGS) == (None, "unknown")
    assert rates.prediction("m", size) == (None, "unknown")
    known = {"s": {"train/new/m/bf16": Measured(2, 50.0, 1000.0)}}
    measured, sure = Rates("new", Calibration(known)).training("m", size, SETTINGS, "t")
    assert (measured, sure) == ((0.05, 0.0), "measured")


def test_the_same_task_is_better_known_than_the_model() -> None:
    sums = {
        "train/a100/m/bf16": Measured(3, 100.0, 1000.0),
        "train/a100/m/bf16/mnli": Measured(1, 10.0, 500.0),
        "predict/a100/m": Measured(1, 10.0, 1.0),
        "start/a100": Measured(4, 100.0, 0.0),
        "stage/tokens": Measured(2, 20.0, 200.0),
    }
    rates = Rates("a100", Calibration({"one": sums, "two": {"start/a100": Measured(1, 0.0)}}))
    size = Size(1, 1, 1, 1, 1, 1)
    assert rates.training("m", size, SETTINGS, "mnli")[0] == (0.02, 0.0)
    assert rates.training("m", size, SETTINGS, "qqp")[0] == (0.1, 0.0)
    assert rates.prediction("m", size, "xnli") == (10.0, "measured")
    assert rates.start() == (20.0, "measured")  # 100 s of five jobs of two studies
    assert rates.stage("tokens", 300) == (30.0, "measured")  # 10 s for 100 rows
    assert rates.stage("score", 10_000) == (1.5 + 1.0, "shipped")
    assert rates.stage("translate", 1) == (None, "unknown")


def test_the_least_sure_figure_counts() -> None:
    assert least(["measured", "assumed", "shipped"]) == "assumed"
    assert least([]) == "measured"


def test_a_calibration_is_kept(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) == Calibration()
    one = Calibration({"s": {"start/cpu": Measured(2, 3.5, 0.0)}})
    write_calibration(tmp_path, one)
    assert read_calibration(tmp_path) == one
    (tmp_path / CALIBRATION).write_text('{"version": 7}')
    with pytest.raises(InputError, match=r"calibration\.json: is no calibration .*version 7"):
        read_calibration(tmp_path)


def test_the_shipped_table_knows_every_stage_and_format() -> None:
    known = shipped()
    registry = load_registry()
    formats = {row.format for row in registry.datasets.values()}
    assert set(known.bytes["prepared"]) == formats
    assert set(known.bytes["token"]) == formats | {"causal_lm", "prompted"}
    assert set(known.usual) == formats - {"masked_lm"}
    assert set(known.bytes["prediction"]) == set(known.usual) | {"prompted"}
    assert set(known.words) | set(known.rows) <= set(registry.datasets)


# ---- costs


def test_jobs_that_are_shared() -> None:
    plan = study_of()
    costs = costs_of(plan, NOWHERE, "a100", Calibration())
    squad = costs.by_job["checkpoints/xlm-roberta-base/qqp/seed-2/squad"]
    assert (squad.serves, squad.cells) == ((1, 2, 1), 2)  # XQuAD and MLQA
    qqp = costs.by_job["checkpoints/xlm-roberta-base/qqp/seed-1/intermediate"]
    assert (qqp.serves, qqp.cells) == ((1, 3, 1), 3)
    base = costs.by_job["models/xlm-roberta-base/base"]
    assert (base.serves, base.cells) == ((2, 3, 2), 12)
    lines = {(line.stage, line.model): line for line in lines_of(costs)}
    finetune = lines["finetune", "xlm-roberta-base"]
    assert (finetune.artifacts, finetune.jobs, finetune.unshared) == (8, 8, 12)
    assert finetune.steps == 800
    evaluate = lines["evaluate", "xlm-roberta-base"]
    assert (evaluate.artifacts, evaluate.jobs) == (12, 4)  # one for all targets


def test_seconds_of_a_training_by_hand() -> None:
    plan = study_of()
    costs = costs_of(plan, NOWHERE, "a100", Calibration())
    cost = costs.by_job["checkpoints/xlm-roberta-base/none/seed-1/mnli"]
    blocks = 12 * (12 * 768**2 + 13 * 768)
    assert size_of(plan.registry.models["xlm-roberta-base"]).blocks == blocks
    # 100 steps of 32 rows of 46 sub-words, one look at 500 rows, which is forward only
    tokens = 100 * 392_702 * 46 / 12_272 + 500 * 46 / 3
    step = 12 * 0.0005 + 277_453_056 * 2e-11
    expected = 40 + tokens * 6 * blocks / 93.6e12 + 100 * step
    assert cost.seconds == pytest.approx(expected)
    assert (cost.gpus, cost.sure) == (1, "assumed")
    assert cost.size == 4 * 277_453_056
    assert cost.state == 48 * 277_453_056
    assert task_of(cost.job) == "mnli"


def test_several_processes_share_the_sub_words_and_hold_their_gpus() -> None:
    alone, two = (
        costs_of(study_of(processes=number), NOWHERE, "a100", Calibration()) for number in (1, 2)
    )
    out = "checkpoints/xlm-roberta-base/none/seed-1/squad"
    assert two.by_job[out].gpus == 2
    one, half = alone.by_job[out].seconds, two.by_job[out].seconds
    assert one is not None
    assert half is not None
    assert one > half > one / 2  # starting and steps are not shared
    predictions = "predictions/xlm-roberta-base/none/seed-1/xquad"
    assert two.by_job[predictions].gpus == 1
    assert two.wall(1, 8) is None
    with pytest.raises(InputError, match=r"at least 2 .* found 1"):
        check_gpus(two.plan, [1], "a100")
    check_gpus(two.plan, [1], "cpu")


def test_the_wall_time_lies_between_the_chain_and_the_sum() -> None:
    costs = costs_of(study_of(), NOWHERE, "a100", Calibration())
    chain, seconds = costs.path()
    assert chain[-1] == "report"
    assert "data/check" in chain  # trainings wait for all data
    all_of_it = sum(task.seconds for task in costs.tasks.values())
    walls = [costs.wall(gpus, 8) for gpus in (1, 2, 100)]
    assert walls[0] is not None
    assert seconds <= walls[2] <= walls[1] <= walls[0] <= all_of_it
    assert walls[0] >= costs.gpu_seconds


def test_a_bundle_is_one_job_that_waits_for_all_of_its_members() -> None:
    costs = costs_of(study_of(), NOWHERE, "a100", Calibration())
    column = "xlm-roberta-base/qqp/seed-1"
    task = costs.tasks[f"bundles/evaluate/{column}"]
    members = [costs.by_job[f"predictions/{column}/{name}"] for name in ("xnli", "xquad", "mlqa")]
    assert task.seconds == pytest.approx(sum(cost.seconds or 0 for cost in members))
    assert task.gpus == 1
    assert {f"checkpoints/{column}/{name}" for name in ("mnli", "squad")} <= set(task.after)
    assert f"bundles/evaluate/{column}" in costs.tasks[f"bundles/score/{column}"].after
    assert not any(name.startswith("predictions/") for name in costs.tasks)


def test_states_of_as_many_trainings_as_run() -> None:
    costs = costs_of(study_of(), NOWHERE, "a100", Calibration())
    assert costs.disk(1)["states"] == 48 * 277_453_056
    assert costs.disk(4)["states"] == 4 * 48 * 277_453_056
    assert costs.disk(1)["there"] == 0


def test_everything_is_json() -> None:
    costs = costs_of(study_of(), NOWHERE, "a100", Calibration())
    content = json.loads(json.dumps(as_json(costs, (1, 4), 8)))
    assert set(content["wall_seconds"]) == {"1", "4"}
    assert len(content["artifacts"]) == len(costs.plan.jobs)
    job = content["artifacts"]["checkpoints/xlm-roberta-base/none/seed-1/squad"]
    assert job["serves"] == {"recipes": 1, "targets": 2, "seeds": 1, "scores": 2}
    assert (job["steps"], job["rate"]) == (100, "assumed")


# ---- finished jobs


def finish(plan: Plan, results: Path, out: str, span: float, **record: Any) -> None:
    """Lay an artifact in its place, made as planned, with a record, behind those it needs."""
    job = plan.jobs[out]
    for name in job.inputs:
        if not (results / name).exists():
            finish(plan, results, name, 5)
    folder = results / out
    folder.mkdir(parents=True)
    sizes = {"examples": 10, "sequences": 10, "tokens": 100, "rows": 10}
    content = {"format": job.spec.get("format"), "splits": {"train": sizes, "dev": sizes}}
    described = {"prepare": ["report.json"], "tokens": ["meta.json"]}.get(job.stage, [])
    for name in [*job.files, *described]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content) if name in described else "{}")
    inputs = input_manifests({"inputs": {"all": job.inputs}})
    manifest = Manifest(out, job.spec, inputs, describe_files(folder))
    (folder / MANIFEST).write_text(manifest.to_json())
    start = datetime.fromisoformat("2026-02-01T00:00:00+00:00")
    end = start + timedelta(seconds=span)
    attempt = {"start": start.isoformat(), "end": end.isoformat()}
    (folder / PROVENANCE).write_text(json.dumps({"device": {}, "attempts": [attempt]} | record))


@pytest.fixture
def plan() -> Plan:
    return study_of(recipes=["none"], targets=["xnli"], seeds=[1])


CHECKPOINT = "checkpoints/xlm-roberta-base/none/seed-1/mnli"


@pytest.fixture
def results(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    finish(plan, tmp_path, "models/xlm-roberta-base/base", 9)
    gpu = {"gpu": "NVIDIA A100-SXM4-80GB"}
    ran = {"seconds": 80.0, "dev_seconds": 5.0, "tokens": 4000, "processes": 2}
    finish(plan, tmp_path, CHECKPOINT, 100, device=gpu, **ran)
    return tmp_path


def test_what_is_there_is_not_made_again(plan: Plan, results: Path) -> None:
    costs = costs_of(plan, results, "a100", Calibration())
    assert costs.by_job[CHECKPOINT].there
    assert costs.by_job[CHECKPOINT].size == 2  # of the file that stands for the weights
    assert not costs.by_job["data/check"].there
    assert CHECKPOINT not in costs.tasks
    (results / "models/xlm-roberta-base/base" / MANIFEST).unlink()
    costs = costs_of(plan, results, "a100", Calibration())
    assert not costs.by_job[CHECKPOINT].there  # what it begins from is made again


def test_finished_jobs_measure_rates(plan: Plan, results: Path) -> None:
    found = measure(plan, results)
    name = "train/a100/xlm-roberta-base/bf16"
    assert found[name] == found[f"{name}/mnli"] == Measured(1, 160.0, 4000.0)
    assert found["start/a100"] == Measured(1, 15.0, 0.0)  # 100 less 80 and 5
    assert found["stage/fetch_model"].seconds == 9
    costs = costs_of(plan, results, "a100", Calibration({"s": found}))
    cost = costs.by_job[CHECKPOINT]
    assert cost.sure == "measured"
    # 100 steps of a batch of ten rows of 10 sub-words, and one look at the ten of dev
    assert (cost.work.steps, cost.work.tokens, cost.work.forward) == (100, 10_000, 100)
    assert cost.seconds == pytest.approx(15 + 0.04 * (cost.work.tokens + cost.work.forward / 3))


def test_attempts_add_up() -> None:
    attempts = [
        {"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-01T00:10:00+00:00"},
        {"start": "2026-01-01T01:00:00+00:00", "end": "2026-01-01T01:00:30+00:00"},
    ]
    assert seconds_of(attempts) == 630


def test_planned_against_spent(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the study was not planned"):
        spent_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = costs_of(plan, tmp_path, "a100", Calibration())
    write_plan(before, tmp_path, MADE)
    out = "models/xlm-roberta-base/base"
    expected = before.by_job[out].seconds
    finish(plan, tmp_path, out, 30)
    # Planned again after it was finished: what was planned before stays.
    write_plan(costs_of(plan, tmp_path, "a100", Calibration()), tmp_path, "2026-03-01T00:00:00Z")
    rows = {row.stage: row for row in spent_of(tmp_path)}
    row = rows["fetch_model"]
    assert (row.planned, row.done, row.expected, row.spent) == (1, 1, expected, 30)
    assert row.ratio == 30 / (expected or 1)
    assert (rows["finetune"].planned, rows["finetune"].done) == (1, 0)
    assert rows["finetune"].ratio is None
    text = spent_table(list(rows.values()))
    assert "fetch_model             1        1         1 s        30 s  30.00" in text
    assert text.splitlines()[-1].startswith("all ")


def test_a_job_made_before_the_plan_is_not_its_doing(plan: Plan, results: Path) -> None:
    (results / CHECKPOINT / MANIFEST).unlink()  # it is planned, and its old record lies there
    write_plan(costs_of(plan, results, "a100", Calibration()), results, "2026-03-01T00:00:00Z")
    (row,) = [row for row in spent_of(results) if row.stage == "finetune"]
    assert (row.planned, row.done) == (1, 0)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json: is no stored plan"):
        spent_of(tmp_path)


# ---- the command


@pytest.fixture
def root(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the repository's, without results."""
    for name in ("config.yaml", "studies", "workflow"):
        (tmp_path / name).symlink_to(repository / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prints_and_stores_the_plan(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Session.of_file(root / "studies" / "paper.yaml", root).plan
    assert main(["plan", "studies/paper.yaml", "--gpus", "8", "--json", "out.json"]) == 0
    text = capsys.readouterr().out
    all_of_it = f"artifacts      {len(plan.jobs):,}, of which {len(plan.jobs):,} are to be made"
    assert f"{all_of_it}, by {len(plan.runs):,} jobs" in text
    assert "on 8 GPUs" in text
    assert "assumed: operations at 30% / 60% of the published peak of a100" in text
    content = json.loads((root / "out.json").read_text())
    assert content["device"] == "a100"
    assert content["artifacts"].keys() == plan.jobs.keys()
    stored = json.loads((root / "results" / "paper" / "plan.json").read_text())
    assert len(stored["jobs"]) == len(plan.jobs)
    assert main(["plan", "studies/paper.yaml", "--spent"]) == 0
    assert "finetune              744        0" in capsys.readouterr().out


def test_a_machine_without_gpus(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "config.yaml", "--gpus", "0", "--update"]) == 0
    text = capsys.readouterr().out
    assert "CPU time" in text
    assert "GPU-hours" not in text
    assert "prediction, GiB" in text
    assert read_calibration(root / "results").studies == {"toy": {}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "none.yaml"], "none.yaml: the file does not exist"),
        (["--json", "no/such/folder.json"], "--json: no/such/folder.json: is no file in an exist"),
        (["--spent"], "plan.json: the study was not planned"),
    ],
)
def test_bad_options_are_named(
    root: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["plan", "config.yaml", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_number_of_gpus_is_a_number(root: Path) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "config.yaml", "--gpus", "-1"])


def test_the_parser_imports_nothing_heavy() -> None:
    from xstilts.cluster import command

    commands = argparse.ArgumentParser().add_subparsers()
    command.add_parser(commands)
    assert set(vars(command)) & {"costs_of", "Session", "read_cluster", "yaml"} == set()
