"""What `prune` finds in a results folder, what it removes, and what it never touches."""

import fcntl
import json
import os
import signal
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny import settings_of_process
from xstilts import cli
from xstilts.artifacts.kept import keep, restore
from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import host_name, publishing
from xstilts.artifacts.root import ROOT
from xstilts.artifacts.spec import spec_sha256
from xstilts.cluster import prune as module
from xstilts.cluster.driver import FILE as DRIVER
from xstilts.cluster.inventory import NOTES, Verdict
from xstilts.cluster.prune import Report, clean_finished, prune
from xstilts.cluster.rates import CALIBRATION
from xstilts.cluster.spent import PLANNED
from xstilts.data.translate import _cache_folder
from xstilts.errors import InputError
from xstilts.progress import sign_path
from xstilts.published import Published
from xstilts.runtime import runtime
from xstilts.session import Session

STUDY: dict[str, Any] = {
    "study": "small",
    "models": ["toy-xlmr"],
    "recipes": ["none", "toy_qa"],
    "targets": ["toy_nli"],
    "languages": ["qaa", "qab"],
    "source_language": "qaa",
    "toyworld": {
        "sizes": {
            "corpus": {"train": 9},
            "nli": {"train": 9, "dev": 9, "test": 9},
            "qa": {"train": 9, "dev": 9, "test": 9},
        }
    },
    "pretraining": {"corpus": "toy_corpus", "languages": "qaa"},
}
WEIGHTS = "checkpoints/toy-xlmr/none/seed-1/toy_nli"
DROPPED = "checkpoints/toy-xlmr/toy_qa/seed-1/intermediate"
#: Without the recipe `toy_qa`; the tables and the check of all data have other inputs then.
LESS: dict[str, Any] = {"recipes": ["none"]}
OUTDATED = {"data/check", "tables", "analysis", "report"}


def session(**changes: Any) -> Session:
    return Session.of_config(STUDY | changes, "small.yaml", Path(), main=False)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All artifacts of the study, of ten bytes a file, at the study's own place."""
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    for job in session().plan.jobs.values():
        with publishing(Path(job.out), job.spec) as draft:
            for name in job.files:
                (draft.folder / name).parent.mkdir(exist_ok=True)
                (draft.folder / name).write_text("0123456789")
    for out, bundle in session().plan.bundles.items():
        with publishing(Path(out), bundle.index):
            pass
    return folder


def planned(study: Session) -> set[str]:
    return {*study.plan.jobs, *study.plan.bundles}


