"""Exports of a finished study: what stands in them, that it is true, and what is refused."""

import gzip
import hashlib
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from rocrate.rocrate import ROCrate

from small_results import publish
from xstilts import cli
from xstilts.artifacts.bundle import index_spec
from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.root import ROOT, Root, describe, read_root, write_root
from xstilts.audit.results import CRATE, REFERENCES, Results

CHECKPOINT, BASE = "checkpoints/m/none/seed-1/nli", "models/m/base"
SCRATCH = "checkpoints/m/raw/seed-1/intermediate"
SCORES = "scores/m/none/seed-1/nli"
#: Everything that is made, from first to last; a name that a URL must quote is one of them.
DATA = {
    "en": "data/prepared/nli/en",
    "qaa": "data/prepared/nli/qaa",
    "é x": "data/prepared/nli/é x",
}
REVISION = "0123456789abcdef" * 2
VERSIONS = {"python": "3.11.7", "snakemake": "9.27.1", "xstilts": "0.1.0"}


def make_study():
    """Artifacts of each kind below the working directory; their folders, in the order of making."""
    outs = [_fetched(code) for code in DATA]
    outs += [_prepared(code) for code in DATA]
    tokenizer = publish("models/m/tokenizer", {"stage": "tokenizer", "inputs": {}})
    model = {"name": "m", "hub": "someone/big-encoder"}
    spec = {"stage": "fetch_model", "model": model, "lock": {"revision": "f00d"}, "inputs": {}}
    outs += [tokenizer, publish(BASE, spec, model__safetensors="base", config__json="{}")]
    for code, prepared in DATA.items():
        inputs = {"prepared": prepared, "tokenizer": tokenizer}
        files = {"test__safetensors": f"sub-words {code}", "meta__json": "{}"}
        out = f"data/tokens/m/nli/{code}"
        outs.append(publish(out, {"stage": "tokens", "inputs": inputs}, **files))
    outs.append(_trained(SCRATCH, "intermediate", BASE, seed=2))
    outs.append(_trained(CHECKPOINT, "finetune", BASE, seed=1))
    outs += _scored()
    outs += _told(outs)
    for place, out in enumerate(outs):
        _record(out, place)
    return outs


def _fetched(code):
    lock = {"revision": REVISION, "files": {"train.parquet": {}}}
    source = {"kind": "hub", "hub": "someone/nli", "config": "{code}"}
    spec = {"stage": "fetch", "dataset": "nli", "config": code, "lock": lock, "source": source}
    text = f"rows in {code}"
    return publish(f"data/raw/nli/{code}", {**spec, "inputs": {}}, train__parquet=text)


def _prepared(code):
    inputs = {"raw": f"data/raw/nli/{code}"}
    row = {"format": "sequence_classification"}
    spec = {"stage": "prepare", "dataset": "nli", "language": code, "row": row, "inputs": inputs}
    report = json.dumps({"splits": {"train": {"rows": 392702}}})
    files = {"report__json": report, "train__parquet": f"t {code}", "test__parquet": f"g {code}"}
    return publish(DATA[code], {**spec, "fingerprint": "aa"}, **files)


def _trained(out, stage, start, seed):
    inputs = {"model": start, "tokens": ["data/tokens/m/nli/en"]}
    settings = {"learning_rate": 1e-5, "batch_size": 32, "warmup_steps": None}
    spec = {"stage": stage, "seed": seed, "settings": settings, "inputs": inputs}
    account = {"steps": 300, "collapsed": [{"task": "nli", "reason": "one answer"}] * (seed == 2)}
    files = {"model__safetensors": f"weights {seed}", "training__json": json.dumps(account)}
    return publish(out, {**spec, "fingerprint": "bb", "tasks": [{"name": "nli"}]}, **files)


def _scored():
    place = "m/none/seed-1/nli"
    inputs = {"checkpoint": CHECKPOINT, "prepared": list(DATA.values())}
    spec = {"stage": "evaluate", "target": "nli", "format": "sequence_classification"}
    files = {f"{code}__jsonl": f"predictions {code}" for code in DATA}
    predictions = publish(f"predictions/{place}", {**spec, "inputs": inputs}, **files)
    row = {"metric": "accuracy", "n": 200, "split": "test", "main": True}
    rows = [
        {**row, "language": code, "value": 80.5 - 10.25 * place} for place, code in enumerate(DATA)
    ]
    content = json.dumps({"target": "nli", "rows": rows})
    inputs = {"predictions": predictions, "gold": list(DATA.values())}
    spec = {"stage": "score", "format": "sequence_classification", "inputs": inputs}
    scores = publish(SCORES, {**spec, "fingerprint": "cc"}, scores__json=content)
    members = {scores: {**spec, "fingerprint": "cc"}}
    index = publish("bundles/score/m/none/seed-1", index_spec("score", members))
    return [predictions, scores, index]


