"""The transferability stage: its samples, features and labels, and when it is planned."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.linalg import helmert
from test_logme import direct, moments_of
from test_plan import STUDY, plan_of

from tiny import (
    FORMATS,
    LABELS,
    SPLITS,
    arrays_of,
    meta_of,
    settings_of_process,
    training_spec,
    write_base,
    write_tokens,
    write_world,
)
from xstilts.analysis import transferability
from xstilts.analysis.logme import evidence
from xstilts.artifacts.bundle import make_bundle
from xstilts.artifacts.manifest import read_manifest
from xstilts.data.token_store import TokenStore
from xstilts.errors import InputError
from xstilts.runtime import runtime
from xstilts.training.model import Model, load_backbone
from xstilts.training.stages import fine_tune

BASE, TRAINED = "models/tiny/base", "checkpoints/trained"
OUT = Path("transferability/m/seed-1/nli")
NLI = "sequence_classification"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, tokens of every format, and a checkpoint trained on classification."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings_of_process(patch)
        write_world()
        write_tokens("tokens/answer_retrieval", "answer_retrieval")
        more = {"max_steps": 60, "batch_size": 16, "micro_batch_tokens": 10**4}
        fine_tune(training_spec({NLI: NLI}, **more, select="last"), Path(TRAINED))
    runtime.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def results(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("checkpoints", "tokens", "models"):
        (tmp_path / name).symlink_to(world / name)
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    yield
    runtime.cache_clear()


def data(name: str, format_name: str | None = None, *folders: str) -> dict[str, Any]:
    tokens = list(folders) or [f"tokens/{name}"]
    return {"name": name, "format": format_name or name, "tokens": tokens}


def spec_of(
    targets: list[dict[str, Any]],
    tasks: list[dict[str, Any]] | None = None,
    checkpoint: str = TRAINED,
    model: str | None = BASE,
    **changes: Any,
) -> dict[str, Any]:
    inputs: dict[str, Any] = {"checkpoint": checkpoint}
    inputs |= {"model": model} if model else {}
    for role, entries in (("targets", targets), ("tasks", tasks or [])):
        inputs[role] = [path for entry in entries for path in entry["tokens"]]
    spec = {"stage": "transferability", "examples": 1000, "seed": 1, "targets": targets}
    spec |= {"tasks": tasks or [], "sampling": {"exponent": 1.0, "cap": None}, "inputs": inputs}
    return spec | changes


def run(spec: dict[str, Any], out: Path = OUT) -> dict[str, Any]:
    transferability.run(spec, out)
    return json.loads((out / "transferability.json").read_text())


def states(store: TokenStore, folder: str = TRAINED) -> list[np.ndarray]:
    """Last hidden states of each sequence by itself, without padding: [length, hidden] each."""
    model = Model(load_backbone(Path(folder), language_model=False), {}).eval()
    found = []
    with torch.inference_mode():
        for row in range(store.sequences):
            batch = {k: torch.from_numpy(v) for k, v in store.padded(np.array([row])).items()}
            found.append(model.encode(batch)[0].double().numpy())
    return found


def expected(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean log density per row and column, directly, at the precisions that were found."""
    values = [
        direct(features, labels[:, column], entry.alpha, entry.beta)
        for column, entry in enumerate(evidence(moments_of(features, labels)))
        if entry is not None
    ]
    return float(np.mean(values)) / len(features)


def store_of(name: str) -> TokenStore:
    return TokenStore(arrays_of(name, SPLITS["train"], 0), meta_of(name))