def write(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def state_of(results: Path, out: str, spec: object = None) -> Path:
    """A state as a training leaves it."""
    home = results / "state" / out
    write(home / "lock", 0)
    name = spec_sha256(spec or session().plan.jobs[out].spec)[:16]
    write(home / name / "step-5" / "tensors.pt", 1000)
    return home / name


def paths(report: Report, verdict: Verdict) -> set[str]:
    return {item.path for item in report.of(verdict)}


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def artifacts(folder: Path) -> set[str]:
    return {str(path.parent.relative_to(folder)) for path in folder.rglob("manifest.json")}


def test_a_finished_study_needs_all_it_made(results: Path) -> None:
    report = prune([session()], results)
    assert paths(report, "needed") == planned(session())
    assert len(report.items) == len(planned(session()))
    weight = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    assert report.bytes("needed") == weight


def test_what_an_edited_study_has_dropped_goes_on_request_only(results: Path) -> None:
    before, less = tree(results), session(**LESS)
    dropped = planned(session()) - planned(less)
    report = prune([less], results)
    assert DROPPED in dropped
    assert paths(report, "unneeded") == dropped
    assert paths(report, "outdated") == OUTDATED
    assert tree(results) == before

    report = prune([less], results, delete=True)
    assert report.removed == dropped
    assert artifacts(results) == planned(less)
    assert not (results / "checkpoints/toy-xlmr/toy_qa").exists()
    assert all(not Published(less.plan, results).is_stale(out) for out in planned(less) - OUTDATED)

    prune([less], results, delete=True, outdated=True)
    assert artifacts(results) == planned(less) - OUTDATED


def test_studies_of_one_folder_need_what_any_of_them_needs(results: Path) -> None:
    report = prune([session(**LESS), session()], results, delete=True, outdated=True)
    assert report.removed == set()
    assert paths(report, "outdated") == set()


def test_data_that_are_not_locked_are_never_outdated(results: Path) -> None:
    study = session()
    out = next(job.out for job in study.plan.of("fetch"))
    with publishing(Path(out), {**study.plan.jobs[out].spec, "lock": {"rows": 1}}):
        pass
    assert paths(prune([study], results), "outdated") == {out}
    object.__setattr__(study.plan.jobs[out], "spec", {**study.plan.jobs[out].spec, "lock": None})
    assert paths(prune([study], results), "outdated") == set()


# ---- states


def test_states(results: Path) -> None:
    finished = state_of(results, WEIGHTS)
    other = state_of(results, WEIGHTS, {"seed": 7})
    dropped = state_of(results, DROPPED)
    running = state_of(results, "models/toy-xlmr/base")
    (results / "models/toy-xlmr/base/manifest.json").unlink()
    report = prune([session(**LESS)], results, delete=True)
    reasons = {item.path: item.reason for item in report.items if item.kind == "state"}
    assert reasons == {
        str(finished.relative_to(results)): "its training is finished",
        str(other.relative_to(results)): "of another spec",
        str(dropped.relative_to(results)): "no given study plans its artifact",
        str(running.relative_to(results)): "",
    }
    assert tree(results / "state") == {
        *("models", "models/toy-xlmr", "models/toy-xlmr/base"),
        *(f"models/toy-xlmr/base/{name}" for name in ("lock", running.name)),
        *(f"models/toy-xlmr/base/{running.name}/{name}" for name in ("step-5",)),
        f"models/toy-xlmr/base/{running.name}/step-5/tensors.pt",
    }


@pytest.mark.parametrize("lost", ["manifest.json", "model.safetensors"])
def test_second_names_stay_until_the_artifact_is_safe(results: Path, lost: str) -> None:
    """They are free, and weigh nothing, only beside a whole artifact and without a driver."""
    keep(Path(WEIGHTS), Path("state"))
    kept = f"state/kept/{WEIGHTS}"
    (row,) = (item for item in prune([session()], results).items if item.kind == "kept")
    assert (row.path, row.verdict, row.bytes) == (kept, "unneeded", 0)

    stop = _driver(results)
    assert kept in paths(prune([session()], results), "needed")
    stop()
    mark = mark_incomplete(results, f"{WEIGHTS}/manifest.json")
    assert kept in paths(prune([session()], results), "needed")
    mark.unlink()
    (results / WEIGHTS / lost).unlink()
    assert prune([session()], results, delete=True).removed == set()
    assert restore(Path(WEIGHTS), session().plan.jobs[WEIGHTS].spec, Path("state"))
    assert prune([session()], results, delete=True).removed == {kept}
    assert not (results / "state").exists() or tree(results / "state") == set()


def test_second_names_of_what_is_not_planned_go(results: Path) -> None:
    keep(Path(DROPPED), Path("state"))
    (results / "state/kept/torn").mkdir()
    write(results / "state/kept" / f".torn.{dead_process()}.tmp" / "file")
    report = prune([session(**LESS)], results)
    weight = sum(path.stat().st_size for path in (results / DROPPED).iterdir())
    # Two names of the same files: removing both frees them once.
    assert sum(item.bytes for item in report.items if item.path.endswith(DROPPED)) == weight
    assert f"state/kept/{DROPPED}" in prune([session(**LESS)], results, delete=True).removed


def mark_incomplete(results: Path, output: str) -> Path:
    """As Snakemake names the mark of an output that a job was making."""
    return write(results / ".snakemake/incomplete" / urlsafe_b64encode(output.encode()).decode())


def test_states_of_finished_trainings_are_cleaned_at_the_start(results: Path) -> None:
    plan, base = session().plan, "models/toy-xlmr/base"
    finished, doubtful, unfinished = (state_of(results, out) for out in (WEIGHTS, DROPPED, base))
    mark_incomplete(results, f"{DROPPED}/manifest.json")
    (results / base / "manifest.json").unlink()
    assert clean_finished(plan, results) == [WEIGHTS]
    assert not finished.parent.exists()
    assert doubtful.exists()
    assert unfinished.exists()
    assert str(doubtful.relative_to(results)) in paths(prune([session()], results), "needed")
    assert clean_finished(plan, results / "elsewhere") == []


def test_a_state_that_a_process_holds_is_left_alone(results: Path) -> None:
    state = state_of(results, DROPPED)
    with (state.parent / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert clean_finished(session().plan, results) == []
        report = prune([session(**LESS)], results, delete=True)
    held = {DROPPED, str(state.relative_to(results))}
    assert paths(report, "held") == held
    assert not held & report.removed
    assert (results / DROPPED / "manifest.json").exists()
    assert state.exists()


def test_kept_predictions_stay_while_their_artifact_is_planned(results: Path) -> None:
    name = f"qaa-{'0a' * 16}"
    for recipe in ("none", "toy_qa"):
        folder = results / "state/predictions/toy-xlmr" / recipe / "seed-1/toy_nli"
        write(folder / f"{name}.jsonl")
        write(folder / f"{name}.sha256")
    assert "state/predictions" not in {item.path for item in prune([session()], results).items}
    report = prune([session(**LESS)], results, delete=True)
    assert "state/predictions/toy-xlmr/toy_qa/seed-1/toy_nli" in report.removed
    assert (results / f"state/predictions/toy-xlmr/none/seed-1/toy_nli/{name}.jsonl").exists()


def test_caches_of_translations_that_are_not_planned_go(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"hub": "o/mt", "source": "qaa", "target": "qab", "licence": "CC0-1.0", "title": "T"}
    Path("rows.yaml").write_text(json.dumps({"translators": {"tiny-mt": rows}}))
    recipe = {"tasks": "toy_nli", "translate": "tiny-mt"}
    study = session(registry="rows.yaml", recipes={"none": None, "nli_qab": recipe})
    (job,) = study.plan.of("translate")
    old = write(results / "state/translations" / ("ab" * 16) / "1.jsonl").parent
    prune([study], results, delete=True)
    assert old.exists()  # the translator is missing: nobody knows its caches' names
    with publishing(Path("translators/tiny-mt"), study.plan.jobs["translators/tiny-mt"].spec):
        pass
    settings_of_process(monkeypatch)
    needed = write(results / _cache_folder(job.spec) / "1.jsonl").parent
    runtime.cache_clear()
    assert prune([study], results, delete=True).of("unneeded")
    assert needed.exists()
    assert not old.exists()


# ---- drafts and logs


def dead_process() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_drafts(results: Path) -> None:
    home, old = results / "scores", time.time() - 90_000
    drafts = {
        "dead": home / f".a.{host_name()}.{dead_process()}.tmp",
        "alive": home / f".a.{host_name()}.{os.getppid()}.tmp",
        "elsewhere": home / ".a.another-node.1.old",
        "old elsewhere": home / ".a.another-node.2.tmp",
        "scratch": results / "state" / "sweep-abc_12",
    }
    for name, folder in drafts.items():
        os.utime(
            write(folder / "file"), (old, old) if name in ("old elsewhere", "scratch") else None
        )
    report = prune([session()], results, delete=True)
    gone = {name for name, folder in drafts.items() if not folder.exists()}
    assert gone == {"dead", "old elsewhere", "scratch"}
    assert paths(report, "held") == {
        str(drafts[name].relative_to(results)) for name in ("alive", "elsewhere")
    }


def test_the_names_of_other_commands_files() -> None:
    assert set(NOTES) == {PLANNED, CALIBRATION, ROOT, f"{ROOT}.sig"}


def test_logs_of_jobs_that_are_planned_stay(results: Path) -> None:
    kept = [
        *("check.log", "prepare/toy_nli/qab.log", "pretrain/toy-xlmr.log"),
        "finetune/toy-xlmr/none/seed-1/toy_nli.log",
        "score/toy-xlmr/none/seed-1.log",
    ]
    dropped = [
        *("intermediate/toy-xlmr/toy_qa/seed-1.log", "tokens/toy-xlmr/toy_qa/qaa.log"),
        "restore/toy-xlmr/none/seed-1/toy_nli/qaa.log",  # of a rule that is no more
    ]
    for name in [*kept, *dropped]:
        write(results / "logs" / name)
    report = prune([session(**LESS)], results, delete=True)
    logs = {
        item.path for item in report.items if item.kind == "log" and item.path in report.removed
    }
    assert logs == {f"logs/{name}" for name in dropped}
    assert all((results / "logs" / name).exists() for name in kept)


def test_signs_of_life_of_what_is_not_planned_go(results: Path) -> None:
    old = time.time() - 90_000
    needed, gone, recent = (
        write(sign_path(results / "state", out)) for out in (WEIGHTS, DROPPED, DROPPED + "-2")
    )
    for path in (needed, gone):
        os.utime(path, (old, old))
    for name in NOTES:
        write(results / name)
    report = prune([session(**LESS)], results, delete=True)
    assert (needed.exists(), gone.exists(), recent.exists()) == (True, False, True)
    assert paths(report, "held") == {str(recent.relative_to(results))}
    assert paths(report, "strange") == set()


# ---- what is not ours


def test_strangers_are_listed_and_stay(results: Path) -> None:
    spec = {"stage": "score"}
    strangers = {
        "notes.txt": write(results / "notes.txt"),
        "mine": write(results / "mine" / "a" / "data.bin").parent.parent,
        "scores/mine.csv": write(results / "scores/mine.csv"),
        "tool": write(results / "tool" / "manifest.json").parent,
        "logs/run.txt": write(results / "logs/run.txt"),
        "state/notes.txt": write(results / "state/notes.txt"),
        DROPPED: results / DROPPED,
    }
    write(results / "mine" / "b.bin")
    write(results / DROPPED / "notes.txt")
    with publishing(Path("copied"), spec):
        pass
    (results / "copied").rename(results / "backup")
    strangers["backup"] = results / "backup"
    before = {name: tree(path) for name, path in strangers.items()}
    report = prune([session(**LESS)], results, delete=True, outdated=True)
    assert paths(report, "strange") == set(strangers)
    assert {name: tree(path) for name, path in strangers.items()} == before
    (mine,) = (item for item in report.items if item.path == "mine")
    assert mine.bytes == 20


def test_links_are_not_followed(results: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (results / "checkpoints").rename(outside)
    (results / "checkpoints").symlink_to(outside)
    (results / "state").mkdir()
    (results / "state" / "checkpoints").symlink_to(outside)
    (results / "scores/toy-xlmr/toy_qa").rename(tmp_path / "scores")
    (results / "scores/toy-xlmr/toy_qa").symlink_to(tmp_path / "scores")
    before = tree(outside), tree(tmp_path / "scores")
    report = prune([session(**LESS)], results, delete=True)
    assert (tree(outside), tree(tmp_path / "scores")) == before
    links = {"checkpoints", "scores/toy-xlmr/toy_qa", "state/checkpoints"}
    assert paths(report, "strange") == links


def test_a_folder_that_became_a_link_meanwhile(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = module.survey

    def swap(look: Any) -> Any:
        found = survey(look)
        (results / "checkpoints").rename(tmp_path / "outside")
        (results / "checkpoints").symlink_to(tmp_path / "outside")
        return found

    monkeypatch.setattr(module, "survey", swap)
    report = prune([session(**LESS)], results, delete=True)
    assert "a link leads out of" in report.failed[DROPPED]
    assert (tmp_path / "outside/toy-xlmr/toy_qa/seed-1/intermediate/manifest.json").exists()


def test_what_was_made_anew_meanwhile_stays(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a job of a cluster, whose driver is gone."""
    survey, study = module.survey, session(**LESS)

    def publish(look: Any) -> Any:
        found = survey(look)
        with publishing(Path("tables"), study.plan.jobs["tables"].spec):
            pass
        return found

    monkeypatch.setattr(module, "survey", publish)
    report = prune([study], results, delete=True, outdated=True)
    assert report.removed & OUTDATED == OUTDATED - {"tables"}
    assert (results / "tables/manifest.json").exists()


def test_a_results_folder_may_be_a_link_itself(results: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(results)
    report = prune([session(**LESS)], tmp_path / "link", delete=True)
    assert DROPPED in report.removed


# ---- while something happens


def _driver(results: Path) -> Callable[[], object]:
    file = (results / DRIVER).open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file.close


def _snakemake(results: Path) -> Callable[[], object]:
    return write(results / ".snakemake/locks/0.output.lock").unlink


@pytest.mark.parametrize("start", [_driver, _snakemake])
def test_nothing_is_removed_while_a_driver_runs(
    results: Path, start: Callable[[Path], Callable[[], object]]
) -> None:
    stop, before = start(results), artifacts(results)
    with pytest.raises(InputError, match="a driver runs in this results folder"):
        prune([session(**LESS)], results, delete=True)
    assert artifacts(results) == before
    assert DROPPED in paths(prune([session(**LESS)], results), "unneeded")
    stop()
    assert DROPPED in prune([session(**LESS)], results, delete=True).removed


def test_locks_that_a_killed_driver_left_hold_up_nothing(results: Path) -> None:
    write(results / ".snakemake/locks/0.output.lock")
    write(results / DRIVER)
    assert DROPPED in prune([session(**LESS)], results, delete=True).removed


def test_a_driver_cannot_begin_meanwhile(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = module.survey

    def look(*arguments: Any) -> Any:
        with (results / DRIVER).open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return survey(*arguments)

    monkeypatch.setattr(module, "survey", look)
    assert prune([session(**LESS)], results, delete=True).removed


@pytest.mark.parametrize("files", [0, 1])
def test_a_prune_that_is_killed_leaves_no_torn_artifact(results: Path, files: int) -> None:
    """Killed after so many files of the first folder that it removes."""
    less, before = session(**LESS), artifacts(results)
    pid = os.fork()
    if not pid:
        unlink, count = os.unlink, [0]

        def kill(*arguments: Any, **options: Any) -> None:
            if count[0] == files:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
            unlink(*arguments, **options)

        os.unlink = kill
        prune([less], results, delete=True)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    (draft,) = results.rglob("*.old")
    whole = artifacts(results) - {str(draft.relative_to(results))}
    assert len(whole) == len(before) - 1
    for out in whole:
        assert all((results / out / name).exists() for name in read_manifest(results / out).files)
    prune([less], results, delete=True)
    assert artifacts(results) == planned(less)
    assert not list(results.rglob("*.old"))


# ---- the command


def test_the_command(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(STUDY | LESS))
    write(results / DROPPED / "model.safetensors", 3 << 20)
    assert cli.main(["prune", "less.yaml", "--json", "found.json"]) == 0
    said = capsys.readouterr().out
    assert "3.0 MiB  artifact      " + DROPPED in said
    (found,) = json.loads((tmp_path / "found.json").read_text())["folders"]
    assert found["results"] == str(results)
    assert {"path": DROPPED, "kind": "artifact", "removed": False}.items() <= {
        key: value
        for item in found["items"]
        if item["path"] == DROPPED
        for key, value in item.items()
    }.items()
    assert found["totals"]["needed"]["items"] == len(planned(session(**LESS))) - len(OUTDATED)

    (tmp_path / "results/small").rename(tmp_path / "moved")
    assert cli.main(["prune", "less.yaml"]) == 2
    assert "no such results folder" in capsys.readouterr().err
    assert cli.main(["prune", "less.yaml", "--results", "moved", "--delete"]) == 0
    assert "removed (" in capsys.readouterr().out
    assert not (tmp_path / "moved" / DROPPED).exists()


def test_one_results_folder_of_several_studies(tmp_path: Path, capsys: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(STUDY | {"study": name}))
    files = [str(tmp_path / f"{name}.yaml") for name in ("a", "b")]
    assert cli.main(["prune", *files, "--results", str(tmp_path)]) == 2
    assert "is one folder, and the studies have several" in capsys.readouterr().err
    assert cli.main(["prune", files[0], "--outdated"]) == 2


def test_what_cannot_be_removed_holds_up_nothing_else(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A file stands where the folder is to be moved."""
    parent, name = (results / DROPPED).parent, Path(DROPPED).name
    write(parent / f".{name}.{host_name()}.{os.getpid()}.old")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(STUDY | LESS))
    assert cli.main(["prune", "less.yaml", "--delete"]) == 2
    assert artifacts(results) == planned(session(**LESS)) | {DROPPED}
    assert f"{DROPPED}: could not be removed (Not a directory); 1 such" in capsys.readouterr().err