def _told(outs):
    inputs = {"scores": [SCORES], "checkpoints": [CHECKPOINT]}
    tables = publish(
        "tables", {"stage": "aggregate", "inputs": inputs}, scores__csv="score\n80.5\n"
    )
    row = {"title": "Inference", "licence": "CC BY 4.0", "notes": ""}
    spec = {"stage": "report", "datasets": {"nli": row}, "inputs": {"tables": tables}}
    return [tables, publish("report", spec, index__html="<p>")]


def _record(out, place):
    attempt = {"start": f"2026-01-02T03:{place:02}:00+00:00", "host": "secret-host"}
    attempt["end"] = f"2026-01-02T03:{place:02}:30+00:00"
    git = {"commit": "c0ffee", "dirty": False}
    content = {"attempts": [attempt], "versions": VERSIONS, "git": git}
    (Path(out) / PROVENANCE).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository") / "results" / "small"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outs = make_study()
    (folder.parents[1] / "small.lock.json").write_text("{}")
    files = {"small.lock.json": sha256_file(folder.parents[1] / "small.lock.json")}
    content = {"study": "small", "seeds": [1, 2], "source_language": "en"}
    write_root(folder, Root("small", content, files, describe(folder, outs)))
    return folder


@pytest.fixture
def results(finished, tmp_path):
    """A copy that may be changed, with its repository."""
    shutil.copytree(finished.parents[1], tmp_path / "repository")
    return tmp_path / "repository" / "results" / "small"


def export(kind, results, out, *more):
    assert not cli.main(["audit", "export", kind, str(results), "--out", str(out), *more])
    return out


def refused(capsys, kind, results, out, *more):
    assert cli.main(["audit", "export", kind, str(results), "--out", str(out), *more]) == 2
    assert not list(out.parent.glob(f".{out.name}.*"))
    return capsys.readouterr().err


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---- the archive


def test_an_archive_holds_or_names_every_file_with_its_sha256(finished, tmp_path):
    out = export("archive", finished, tmp_path / "archive")
    listed = json.loads((out / REFERENCES).read_text())
    root = json.loads((out / ROOT).read_text())
    assert (out / ROOT).read_bytes() == (finished / ROOT).read_bytes()
    for name, known in root["artifacts"].items():
        assert sha256_file(out / name / MANIFEST) == known["manifest"]
        assert sha256_file(out / name / PROVENANCE) == known["provenance"]
        for file, entry in json.loads((out / name / MANIFEST).read_text())["files"].items():
            if (out / name / file).exists():
                assert sha256_file(out / name / file) == entry["sha256"]
                assert f"{name}/{file}" not in listed
            else:
                assert listed.pop(f"{name}/{file}") == entry
    assert not listed


def test_weights_and_rows_are_left_out_unless_asked_for(finished, tmp_path):
    left = {}
    for options in ((), ("--weights",), ("--data",), ("--weights", "--data")):
        out = export("archive", finished, tmp_path / "-".join(("a", *options)), *options)
        left[options] = set(json.loads((out / REFERENCES).read_text()))
    weights = {f"{out}/model.safetensors" for out in (BASE, CHECKPOINT, SCRATCH)}
    gold = {f"{out}/test.parquet" for out in DATA.values()}
    others = {f"{out}/train.parquet" for out in DATA.values()}
    others |= {f"data/raw/nli/{code}/train.parquet" for code in DATA}
    others |= {f"data/tokens/m/nli/{code}/test.safetensors" for code in DATA}
    assert left == {
        (): weights | gold | others,
        ("--weights",): gold | others,
        ("--data",): weights | others,
        ("--weights", "--data"): others,
    }