def by_hand(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a format, sequence by sequence."""
    store = store_of(name)
    arrays, hidden = store.arrays, states(store)
    offsets = arrays["offsets"]
    if name == NLI:
        return np.stack([h.mean(0) for h in hidden]), np.eye(3)[arrays["labels"]]
    if name == "token_classification":
        flat, labels = np.concatenate(hidden), arrays["labels"]
        return flat[labels >= 0], np.eye(3)[labels[labels >= 0]]
    if name == "multiple_choice":
        pooled, features, right = np.stack([h.mean(0) for h in hidden]), [], []
        places = arrays["choice_offsets"]
        for number, (begin, end) in enumerate(itertools.pairwise(places)):
            contrasts = helmert(end - begin)  # what a softmax over the choices sees
            features.append(contrasts @ pooled[begin:end])
            right.append(contrasts @ np.eye(end - begin)[arrays["labels"][number]])
        return np.concatenate(features), np.concatenate(right)[:, None]
    features, labels = [], []
    for n, h in enumerate(hidden):
        for place in range(len(h)):
            if place == 0 or arrays["char_start"][offsets[n] + place] >= 0:
                features.append(h[place])
                labels.append([place == arrays["start"][n], place == arrays["end"][n]])
    return np.stack(features), np.array(labels, dtype=float)


@pytest.mark.parametrize("name", FORMATS)
def test_log_evidence_of_every_format_by_hand(name: str) -> None:
    found = run(spec_of([data(name)], model=None))["targets"][name]
    features, labels = by_hand(name)
    assert found["rows"] == len(features)
    assert found["examples"] == SPLITS["train"]
    assert found["logme"] == pytest.approx(expected(features, labels), abs=1e-4)


def test_the_trained_checkpoint_says_more_of_its_task_than_the_base() -> None:
    trained = run(spec_of([data(NLI)], model=None))["targets"][NLI]["logme"]
    base = run(spec_of([data(NLI)], checkpoint=BASE), OUT.with_name("none"))
    assert trained > base["targets"][NLI]["logme"] + 0.05


def test_pairs_have_no_labels() -> None:
    found = run(spec_of([data("answer_retrieval")], model=None))["targets"]["answer_retrieval"]
    assert found["logme"] is None
    assert "pairs" in found["why"]


def test_one_label_only() -> None:
    write_tokens("same/nli", NLI, labels=["a", "b", "c"])
    path = Path("same/nli/train.safetensors")
    arrays = load_file(path)
    shutil.rmtree("same")
    from safetensors.numpy import save_file

    from xstilts.artifacts.publish import publishing

    arrays["labels"][:] = 1
    meta = {"format": NLI, "labels": LABELS[NLI], "vocab_size": 40, "pad_id": 1, "mask_id": 39}
    meta |= {"cls_id": 0, "sep_id": 2, "splits": {}}
    with publishing(Path("same/nli"), {"stage": "tokens", "inputs": {}}) as draft:
        save_file(arrays, draft.folder / "train.safetensors")
        (draft.folder / "meta.json").write_text(json.dumps(meta))
    found = run(spec_of([data("same", NLI, "same/nli")], model=None))["targets"]["same"]
    assert (found["logme"], found["why"]) == (
        None,
        "all examples of the sample have the same label",
    )


def test_embeddings_are_means_by_the_base_model() -> None:
    tasks = [data(NLI), data("multiple_choice")]
    found = run(spec_of([data(NLI)], tasks))
    vectors = load_file(OUT / "embeddings.safetensors")
    assert set(vectors) == {f"task/{NLI}", "task/multiple_choice"}
    rows = np.stack([h.mean(0) for h in states(store_of("multiple_choice"), BASE)])
    assert vectors["task/multiple_choice"] == pytest.approx(rows.mean(0), abs=2e-5)
    assert found["tasks"] == [
        {"name": NLI, "examples": 30, "share": 0.5},
        {"name": "multiple_choice", "examples": 30, "share": 0.5},
    ]
    run(spec_of([data(NLI)], checkpoint=BASE), OUT.with_name("none"))
    own = load_file(OUT.with_name("none") / "embeddings.safetensors")
    assert set(own) == {f"target/{NLI}"}
    assert own[f"target/{NLI}"] == pytest.approx(vectors[f"task/{NLI}"])


def test_shares_and_examples_are_those_of_the_mixture() -> None:
    write_tokens("more", NLI, splits={"train": 90})
    tasks = [data(NLI), data("more", NLI, "more")]
    capped = {"exponent": 1.0, "cap": 60}
    assert run(spec_of([data(NLI)], tasks, sampling=capped))["tasks"] == [
        {"name": NLI, "examples": 30, "share": round(1 / 3, 6)},
        {"name": "more", "examples": 60, "share": round(2 / 3, 6)},
    ]


def test_later_seeds_have_no_embeddings() -> None:
    found = run(spec_of([data(NLI)], model=None))
    assert found["tasks"] == []
    assert set(read_manifest(OUT).files) == {"transferability.json"}


def test_a_sample_is_the_same_for_all_checkpoints_and_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    targets = [data(name) for name in FORMATS]
    first = run(spec_of(targets, examples=7), OUT)
    assert all(entry["examples"] == 7 for entry in first["targets"].values())
    settings_of_process(monkeypatch, '{"eval_batch_tokens": 20}')
    assert run(spec_of(targets, examples=7), OUT) == first
    other = run(spec_of(targets, examples=7, seed=2), OUT)
    assert other["targets"][NLI]["logme"] != first["targets"][NLI]["logme"]


def test_same_bytes_twice_and_in_a_bundle() -> None:
    spec = spec_of([data(NLI)], [data(NLI)])
    run(spec)
    before = read_manifest(OUT).files
    shutil.rmtree(OUT)
    members = {OUT.as_posix(): spec}
    make_bundle("transferability", members, Path("bundles/t/m/seed-1"), transferability.run)
    assert read_manifest(OUT).files == before


def test_tokens_of_another_tokenizer() -> None:
    write_base("models/other/base")
    write_tokens("wide", NLI, vocab_size=99)
    with pytest.raises(InputError, match="another tokenizer"):
        run(spec_of([data("wide", NLI, "wide")], model=None))


# ---- the plan

TOY = {
    "recipes": ["none", "toy_nli", "toy_choice"],
    "targets": ["toy_nli", "toy_paraphrase", "toy_retrieval"],
    "seeds": [1, 2],
}
SIZES = {kind: {"train": 9, "dev": 9, "test": 9} for kind in ("choice", "paraphrase", "qa")}


def toy(**changes: Any) -> Any:
    sizes = {"sizes": STUDY["toyworld"]["sizes"] | SIZES}
    return plan_of(**({"toyworld": sizes} | TOY | changes))


def specs(**changes: Any) -> dict[str, Any]:
    return {job.out: job.spec for job in toy(**changes).of("transferability")}


def test_one_artifact_per_recipe_and_seed_and_one_bundle_per_seed() -> None:
    plan = toy()
    found = {out: [job.out for job in one.members] for out, one in plan.bundles.items()}
    folder = "transferability/toy-xlmr"
    assert found[f"bundles/{folder}/seed-1"] == [
        f"{folder}/seed-1/{recipe}" for recipe in TOY["recipes"]
    ]
    # Nothing random has happened to the base model.
    assert found[f"bundles/{folder}/seed-2"] == [
        f"{folder}/seed-2/toy_nli",
        f"{folder}/seed-2/toy_choice",
    ]
    first = plan.jobs[f"{folder}/seed-1/toy_nli"]
    assert [entry["name"] for entry in first.spec["targets"]] == ["toy_nli", "toy_paraphrase"]
    assert [entry["name"] for entry in first.spec["tasks"]] == ["toy_nli"]
    assert "model" in first.spec["inputs"]
    later = plan.jobs[f"{folder}/seed-2/toy_nli"].spec
    assert "model" not in later["inputs"]
    assert later["tasks"] == []
    assert f"bundles/{folder}/seed-1" in plan.inputs("analysis")


def test_what_changes_what() -> None:
    before = specs()
    assert specs(languages=["qaa", "qab", "qac"]) == before
    more = specs(recipes=[*TOY["recipes"], "toy_paraphrase"])
    assert {out: more[out] for out in before} == before
    assert len(more) == len(before) + 2
    assert specs(targets=["toy_nli", "toy_retrieval"]) != before


def test_nothing_to_predict_is_not_planned() -> None:
    assert specs(transferability=None) == {}
    assert specs(recipes=["none"]) == {}
    assert specs(targets=["toy_retrieval"], languages="all") == {}
    assert "transferability" not in toy(transferability=None).jobs["analysis"].spec["inputs"]
