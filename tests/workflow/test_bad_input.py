"""Bad data, folders, locks and models end before any training, in one message that says what to do.

Wrong keys of a study are in tests/unit/test_bad_studies.py.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from copies import Copy, copy_repository, pairs, write_mirror

from hub_samples import WEIGHTS, write_files
from xstilts import cli
from xstilts.errors import InputError
from xstilts.runtime import VARIABLE, runtime
from xstilts.session import MIRROR_VARIABLE, Session

STUDY = {
    "study": "bad",
    "models": ["matrix-xlmr"],
    "registry": ["rows.yaml"],
    "mirror": "mirror",
    "lock": "bad.lock.json",
    "recipes": ["none"],
    "targets": ["pairs"],
    "languages": ["qaa", "qab"],
    "source_language": "qaa",
    "toyworld": {"sizes": {"corpus": {"train": 40}}},
    "encoding": {"default": {"max_length": 32}},
    "pretraining": {"corpus": ["toy_corpus"], "languages": ["qaa"]},
}
#: Data stages only: whoever comes after them is a training.
STAGES = ("fetch_model", "fetch", "prepare", "tokenizer", "tokens", "testset", "check")


class Bench:
    """A study in a folder of its own, whose data stages run in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: str) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.study: dict[str, Any] = json.loads(json.dumps(STUDY))
        (folder / "rows.yaml").write_text(rows, encoding="utf-8")
        self.pairs = write_mirror(folder / "mirror")

    def lock(self) -> None:
        self._open().lock_data()

    def run(self, stages: Collection[str] = STAGES) -> None:
        """Run the jobs of some stages in their order."""
        session = self._open()
        session.results.mkdir(parents=True, exist_ok=True)
        self.monkeypatch.chdir(session.results)
        self.monkeypatch.setenv(VARIABLE, session.runtime_json)
        runtime.cache_clear()
        for job in session.plan.jobs.values():
            if job.stage in stages:
                module, function = cli.STAGES[job.stage]
                getattr(importlib.import_module(module), function)(job.spec, Path(job.out))

    def add_rows(self, **sections: Any) -> None:
        rows = yaml.safe_load((self.folder / "rows.yaml").read_text())
        for section, content in sections.items():
            rows[section].update(content)
        (self.folder / "rows.yaml").write_text(yaml.safe_dump(rows))

    def _open(self) -> Session:
        return Session.of_config(self.study, "bad.yaml", self.folder, main=False)


@pytest.fixture
def bench(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(VARIABLE, "{}")
    runtime.cache_clear()
    rows = (repository / "tests" / "workflow" / "matrix_rows.yaml").read_text()
    yield Bench(tmp_path, monkeypatch, rows)
    runtime.cache_clear()


def test_good_data_pass(bench: Bench) -> None:
    bench.lock()
    bench.run()
    assert (bench.folder / "results/bad/data/check/datasets.csv").exists()


# ---- the mirror's data, before they are locked


def _rewrite(bench: Bench, name: str, value: Any) -> None:
    """Another value in row 2 of the second language's test split."""
    table = pairs("qab", "test")
    values = table[name].to_pylist()
    values[2] = value
    table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, bench.pairs / "qab" / "test.parquet")


def _cut(bench: Bench) -> None:
    file = bench.pairs / "qab" / "test.parquet"
    file.write_bytes(file.read_bytes()[:-20])


def _without_column(bench: Bench) -> None:
    table = pairs("qab", "test").drop_columns(["text_b"])
    pq.write_table(table, bench.pairs / "qab" / "test.parquet")


def _empty(bench: Bench) -> None:
    pq.write_table(pairs("qab", "test").slice(0, 0), bench.pairs / "qab" / "test.parquet")


def _lost_answer(bench: Bench) -> None:
    """A QA data set whose second answer is nowhere in its context."""
    answers = [{"text": ["a"], "answer_start": [0]}, {"text": ["xyz"], "answer_start": [1]}]
    table = pa.table({"context": ["a b", "c d"], "question": ["?", "?"], "answers": answers})
    folder = write_files(bench.folder / "mirror/owner/spans", {"README.md": _readme("train")})
    pq.write_table(table, folder / "train.parquet")
    row = {
        "title": "Spans",
        "format": "question_answering",
        "source": {"hub": "owner/spans", "config": "default"},
        "languages": ["qaa"],
        "splits": {"train": "train"},
        "fields": {"context": "context", "question": "question", "answers": "answers"},
        "licence": "CC0-1.0",
    }
    task = {"title": "Spans", "datasets": ["spans"], "language": "qaa"}
    bench.add_rows(datasets={"spans": row}, tasks={"spans": task})
    bench.study["recipes"] = ["spans"]