def test_files_of_the_repository_go_in_where_they_are_those_of_the_study(
    results, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    out = export("archive", results, tmp_path / "archive")
    assert (out / "sources" / "small.lock.json").read_text() == "{}"
    assert {"Snakefile", "README.txt"} <= set(contents(out / "sources"))
    assert any(name.startswith("envs/") for name in contents(out / "sources"))
    assert "note:" not in capsys.readouterr().out
    (results.parents[1] / "small.lock.json").write_text('{"changed": 1}')
    out = export("archive", results, tmp_path / "again")
    assert not (out / "sources" / "small.lock.json").exists()
    assert "note: small.lock.json: not found with the recorded sha256" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_tar_is_the_folder_and_depends_on_nothing_but_the_study(
    finished, results, tmp_path, name
):
    folder = export("archive", finished, tmp_path / "folder")
    tar = export("archive", finished, tmp_path / name)
    with tarfile.open(tar) as packed:
        members = packed.getmembers()
        packed.extractall(tmp_path / "unpacked", filter="data")
    assert contents(tmp_path / "unpacked" / "small") == contents(folder)
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0o644)}
    assert {member.uname + member.gname for member in members} == {""}
    # Another place, other times, another day.
    for path in results.rglob("*"):
        path.touch()
    results = results.rename(results.with_name("moved"))
    moved = tmp_path / f"moved-{name}"
    assert export("archive", results, moved).read_bytes() == tar.read_bytes()
    if name.endswith("gz"):
        assert gzip.decompress(tar.read_bytes())[:5] == b"small"


def test_times_in_an_archive_are_those_of_the_records(finished, tmp_path):
    out = export("archive", finished, tmp_path / "archive")
    first, last = out / "data/raw/nli/en/manifest.json", out / ROOT
    assert first.stat().st_mtime == 1767322830  # 2026-01-02T03:00:30Z
    record = json.loads((finished / "report" / PROVENANCE).read_text())
    assert record["attempts"][-1]["end"].startswith("2026-01-02T03:")
    assert last.stat().st_mtime > first.stat().st_mtime


def test_an_unpacked_archive_is_a_results_folder(finished, tmp_path):
    out = export("archive", finished, tmp_path / "archive")
    ours, theirs = Results(finished).artifacts, Results(out).artifacts
    assert ours.keys() == theirs.keys()
    assert all(theirs[name].sha256 == item.sha256 for name, item in ours.items())


# ---- what is refused


def into_root(results, out):
    """Let the root manifest say of an artifact what lies there now."""
    root = read_root(results)
    write_root(results, replace(root, artifacts={**root.artifacts, **describe(results, [out])}))


@pytest.mark.parametrize("kind", ["archive", "crate", "cards"])
def test_damaged_studies_are_refused_and_the_place_named(results, tmp_path, capsys, kind):
    def said():
        return refused(capsys, kind, results, tmp_path / "out")

    path = results / CHECKPOINT / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    assert f"{CHECKPOINT}/model.safetensors: has another size" in said()
    path.unlink()
    assert f"{CHECKPOINT}/model.safetensors: No such file" in said()
    path.symlink_to(results / BASE / "model.safetensors")
    assert f"{CHECKPOINT}/model.safetensors: is no file" in said()
    path.unlink()
    path.write_bytes(content)
    manifest = results / CHECKPOINT / MANIFEST
    manifest.write_text("{}")
    assert f"found {CHECKPOINT}" in said()
    # Its root manifest says what lies there, and yet it is none.
    into_root(results, CHECKPOINT)
    assert "is no manifest" in said()
    (results / ROOT).unlink()
    assert "Run snakemake to the end" in said()


def test_a_file_that_leads_out_is_not_exported(results, tmp_path, capsys):
    (results.parent / "secret").write_text("secret")
    manifest = results / "report" / MANIFEST
    content = json.loads(manifest.read_text())
    content["files"]["../../secret"] = {"size": 6, "sha256": "0" * 64}
    manifest.write_text(json.dumps(content))
    into_root(results, "report")
    said = refused(capsys, "archive", results, tmp_path / "out")
    assert "report/../../secret: leads out of its artifact" in said


@pytest.mark.parametrize("name", ["out", "out.tar.gz"])
def test_bytes_of_the_right_size_that_are_others_are_found_while_copying(
    results, tmp_path, capsys, name
):
    path = results / "tables" / "scores.csv"
    path.write_text(path.read_text().replace("80.5", "90.5"))
    said = refused(capsys, "archive", results, tmp_path / name)
    assert "tables/scores.csv: has other bytes than in its manifest" in said
    assert not (tmp_path / name).exists()


