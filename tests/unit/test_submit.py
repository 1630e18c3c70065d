"""A run's predictions as XTREME's file tree: the choice on dev data, the files, the round trip."""

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError
from xstilts.evaluation import score
from xstilts.evaluation.benchmark import score_tree
from xstilts.evaluation.submit import Wish, sorted_lines, submit
from xstilts.plan import Job
from xstilts.session import Session

ROWS = 12
STUDY: dict[str, Any] = {
    "study": "small",
    "models": ["xlm-roberta-base"],
    "recipes": ["none", "mnli"],
    "targets": ["xnli", "pawsx", "panx", "xquad", "mlqa", "tatoeba", "bucc2018"],
    "languages": ["de", "en"],
    "seeds": [1, 2],
    "evaluation": {"retrieval": {"layer": "dev"}},
}
#: Dev score of each recipe and seed: `mnli` is better on average, its second seed best of all.
DEV = {("none", 1): 0.7, ("none", 2): 0.7, ("mnli", 1): 0.6, ("mnli", 2): 0.9}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A finished run: made-up texts and predictions, real scores."""
    made = Session.of_config(STUDY, "small.yaml", tmp_path, main=False)
    made.results.mkdir(parents=True)
    monkeypatch.chdir(made.results)
    for job in made.plan.jobs.values():
        if job.stage == "prepare":
            _prepare(made, job)
        elif job.stage == "evaluate":
            _predict(job)
        elif job.stage == "score":
            score.run(job.spec, Path(job.out))
        else:
            _publish(job)
    return made


def _prepare(session: Session, job: Job) -> None:
    row = session.registry.datasets[job.spec["dataset"]]
    dice = random.Random(job.out)
    ids = [f"{job.spec['language']}-{number}" for number in range(ROWS)]
    labels = list(row.labels or ())
    tables = _tables(row.format, ids, labels, dice)
    with publishing(Path(job.out), job.spec) as draft:
        for name, columns in tables.items():
            pq.write_table(pa.table(columns), draft.folder / f"{name}.parquet")
        (draft.folder / "report.json").write_text(json.dumps({"labels": labels or None}))


def _tables(
    format_: str, ids: list[str], labels: list[str], dice: random.Random
) -> dict[str, dict[str, list[Any]]]:
    words = [f"Wort{dice.randrange(99)} zwei drei" for _ in ids]
    if format_ == "sequence_classification":
        return {"test": {"id": ids, "label": [dice.randrange(len(labels)) for _ in ids]}}
    if format_ == "token_classification":
        tags = [[dice.randrange(len(labels)) for _ in range(3)] for _ in ids]
        return {"test": {"id": ids, "tokens": [text.split() for text in words], "tags": tags}}
    if format_ == "question_answering":
        answers = [[{"text": text.split()[0], "start": 0}] for text in words]
        asked = {"id": ids, "context": words, "question": words, "answers": answers}
        return {"test": asked}
    sides = {
        "test.source": {"id": [f"de-{id_}" for id_ in ids], "text": words},
        "test.target": {"id": [f"en-{id_}" for id_ in ids], "text": words[::-1]},
    }
    names = {f"{side}_id": sides[f"test.{side}"]["id"] for side in ("source", "target")}
    return sides | {"test.gold": names}


def _publish(job: Job) -> None:
    """Any other artifact: with its dev score, where it has one."""
    with publishing(Path(job.out), job.spec) as draft:
        for name in job.files:
            (draft.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (draft.folder / name).touch()
        if job.stage not in ("finetune", "sweep"):
            return
        _, _, recipe, seed, *_ = job.out.split("/")
        dev = DEV[recipe, int(seed[-1])]
        if job.stage == "finetune":
            lines = [{"step": 1, "dev": {"t": dev}}, {"step": 2, "dev": {"t": dev - 0.1}}]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (draft.folder / "history.jsonl").write_text(text)
        else:
            rows = [{"language": "de", "layer": n, "f1": dev * n, "threshold": 1} for n in (0, 1)]
            (draft.folder / "layers.json").write_text(json.dumps({"layer": 1, "rows": rows}))


def _predict(job: Job) -> None:
    dice = random.Random(job.out)
    with publishing(Path(job.out), job.spec) as draft:
        for language, prepared in zip(
            job.spec["languages"], job.spec["inputs"]["prepared"], strict=True
        ):
            lines = _lines(job.spec, Path(prepared), dice)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (draft.folder / f"{language}.jsonl").write_text(text)


def _lines(spec: Mapping[str, Any], prepared: Path, dice: random.Random) -> list[dict[str, Any]]:
    """Gold with every third prediction replaced by the one before."""
    if spec["format"] == "sentence_retrieval":
        gold = pq.read_table(prepared / "test.gold.parquet").to_pylist()
        if spec["metric"] == "bucc_f1":
            return [*gold[2:], {**gold[0], "target_id": gold[1]["target_id"]}]
        values = [(row["target_id"], row["source_id"]) for row in gold]
    else:
        rows = pq.read_table(prepared / "test.parquet").to_pylist()
        labels = json.loads((prepared / "report.json").read_text())["labels"]
        values = [(row["id"], _gold(row, labels)) for row in rows]
    found = [
        (id_, values[row - 1][1] if row % 3 == dice.randrange(3) else value)
        for row, (id_, value) in enumerate(values)
    ]
    return [{"id": id_, "prediction": value} for id_, value in found]


def _gold(row: dict[str, Any], labels: list[str]) -> Any:
    if "answers" in row:
        return row["answers"][0]["text"]
    return [labels[tag] for tag in row["tags"]] if "tags" in row else labels[row["label"]]


# ---- the choice


def test_the_best_recipe_on_dev_and_its_best_seed(session: Session, tmp_path: Path) -> None:
    chosen, _ = submit(session, tmp_path / "out", Wish({}), "xtreme", partial=True)
    assert {cell.target for cell in chosen} == set(STUDY["targets"])
    assert {(cell.recipe, cell.seed) for cell in chosen} == {("mnli", 2)}
    assert {cell.target: cell.dev for cell in chosen}["xnli"] == 90
    written = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert [cell["predictions"] for cell in written["chosen"]] == [c.predictions for c in chosen]


def test_named_recipes_and_seeds(session: Session, tmp_path: Path) -> None:
    wish = Wish({"*": "mnli", "tatoeba": "none", "xnli": "none"}, seed=2)
    cells, _ = submit(session, tmp_path / "o", wish, "xtreme", partial=True)
    chosen = {cell.target: cell for cell in cells}
    assert (chosen["xnli"].recipe, chosen["xnli"].seed) == ("none", 2)
    # Nothing random happens before retrieval without intermediate training: one seed is all.
    assert (chosen["tatoeba"].recipe, chosen["tatoeba"].seed) == ("none", 1)
    assert (chosen["panx"].recipe, chosen["panx"].seed) == ("mnli", 2)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish({"xnil": "mnli"}), r"--recipe: target: is not in the study; .* mean 'xnli'"),
        (Wish({"*": "mnil"}), r"--recipe: is not in the study; .* mean 'mnli'"),
        (Wish({}, seed=3), r"--seed: is not in the study; expected one of 1, 2; found 3"),
        (Wish({}, model="mbert"), r"--model: is not in the study"),
    ],
)
def test_a_wish_that_the_study_does_not_know(
    session: Session, tmp_path: Path, wish: Wish, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        submit(session, tmp_path / "out", wish, "xtreme", partial=True)
    assert not (tmp_path / "out").exists()


def test_without_dev_data_a_recipe_is_to_be_named(session: Session, tmp_path: Path) -> None:
    fixed = STUDY | {"evaluation": {"retrieval": {"layer": 8}}}
    other = Session.of_config(fixed, "small.yaml", tmp_path, main=False)
    with pytest.raises(InputError, match=r"tatoeba: has no dev data.*--recipe tatoeba=RECIPE"):
        submit(other, tmp_path / "out", Wish({"bucc2018": "none"}), "xtreme", partial=True)
    submit(
        other,
        tmp_path / "out",
        Wish({"bucc2018": "none", "tatoeba": "mnli"}),
        "xtreme",
        partial=True,
    )


def test_what_is_not_finished_is_named(session: Session, tmp_path: Path) -> None:
    (session.results / "predictions/xlm-roberta-base/mnli/seed-2/panx/manifest.json").unlink()
    with pytest.raises(InputError, match=r"mnli/seed-2/panx: the run is not finished"):
        submit(session, tmp_path / "out", Wish({}), "xtreme", partial=True)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="is there already"):
        submit(session, tmp_path / "out", Wish({}), "xtreme", partial=True)
    with pytest.raises(
        InputError, match=r"targets that are not in the study: udpos, tydiqa\. .*par"
    ):
        submit(session, tmp_path / "other", Wish({}), "xtreme")


# ---- the files


def test_the_english_side_of_tatoeba_is_sorted_as_xtreme_sorts_it(shared: Path) -> None:
    folder = shared / "golden" / "mining" / "tatoeba_order"
    cases = sorted(folder.glob("gold.*.txt"))
    assert cases
    for case in cases:
        text = (folder / f"input.{case.name.split('.')[1]}-en.en").read_text(encoding="utf-8")
        lines = text.removesuffix("\n").split("\n")
        assert sorted_lines(lines) == [int(line) for line in case.read_text().split()]


def test_the_forms_of_the_files(session: Session, tmp_path: Path) -> None:
    out = tmp_path / "out"
    submit(session, out, Wish({}), "xtreme", partial=True)
    for kind in ("predictions", "labels"):
        folder = out / kind
        assert len((folder / "xnli" / "test-de.tsv").read_text().splitlines()) == ROWS
        tags = (folder / "panx" / "test-en.tsv").read_text()
        assert [len(part.split()) for part in tags.split("\n\n")] == [3] * ROWS
        assert all(line.isdigit() for line in (folder / "tatoeba/test-de.tsv").read_text().split())
        pair = (folder / "bucc2018" / "test-de.tsv").read_text().splitlines()[0].split("\t")
        assert [name[:2] for name in pair] == ["de", "en"]
    predicted = json.loads((out / "predictions/xquad/test-de.json").read_text())
    assert list(predicted) == [f"de-{number}" for number in range(ROWS)]
    gold = json.loads((out / "labels/mlqa/test-en.json").read_text())
    assert len(gold["data"][0]["paragraphs"]) == ROWS


def test_the_round_trip_gives_the_runs_own_scores(session: Session, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen, report = submit(session, out, Wish({}), "xtreme", partial=True)
    for cell in chosen:
        scores = session.results / cell.predictions.replace("predictions", "scores", 1)
        for row in json.loads((scores / "scores.json").read_text())["rows"]:
            found = report.values[cell.target][row["language"]][row["metric"]]
            assert found == pytest.approx(row["value"], abs=1e-9)
    again = score_tree(out / "predictions", out / "labels", partial=True)
    assert again.values == report.values


def test_a_score_that_the_files_do_not_give_back_is_an_error(
    session: Session, tmp_path: Path
) -> None:
    folder = session.results / "scores/xlm-roberta-base/mnli/seed-2/xnli"
    content = json.loads((folder / "scores.json").read_text())
    content["rows"][0]["value"] += 1
    spec = session.plan.jobs["scores/xlm-roberta-base/mnli/seed-2/xnli"].spec
    shutil.rmtree(folder)
    with publishing(Path("scores/xlm-roberta-base/mnli/seed-2/xnli"), spec) as draft:
        (draft.folder / "scores.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="the written files have another score than the run"):
        submit(session, tmp_path / "out", Wish({}), "xtreme", partial=True)
    assert not (tmp_path / "out").exists()