def _readme(split: str) -> bytes:
    files = f"- split: {split}\n    path: {split}.parquet\n"
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n  {files}---\n".encode()


def _corrupt_model(bench: Bench) -> None:
    """A model of the Hub; it has no tokenizer, which is not what the test is about."""
    config = json.dumps({"model_type": "xlm-roberta", "num_hidden_layers": 1}).encode()
    files = {"config.json": config, "model.safetensors": WEIGHTS[:-1]}
    write_files(bench.folder / "mirror/owner/model", files)
    row = {
        "title": "M",
        "architecture": "xlm-roberta",
        "hub": "owner/model",
        "layers": 1,
        "max_length": 64,
        "retrieval_layer": 1,
        "licence": "MIT",
    }
    bench.add_rows(models={"hub-model": row})
    bench.study["models"] = ["hub-model"]


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (_cut, ["test.parquet", "no whole parquet file", "fetch"]),
        (_without_column, ["test.parquet", "'text_b'", "found"]),
        (
            lambda bench: _rewrite(bench, "label", 7),
            ["row 2", "expected '0', '1'", "found 7"],
        ),
        (lambda bench: _rewrite(bench, "label", -1), ["row 2", "label", "found -1"]),
        (_empty, ["pairs (qab)", "no row is left", "one row or more"]),
        (_lost_answer, ["train.parquet", "row 1", "answer", "'xyz'"]),
        (_corrupt_model, ["owner/model", "model.safetensors", "no whole safetensors", "mirror"]),
    ],
    ids=["cut", "column", "label", "unlabelled", "empty", "span", "weights"],
)
def test_bad_data_in_the_mirror(
    bench: Bench, damage: Callable[[Bench], None], parts: list[str]
) -> None:
    damage(bench)
    bench.lock()
    stages = ["fetch_model"] if damage is _corrupt_model else STAGES
    _explained(bench, lambda: bench.run(stages), parts)


def _explained(bench: Bench, call: Callable[[], None], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not list(bench.folder.glob("results/*/checkpoints"))
    assert not list(bench.folder.glob("results/*/models/*/base"))


# ---- the mirror and the lock


def _unlink_readme(bench: Bench) -> None:
    (bench.pairs / "README.md").unlink()


def _unlink_language(bench: Bench) -> None:
    file = bench.pairs / "README.md"
    file.write_text(file.read_text().replace("config_name: qab", "config_name: qad"))


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda b: b.study.update(mirror="nowhere"), ["nowhere", "does not exist", "`mirror`"]),
        (
            lambda b: (b.folder / "mirror/owner/pairs").rename(b.folder / "mirror/owner/pars"),
            ["mirror", "no repository 'owner/pairs'", "Did you mean 'owner/pars'"],
        ),
        (_unlink_language, ["owner/pairs", "no configuration 'qab'", "Did you mean 'qa"]),
        (_unlink_readme, ["owner/pairs", "no configuration 'qaa'", "default"]),
        (
            lambda b: (b.pairs / "qab/test.parquet").unlink(),
            ["owner/pairs", "qab"],
        ),
        (
            lambda b: b.study.update(recipes=["ccg"]),
            ["files.ccg", "not set", "`files: {ccg: <folder>}`"],
        ),
        (
            lambda b: b.study.update(recipes=["ccg"], files={"ccg": "mirror"}),
            ["mirror", "file", "missing", "found", "LDC2005T13"],
        ),
        (
            lambda b: (b.folder / "bad.lock.json").write_text("{"),
            ["bad.lock.json", "cannot be read", "delete it and run `xstilts lock`"],
        ),
        (
            lambda b: (b.folder / "bad.lock.json").write_text('{"version": 2}'),
            ["bad.lock.json: version", "found 2"],
        ),
    ],
    ids=[
        *("mirror", "repository", "configuration", "readme", "file"),
        *("no-ccg", "ccg-file", "broken-lock", "other-lock"),
    ],
)
def test_what_cannot_be_locked(
    bench: Bench, damage: Callable[[Bench], Any], parts: list[str]
) -> None:
    damage(bench)
    _explained(bench, bench.lock, parts)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (
            lambda b: (b.pairs / "qab/test.parquet").unlink(),
            ["qab/test.parquet", "missing", "xstilts lock --refresh"],
        ),
        (_cut, ["qab/test.parquet", "expected size", "mirror has changed", "--refresh"]),
        (
            lambda b: b.folder.joinpath("bad.lock.json").unlink(),
            ["pairs/qa", "not in the lock file", "Run `xstilts lock`"],
        ),
    ],
    ids=["missing", "changed", "no-lock"],
)
def test_the_mirror_is_not_as_it_was_locked(
    bench: Bench, damage: Callable[[Bench], Any], parts: list[str]
) -> None:
    bench.lock()
    damage(bench)
    _explained(bench, bench.run, parts)