def test_places_that_cannot_be(results, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert "exists already" in refused(capsys, "cards", results, tmp_path / "there")
    assert "there is no folder" in refused(capsys, "cards", results, tmp_path / "no" / "out")
    assert "is only read" in refused(capsys, "cards", results, results / "cards")


# ---- model cards


def test_a_card_for_each_trained_checkpoint_that_the_hub_can_read(finished, tmp_path):
    out = export("cards", finished, tmp_path / "cards", "--licence", "CC-BY-4.0")
    assert set(contents(out)) == {f"{name}/README.md" for name in (CHECKPOINT, SCRATCH)}
    data = ModelCard.load(out / CHECKPOINT / "README.md").data
    assert data.language == ["en"]
    assert data["language_bcp47"] == ["qaa", "é x"]
    assert (data.base_model, data.datasets) == ("someone/big-encoder", ["someone/nli"])
    assert (data.license, data.library_name) == ("cc-by-4.0", "transformers")
    assert data.metrics == ["accuracy"]


def test_scores_of_a_card_are_those_of_the_manifests_with_revisions(finished, tmp_path):
    out = export("cards", finished, tmp_path / "cards")
    card = ModelCard.load(out / CHECKPOINT / "README.md")
    rows = json.loads((finished / SCORES / "scores.json").read_text())["rows"]
    results = card.data.eval_results
    assert [(row.metric_value, row.dataset_args) for row in results] == [
        (row["value"], {"examples": row["n"]}) for row in rows
    ]
    assert {row.dataset_revision for row in results} == {REVISION}
    assert [row.dataset_config for row in results] == list(DATA)
    assert {(row.task_type, row.dataset_type) for row in results} == {
        ("text-classification", "someone/nli")
    }
    index = eval_results_to_model_index(card.data.model_name, results)
    assert model_index_to_eval_results(index) == (CHECKPOINT, results)


def test_the_body_of_a_card(finished, tmp_path):
    out = export("cards", finished, tmp_path / "cards")
    text = (out / CHECKPOINT / "README.md").read_text()
    sha256 = hashlib.sha256(b"weights 1").hexdigest()
    assert f"| `model.safetensors` | 9 | `{sha256}` |" in text
    assert f"| nli | en | 392702 | someone/nli | {REVISION} | CC BY 4.0 | – |" in text
    assert "| `learning_rate` | 1e-05 |" in text
    assert "`warmup_steps`" not in text
    assert "| nli | en | accuracy | 80.50 | 200 |" in text
    assert "It saw no labels in qaa, é x" in text
    assert "No licence is stated" in text
    assert "learnt nothing" not in text
    assert "license" not in ModelCard.load(out / CHECKPOINT / "README.md").data.to_dict()


def test_a_card_of_a_checkpoint_without_scores_or_that_learnt_nothing_says_so(finished, tmp_path):
    out = export("cards", finished, tmp_path / "cards", "--licence", "https://example.org/terms")
    card = ModelCard.load(out / SCRATCH / "README.md")
    assert card.data.eval_results is None
    assert "No predictions were made with it" in card.text
    assert "The training on nli learnt nothing: one answer." in card.text
    assert card.data.license == "other"
    assert card.data.license_link == "https://example.org/terms"


def test_one_configuration_of_several_languages_keeps_its_scores_apart(
    tmp_path, finished, monkeypatch
):
    from xstilts.audit.export import cards as cards
    from xstilts.audit.finished import finished as read

    shelf = cards.Shelf(read(Results(finished)))
    raw = shelf._raw
    monkeypatch.setattr(shelf, "_raw", lambda item: raw(item) | {"config": "default"})
    found = [score.result for score in shelf._scores(CHECKPOINT)]
    assert [row.dataset_config for row in found] == [f"default/{code}" for code in DATA]
    index = eval_results_to_model_index("m", found)
    assert model_index_to_eval_results(index) == ("m", found)


# ---- the RO-Crate


@pytest.fixture(scope="module")
def crate(finished, tmp_path_factory):
    return export("crate", finished, tmp_path_factory.mktemp("crate") / "crate")


def test_the_crate_names_every_checkpoint_data_set_and_table_with_its_sha256(finished, crate):
    named = {str(entity["name"]): entity for entity in load(crate).data_entities}
    for out in (CHECKPOINT, SCRATCH, BASE, "tables", *DATA.values(), "data/raw/nli/en"):
        assert named[out].type == "Dataset"
        manifest = json.loads((finished / out / MANIFEST).read_text())
        assert named[f"{out}/{MANIFEST}"]["sha256"] == sha256_file(finished / out / MANIFEST)
        for name, known in manifest["files"].items():
            entity = named[f"{out}/{name}"]
            assert (entity["sha256"], entity["contentSize"]) == (
                known["sha256"],
                str(known["size"]),
            )
            assert entity in as_list(named[out]["hasPart"])


def load(folder):
    return ROCrate(folder)


def as_list(value):
    return value if isinstance(value, list) else [value]


def test_every_file_of_the_crate_that_has_a_path_has_its_bytes(crate):
    files = [entity for entity in load(crate).data_entities if "File" in as_list(entity.type)]
    there = [entity for entity in files if not entity.id.startswith("arcp://")]
    left = json.loads((crate / REFERENCES).read_text())
    assert {str(entity["name"]) for entity in files if entity not in there} <= set(left)
    for entity in there:
        path = crate / unquote(entity.id)
        assert entity["sha256"] == sha256_file(path)
        assert int(entity["contentSize"]) == path.stat().st_size
    assert len({entity.id for entity in files}) == len(files)


def test_every_artifact_has_an_action_from_its_inputs_to_it(finished, crate):
    loaded = load(crate)
    for out, item in Results(finished).artifacts.items():
        action = next(
            (
                entity
                for entity in loaded.get_by_type("CreateAction")
                if unquote(entity.id) == f"#action/{out}"
            ),
            None,
        )
        assert (action is None) == item.is_index
        if action is None:
            continue
        assert action["result"]["name"] == out
        objects = as_list(action["object"])
        given = {entity["name"] for entity in objects if entity.type == "Dataset"}
        assert given == set(item.inputs)
        (spec,) = (entity for entity in objects if entity.type == "PropertyValue")
        assert json.loads(spec["value"])["stage"] == item.stage
        assert action["instrument"]["name"] == f"xstilts stage {item.stage}"
        needs = action["instrument"]["softwareRequirements"]
        assert {row["name"]: row["softwareVersion"] for row in needs} == VERSIONS
        assert action["startTime"] < action["endTime"]


def test_the_crate_describes_the_run_of_the_workflow(crate):
    loaded = load(crate)
    workflow = loaded.mainEntity
    assert workflow.id == "sources/Snakefile"
    assert (workflow.lang["name"], workflow.lang["version"]) == ("Snakemake", "9.27.1")
    run = loaded.get("#run")
    assert run["instrument"] is workflow
    assert {"tables", "report"} <= {entity["name"] for entity in run["result"]}
    given = {entity["name"] for entity in run["object"]}
    assert {"seeds", ROOT, "sources/small.lock.json"} <= given
    profiles = {profile.id for profile in loaded.root_dataset["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/provenance/0.5" in profiles
    assert str(loaded.datePublished).startswith("2026-01-02 03:")


def test_data_sets_in_the_crate_have_their_licence_and_source(crate):
    loaded = load(crate)
    raw = loaded.get("data/raw/nli/en/")
    assert raw["license"]["name"] == "CC BY 4.0"
    assert raw["isBasedOn"].id == f"https://huggingface.co/datasets/someone/nli/tree/{REVISION}"
    base = loaded.get(f"{BASE}/")
    assert base["isBasedOn"].id == "https://huggingface.co/someone/big-encoder/tree/f00d"


def test_a_crate_names_no_machine_and_depends_on_nothing_but_the_study(results, crate, tmp_path):
    text = (crate / CRATE).read_text()
    assert "secret-host" not in text
    assert str(results.parents[3]) not in text
    again = export("crate", results, tmp_path / "again")
    assert (again / CRATE).read_text() == text


def test_the_licence_of_a_crate_is_what_it_is_told(results, crate, tmp_path):
    assert load(crate).root_dataset["license"]["name"].startswith("not stated")
    place = "https://creativecommons.org/licenses/by/4.0/"
    told = export("crate", results, tmp_path / "told", "--licence", place)
    assert load(told).root_dataset["license"].id == place


def test_no_reference_of_a_crate_points_to_nothing(crate):
    graph = json.loads((crate / CRATE).read_text())["@graph"]
    there = {entity["@id"] for entity in graph}
    assert len(there) == len(graph)
    for entity in graph:
        for key, value in entity.items():
            for part in as_list(value):
                if isinstance(part, dict) and not part["@id"].startswith("https://"):
                    assert part["@id"] in there, (entity["@id"], key)


def test_the_crate_passes_the_profiles_validator(crate):
    """Needs roc-validator, and its cache of the JSON-LD contexts or a network."""
    services = pytest.importorskip("rocrate_validator.services", reason="no roc-validator")
    from rocrate_validator.models import Severity

    settings = services.ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier="provenance-run-crate",
        requirement_severity=Severity.REQUIRED,
        skip_availability_check=True,
    )
    try:
        found = services.validate(settings)
    except Exception as error:
        pytest.skip(f"roc-validator cannot run here: {error}")
    assert not found.get_issues(), [issue.message for issue in found.get_issues()]
