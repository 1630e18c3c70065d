"""Recipes with `translate`: their jobs, what they share, and what is refused before any of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hub_samples import write_files
from xstilts.errors import InputError
from xstilts.plan import ANALYSIS, REPORT, TABLES, Plan
from xstilts.registry import load_registry
from xstilts.runtime import runtime
from xstilts.session import MIRROR_VARIABLE, Session

TINY = {"hub": "owner/tiny-mt", "source": "qaa", "licence": "CC0-1.0"}
ROWS = {
    "translators": {
        "tiny-qaa-qab": {**TINY, "title": "Tiny", "target": "qab"},
        "tiny-qaa-qac": {**TINY, "title": "Tiny 2", "target": "qac", "prefix": ">>qac<<"},
    },
    "tasks": {
        "two_nli": {"title": "Two", "datasets": ["toy_nli", "toy_nli_2"], "language": "qaa"},
    },
    "datasets": {
        "toy_nli_2": {
            "title": "Toy NLI 2",
            "format": "sequence_classification",
            "source": {"toyworld": "nli"},
            "languages": ["qaa", "qab"],
            "splits": {"train": "train", "dev": "dev", "test": "test"},
            "fields": {"text_a": "text_a", "text_b": "text_b", "label": "label"},
            "labels": ["entailment", "neutral", "contradiction"],
            "licence": "CC0-1.0",
        }
    },
}
NLI = "checkpoints/toy-xlmr/{}/seed-{}/intermediate"


def session(root: Path, main: bool = False, **changes: Any) -> Session:
    (root / "rows.yaml").write_text(json.dumps(ROWS))
    study: dict[str, Any] = {
        "study": "s",
        "models": ["toy-xlmr", "toy-bert"],
        "registry": "rows.yaml",
        "recipes": {
            "none": None,
            "toy_nli": None,
            "nli_qab": {"tasks": "toy_nli", "translate": "tiny-qaa-qab"},
            "nli_both": {"tasks": "two_nli", "translate": ["qaa", "tiny-qaa-qab", "tiny-qaa-qac"]},
            "choice_qab": {"tasks": ["toy_choice", "toy_nli"], "translate": "tiny-qaa-qab"},
        },
        "targets": ["toy_nli"],
        "languages": ["qaa"],
        "source_language": "qaa",
        "seeds": [1, 2],
        "pretraining": {"corpus": "toy_corpus"},
        "toyworld": {
            "sizes": {
                kind: {"train": 9, "dev": 9, "test": 9} for kind in ("corpus", "nli", "choice")
            }
        },
    }
    return Session.of_config(study | changes, "s.yaml", root, main)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return session(tmp_path).plan


def read(plan: Plan, recipe: str, seed: int = 1) -> list[list[str]]:
    """Tokens of each task of a recipe, by data set and language or translator."""
    spec = plan.jobs[NLI.format(recipe, seed)].spec
    assert set(spec["inputs"]["tokens"]) == {x for task in spec["tasks"] for x in task["tokens"]}
    return [[path.split("/", 3)[3] for path in task["tokens"]] for task in spec["tasks"]]


def test_a_translation_takes_the_place_of_the_original(plan: Plan) -> None:
    assert read(plan, "toy_nli") == [["toy_nli/qaa"]]
    assert read(plan, "nli_qab") == [["toy_nli/tiny-qaa-qab"]]
    both = [
        f"{d}/{x}"
        for x in ("qaa", "tiny-qaa-qab", "tiny-qaa-qac")
        for d in ("toy_nli", "toy_nli_2")
    ]
    assert read(plan, "nli_both") == [both]
    assert read(plan, "choice_qab") == [["toy_choice/tiny-qaa-qab"], ["toy_nli/tiny-qaa-qab"]]


def test_one_translation_serves_all_models_recipes_and_seeds(plan: Plan) -> None:
    assert {job.out for job in plan.of("translate")} == {
        "data/translated/toy_nli/tiny-qaa-qab",
        "data/translated/toy_nli/tiny-qaa-qac",
        "data/translated/toy_nli_2/tiny-qaa-qab",
        "data/translated/toy_nli_2/tiny-qaa-qac",
        "data/translated/toy_choice/tiny-qaa-qab",
    }
    outs = {job.out for job in plan.of("fetch_translator")}
    assert outs == {"translators/tiny-qaa-qab", "translators/tiny-qaa-qac"}
    for model in ("toy-xlmr", "toy-bert"):
        job = plan.jobs[f"data/tokens/{model}/toy_nli/tiny-qaa-qab"]
        assert job.spec["inputs"]["prepared"] == "data/translated/toy_nli/tiny-qaa-qab"
        assert job.spec["language"] == "qab"


def test_the_spec_of_a_translation(plan: Plan) -> None:
    spec = dict(plan.jobs["data/translated/toy_nli/tiny-qaa-qac"].spec)
    del spec["fingerprint"]
    assert spec == {
        "stage": "translate",
        "dataset": "toy_nli",
        "translator": {
            "name": "tiny-qaa-qac",
            "source": "qaa",
            "target": "qac",
            "prefix": ">>qac<<",
            "source_code": None,
            "target_code": None,
        },
        "fields": ["text_a", "text_b"],
        "settings": {
            "num_beams": 4,
            "length_penalty": 1.0,
            "renormalize_logits": True,
            "max_new_tokens": 256,
            "max_length_factor": 3.0,
            "max_source_tokens": None,
        },
        "inputs": {
            "prepared": "data/prepared/toy_nli/qaa",
            "translator": "translators/tiny-qaa-qac",
        },
    }
    choice = plan.jobs["data/translated/toy_choice/tiny-qaa-qab"]
    assert choice.spec["fields"] == ["prompt", "choices"]


def test_other_jobs_know_nothing_of_it(tmp_path: Path, plan: Plan) -> None:
    without = session(tmp_path, recipes=["none", "toy_nli"]).plan
    changed = {out for out, job in without.jobs.items() if plan.jobs[out].text != job.text}
    assert changed == {"data/check", TABLES, ANALYSIS, REPORT}


def test_the_check_of_all_data_reads_it(plan: Plan) -> None:
    inputs = plan.jobs["data/check"].spec["inputs"]
    assert "data/tokens/toy-bert/toy_nli/tiny-qaa-qab" in inputs["data"]
    assert "data/translated/toy_nli/tiny-qaa-qab" in inputs["held"]


def test_settings_of_translation_make_it_again(tmp_path: Path, plan: Plan) -> None:
    other = session(tmp_path, translation={"num_beams": 1, "max_source_tokens": 64}).plan
    changed = {out for out, job in plan.jobs.items() if other.jobs[out].text != job.text}
    assert changed == {job.out for job in plan.of("translate")}


def test_wildcards(tmp_path: Path) -> None:
    constraints = session(tmp_path).constraints
    assert re.fullmatch(constraints["translator"], "tiny-qaa-qab")
    assert re.fullmatch(constraints["language"], "tiny-qaa-qab")
    assert re.fullmatch(constraints["language"], "qaa")
    assert not re.fullmatch(constraints["translator"], "qaa")
    assert not re.fullmatch(session(tmp_path, recipes="none").constraints["translator"], "")


# ---- the lock


def test_a_translator_in_a_mirror_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("XSTILTS_RUNTIME", "{}")
    runtime.cache_clear()
    names = ["config.json", "model.safetensors", "source.spm", "vocab.json", "pytorch_model.bin"]
    names += ["generation_config.json", "README.md", "target.spm", "tokenizer_config.json"]
    mirror = tmp_path / "mirror" / "owner" / "tiny-mt"
    write_files(mirror, {name: name.encode() for name in names})
    opened = session(tmp_path, mirror="mirror")
    assert opened._local_and_unlocked()
    opened.lock_data()
    locked = session(tmp_path, mirror="mirror").plan
    known = locked.jobs["translators/tiny-qaa-qac"].spec["lock"]
    assert sorted(known["files"]) == sorted({*names} - {"pytorch_model.bin", "README.md"})
    assert not session(tmp_path, mirror="mirror")._local_and_unlocked()
    (mirror / "model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"tiny-mt \(translator tiny-qaa-qab\).*safetensors.*`revision`"
    ):
        opened.lock_data(refresh=True)


# ---- what is refused


CASES: list[tuple[dict[str, Any], str]] = [
    ({"tasks": "toy_qa", "translate": "tiny-qaa-qab"}, r"'toy_qa' cannot be translated.*question"),
    ({"tasks": ["toy_nli", "toy_pos"], "translate": "tiny-qaa-qab"}, r"'toy_pos'.*found token_cl"),
    ({"tasks": "toy_qa", "translate": "qaa"}, r"'toy_qa' cannot be translated"),
    (
        {"tasks": "toy_nli", "translate": "opus-mt-en-de"},
        r"reads 'en', and task 'toy_nli' is in 'q",
    ),
    ({"tasks": "toy_nli", "translate": "tiny-qaa-qad"}, r"unknown translator.*'tiny-qaa-qa[bc]'"),
    ({"tasks": "toy_nli", "translate": ["qaa", "qab"]}, r"is in 'qaa'.*found qab"),
    ({"tasks": "toy_nli", "translate": ["qaa", "qaa"]}, r"'qaa' stands there twice"),
    ({"mlm": {"corpus": "toy_corpus"}, "translate": "tiny-qaa-qab"}, r"no tasks to translate"),
]


@pytest.mark.parametrize(("recipe", "problem"), CASES)
def test_a_recipe_that_cannot_be_translated(
    tmp_path: Path, recipe: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=rf"s\.yaml: recipes\.bad\.translate: .*{problem}"):
        session(tmp_path, recipes={"bad": recipe})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_beam": 4}, "translation.num_beam: unknown key"),
        ({"num_beams": 0}, "translation.num_beams"),
        ({"max_length_factor": 0.5}, "translation.max_length_factor"),
        ({"max_source_tokens": 2}, "translation.max_source_tokens"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        session(tmp_path, translation=settings)


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("sw", {}, "translators.sw: a language has this name"),
        ("xlm-roberta-large", {}, "translators.xlm-roberta-large: a model has this name"),
        ("a/b", {}, "a name that can be a folder's"),
        ("mine", {"target": "en"}, "source and target are both 'en'"),
        ("mine", {"target": "dee"}, "translators.mine: target: unknown language 'dee'"),
        ("mine", {"source_code": "eng_Latn"}, "source_code and target_code belong together"),
        ("mine", {"hub": "opus"}, "a namespaced Hub id"),
        ("mine", {"revison": "x"}, "Did you mean 'revision'"),
    ],
)
def test_bad_rows(tmp_path: Path, name: str, changes: dict[str, Any], problem: str) -> None:
    row = {"title": "T", "hub": "a/b", "source": "en", "target": "de", "licence": "MIT"} | changes
    path = tmp_path / f"{name.replace('/', '')}.yaml"
    path.write_text(json.dumps({"translators": {name: row}}))
    with pytest.raises(InputError, match=re.escape(problem)):
        load_registry([path])


def test_the_papers_translators_read_english() -> None:
    rows = load_registry().translators
    assert {"opus-mt-en-de", "opus-mt-en-ru", "opus-mt-en-sw"} <= set(rows)
    for name, row in rows.items():
        assert name == f"opus-mt-{row.source}-{row.target}"
        assert row.hub == f"Helsinki-NLP/{name}"
        assert row.revision