def test_an_artifact_that_was_changed_by_hand(bench: Bench) -> None:
    bench.lock()
    bench.run()
    folder = bench.folder / "results/bad/data"
    file = next((folder / "prepared/pairs/qab").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1] + b"0")
    _explained(bench, lambda: bench.run(["tokens"]), ["test.parquet", "other bytes", "Delete"])


# ---- rows of the user's own


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"train": []}, ["rows.yaml: targets.pairs: train", "needs a task"]),
        ({"train": ["pears"]}, ["targets.pairs: train", "'pears'", "Did you mean 'pairs'"]),
        ({"dataset": "toy_corpus"}, ["targets.pairs"]),
        ({"metric": "squad_f1"}, ["targets.pairs: metric", "squad_f1", "accuracy"]),
        ({"languages": ["de"]}, ["targets.pairs: languages", "'de'"]),
    ],
)
def test_a_target_that_cannot_be(bench: Bench, change: dict[str, Any], parts: list[str]) -> None:
    rows = yaml.safe_load((bench.folder / "rows.yaml").read_text())
    bench.add_rows(targets={"pairs": rows["targets"]["pairs"] | change})
    _explained(bench, bench.lock, parts)


# ---- the real command lines


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Copy:
    """A copy of the repository, where nothing has run."""
    copy = copy_repository(
        repository, tmp_path / "copy", repository / "tests" / "workflow" / "matrix.yaml"
    )
    write_mirror(copy.folder / "mirror")
    return copy


def _says(copy: Copy, said: str, *parts: str) -> None:
    for part in parts:
        assert part in said
    assert "Traceback" not in said
    assert not (copy.results / "checkpoints").exists()
    assert not (copy.results / "models/matrix-xlmr/base").exists()


def test_snakemake_stops_at_a_wrong_study(bare: Copy) -> None:
    with bare.study() as study:
        study["recipies"] = study.pop("recipes")
    said = bare.snakemake("--cores", "1", fails=True)
    _says(bare, said, "matrix.yaml: recipies: unknown key", "Did you mean 'recipes'?")
    assert not bare.results.exists()


def test_snakemake_stops_at_a_key_that_stands_there_twice(bare: Copy) -> None:
    with bare.study_file.open("a") as file:
        file.write("seeds: [1, 2]\n")
    said = bare.snakemake("--cores", "1", fails=True)
    _says(bare, said, "matrix.yaml: line ", "the key 'seeds' stands there twice")


def test_snakemake_stops_at_a_mirror_without_the_data(bare: Copy) -> None:
    (bare.folder / "mirror/owner/pairs/qaa/train.parquet").unlink()
    said = bare.snakemake("--cores", "1", fails=True)
    _says(bare, said, "owner/pairs", "qaa/train.parquet")
    assert not bare.results.exists()


def test_snakemake_trains_nothing_on_bad_rows(bare: Copy) -> None:
    """The last of the targets to be read has a label too many."""
    file = bare.folder / "mirror/owner/pairs/qab/test.parquet"
    labels = [*pairs("qab", "test")["label"].to_pylist()[:-1], 2]
    table = pairs("qab", "test").set_column(2, "label", pa.array(labels))
    pq.write_table(table, file)
    said = bare.snakemake("--cores", "2", "--keep-going", fails=True)
    problem = "data/raw/pairs/qab/test/test.parquet: row 3: the label"
    _says(bare, said, problem, "found 2")
    assert problem in (bare.results / "logs/prepare/pairs.log").read_text()


def test_lock_names_a_broken_file(bare: Copy) -> None:
    bare.study_file.write_text("study: [1\n")
    said = bare.run("xstilts", "lock", str(bare.study_file), fails=True)
    _says(bare, said, "matrix.yaml", "not valid YAML", "line 2")


def test_a_stage_names_a_wrong_spec(bare: Copy) -> None:
    for spec, part in (("{", "is no JSON"), ('{"stage": "score"}', "is of another stage")):
        said = bare.run("xstilts", "stage", "prepare", "--out", "x", "--spec", spec, fails=True)
        _says(bare, said, "--spec", part)
    said = bare.run(
        "xstilts", "stage", "prepare", "--out", "../x", "--spec", '{"stage": "prepare"}', fails=True
    )
    _says(bare, said, "--out", "leaves the results folder", "../x")
