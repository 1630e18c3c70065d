"""Evaluation: predictions of every format, kept between runs, whatever the batch size."""

import json
import shutil
from pathlib import Path

import pytest

from tiny import (
    FORMATS,
    SPLITS,
    settings_of_process,
    training_spec,
    write_base,
    write_prepared,
    write_tokens,
    write_world,
)
from xstilts.artifacts.bundle import make_bundle
from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import read_store
from xstilts.errors import InputError
from xstilts.evaluation import evaluate, sweep
from xstilts.formats.sentence_retrieval.vectors import embed
from xstilts.runtime import runtime
from xstilts.training.model import Model, load_backbone
from xstilts.training.stages import fine_tune

OUT = Path("predictions/m/none/seed-1/target")
NLI = "sequence_classification"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A checkpoint of every format, and test data in three languages."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings_of_process(patch)
        write_world()
        for name in FORMATS:
            more = {"max_steps": 40, "batch_size": 16, "micro_batch_tokens": 10**4}
            spec = training_spec({name: name}, **more, select="last", evaluate_every=40)
            fine_tune(spec, Path("checkpoints", name))
            for seed, code in enumerate(("aa", "bb", "cc"), 5):
                write_tokens(f"test/{name}/{code}", name, seed, splits={"test": SPLITS["test"]})
                write_prepared(f"prepared/{name}/{code}", name)
    runtime.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def results(world, tmp_path, monkeypatch):
    for name in ("checkpoints", "test", "prepared", "models"):
        (tmp_path / name).symlink_to(world / name)
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    yield
    runtime.cache_clear()


def spec_of(name: str, *languages: str, **changes) -> dict:
    spec = {
        "stage": "evaluate",
        "fingerprint": "0",
        "target": "target",
        "format": name,
        "metric": "accuracy",
        "head": name,
        "languages": list(languages),
        "decode": {"n_best": 20, "max_answer_length": 30},
        "inputs": {
            "checkpoint": f"checkpoints/{name}",
            "tokens": [f"test/{name}/{code}" for code in languages],
            "prepared": [f"prepared/{name}/{code}" for code in languages],
        },
    }
    return spec | changes


def predicted(spec: dict, out: Path = OUT) -> int:
    evaluate.run(spec, out)
    return json.loads((out / "provenance.json").read_text())["predicted"]


def lines(code: str, out: Path = OUT) -> list[dict]:
    return [json.loads(line) for line in (out / f"{code}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FORMATS)
def test_one_line_an_example_in_order(name):
    assert predicted(spec_of(name, "aa", "bb")) == 2
    examples = 6 if name == "question_answering" else 12
    for code in ("aa", "bb"):
        found = lines(code)
        assert [line["id"] for line in found] == [f"test-{n}" for n in range(examples)]
        for line in found:
            kinds = {"multiple_choice": int, "token_classification": list}
            assert isinstance(line["prediction"], kinds.get(name, str))
    if name == "question_answering":
        assert all(line["prediction"] in "今天天氣很好。明天下雨" for line in found)
    assert set(read_manifest(OUT).files) == {"aa.jsonl", "bb.jsonl"}


@pytest.mark.parametrize("name", FORMATS)
def test_the_batch_size_changes_no_prediction(name, monkeypatch):
    files = []
    for number, budget in enumerate((1, 37, 100, 10**6)):
        settings_of_process(monkeypatch, json.dumps({"eval_batch_tokens": budget}))
        evaluate.run(spec_of(name, "aa", "bb", "cc"), Path(f"out-{number}"))
        files.append(read_manifest(Path(f"out-{number}")).files)
    assert files[1:] == files[:1] * 3
    everything = [str(line["prediction"]) for line in lines("aa", Path("out-0"))]
    assert len(set(everything)) > 1


def test_a_member_of_a_bundle_depends_on_none_before_it():
    """Behind others in one process, in any order, it has the bytes it has alone."""
    specs = {f"predictions/{name}": spec_of(name, "aa", "bb") for name in FORMATS}
    for name, spec in specs.items():
        evaluate.run(spec, Path("alone", name))
    alone = {name: read_manifest(Path("alone", name)).files for name in specs}
    for order in (list(specs), list(specs)[::-1]):
        for folder in ("predictions", "state"):
            shutil.rmtree(folder, ignore_errors=True)
        make_bundle("evaluate", {name: specs[name] for name in order}, OUT, evaluate.run)
        assert {name: read_manifest(Path(name)).files for name in specs} == alone


def test_predictions_are_those_of_the_dev_score():
    """The evaluator and the training loop agree on what is right."""
    import numpy as np
    import torch

    from xstilts.formats.head import trained_format
    from xstilts.training.model import load_head

    evaluate.run(spec_of(NLI, "aa"), OUT)
    store = read_store(Path(f"test/{NLI}/aa"), "test")
    backbone = load_backbone(Path(f"checkpoints/{NLI}"), language_model=False)
    head, (_, labels) = load_head(Path(f"checkpoints/{NLI}"), NLI, backbone.config, 0.0)
    model, format_ = Model(backbone, {NLI: head}).eval(), trained_format(NLI)
    arrays = format_.collate(store, np.arange(12), np.random.default_rng(0))
    batch = {key: torch.from_numpy(value) for key, value in arrays.items()}
    with torch.inference_mode():
        right, total = format_.dev_sums(model(batch, NLI), batch, labels).tolist()
    gold = [labels[index] for index in store.arrays["labels"]]
    found = [line["prediction"] for line in lines("aa")]
    assert total == 12
    assert sum(a == b for a, b in zip(gold, found, strict=True)) == right


def test_a_new_language_predicts_only_itself():
    assert predicted(spec_of(NLI, "aa")) == 1
    before = (OUT / "aa.jsonl").read_bytes()
    assert predicted(spec_of(NLI, "bb", "aa", "cc")) == 2
    assert (OUT / "aa.jsonl").read_bytes() == before
    evaluate.run(spec_of(NLI, "bb", "aa", "cc"), Path("elsewhere"))
    assert read_manifest(Path("elsewhere")).files == read_manifest(OUT).files
    assert predicted(spec_of(NLI, "aa", "cc")) == 0


def test_nothing_is_loaded_when_all_is_kept(monkeypatch):
    evaluate.run(spec_of(NLI, "aa"), OUT)
    monkeypatch.setattr(evaluate, "load_backbone", None)
    assert predicted(spec_of(NLI, "aa")) == 0


@pytest.mark.parametrize("change", ["decode", "head", "fingerprint"])
def test_other_settings_predict_again(change):
    evaluate.run(spec_of(NLI, "aa"), OUT)
    spec = spec_of(NLI, "aa")
    if change == "head":
        Path("second").symlink_to(f"checkpoints/{NLI}")
        fine_tune_second()
        spec["inputs"]["checkpoint"] = "checkpoint-2"
    else:
        spec[change] = {"n_best": 3} if change == "decode" else "1"
    assert predicted(spec) == 1
    assert predicted(spec) == 0


def fine_tune_second() -> None:
    """The same files under another manifest: the checkpoint was made from something else."""
    with publishing(Path("checkpoint-2"), {"stage": "finetune", "other": 1}) as draft:
        for path in Path(f"checkpoints/{NLI}").iterdir():
            if path.name not in ("manifest.json", "provenance.json"):
                (draft.folder / path.name).write_bytes(path.read_bytes())


def test_other_tokens_of_one_language_predict_only_it_again():
    for code, seed in (("aa", 5), ("bb", 6)):
        write_tokens(f"own/{code}", NLI, seed, splits={"test": 12})
    spec = spec_of(NLI, "aa", "bb")
    spec["inputs"]["tokens"] = ["own/aa", "own/bb"]
    assert predicted(spec) == 2
    write_tokens("own/bb", NLI, 9, splits={"test": 12})
    assert predicted(spec) == 1
    assert predicted(spec) == 0


@pytest.mark.parametrize("suffix", ["jsonl", "sha256"])
@pytest.mark.parametrize("damage", ["cut", "edited", "lost"])
def test_a_damaged_kept_file_is_predicted_again(suffix, damage):
    evaluate.run(spec_of(NLI, "aa"), OUT)
    before = (OUT / "aa.jsonl").read_bytes()
    (kept,) = Path("state", OUT).glob(f"aa-*.{suffix}")
    content = kept.read_bytes()
    kept.unlink()
    if damage != "lost":
        kept.write_bytes(content[:-1] if damage == "cut" else content.replace(b"e", b"a", 1) + b" ")
    assert predicted(spec_of(NLI, "aa")) == 1
    assert (OUT / "aa.jsonl").read_bytes() == before
    assert predicted(spec_of(NLI, "aa")) == 0


def test_what_belongs_to_other_checkpoints_is_forgotten():
    evaluate.run(spec_of(NLI, "aa", "bb"), OUT)
    evaluate.run(spec_of(NLI, "aa", fingerprint="1"), OUT)
    kept = [path.name[:3] for path in Path("state", OUT).iterdir()]
    assert kept == ["aa-", "aa-"]


def test_an_interrupted_evaluation_goes_on(monkeypatch):
    predict = evaluate._Predictor.predict

    def failing(self, index):
        if index == 1:
            raise KeyboardInterrupt
        return predict(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate._Predictor, "predict", failing)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(spec_of(NLI, "aa", "bb"), OUT)
    assert not OUT.exists()
    assert predicted(spec_of(NLI, "aa", "bb")) == 1


def test_labels_of_the_head_and_not_of_the_test_set_name_the_classes():
    """The same classes in another order: the head's outputs keep their meaning."""
    evaluate.run(spec_of(NLI, "aa"), OUT)
    write_tokens("own/aa", NLI, 5, splits={"test": 12}, labels=["perhaps", "no", "yes"])
    spec = spec_of(NLI, "aa")
    spec["inputs"]["tokens"] = ["own/aa"]
    evaluate.run(spec, Path("other"))
    assert lines("aa", Path("other")) == lines("aa")
    assert len({line["prediction"] for line in lines("aa")} & {"yes", "perhaps"}) > 0


def test_a_head_with_labels_that_the_test_set_has_not():
    write_tokens("own/aa", NLI, 5, splits={"test": 12}, labels=["yes", "no", "never"])
    spec = spec_of(NLI, "aa")
    spec["inputs"]["tokens"] = ["own/aa"]
    with pytest.raises(InputError, match=r"expected .*yes, no, perhaps; found .*yes, no, never"):
        evaluate.run(spec, OUT)


def test_a_wrong_head_says_which_there_are():
    with pytest.raises(InputError, match=f"no head 'toy_nli'; found {NLI}"):
        evaluate.run(spec_of(NLI, "aa", head="toy_nli"), OUT)
    assert not OUT.exists()


def test_damaged_tokens_stop_it():
    write_tokens("own/aa", NLI, 5, splits={"test": 12})
    path = Path("own/aa/test.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    spec = spec_of(NLI, "aa")
    spec["inputs"]["tokens"] = ["own/aa"]
    with pytest.raises(InputError, match=r"test\.safetensors: has another size"):
        evaluate.run(spec, OUT)


# ---- retrieval


def retrieval_spec(layer: int | str = 1, pooling: str = "mean") -> dict:
    import pyarrow as pa
    import pyarrow.parquet as pq

    splits = {f"{split}.{side}": 9 for split in ("dev", "test") for side in ("source", "target")}
    write_tokens("own/retrieval", "masked_lm", 5, splits=splits)
    with publishing(Path("own/sentences"), {"stage": "prepare"}) as draft:
        for split in ("dev", "test"):
            names = {}
            for side, letter in (("source", "f"), ("target", "e")):
                ids = names[f"{side}_id"] = [f"{letter}{n}" for n in range(9)]
                table = pa.table({"id": ids, "text": [f"text {name}" for name in ids]})
                pq.write_table(table, draft.folder / f"{split}.{side}.parquet")
            pq.write_table(pa.table(names), draft.folder / f"{split}.gold.parquet")
    return {
        "stage": "evaluate",
        "target": "tatoeba",
        "format": "sentence_retrieval",
        "metric": "accuracy",
        "head": None,
        "languages": ["aa"],
        "decode": {"layer": layer, "pooling": pooling},
        "inputs": {
            "checkpoint": "models/tiny/base",
            "tokens": ["own/retrieval"],
            "prepared": ["own/sentences"],
        },
    }


def test_english_sentences_are_the_queries():
    """R32, R33: for each English sentence the foreign one of the highest cosine."""
    import numpy as np

    spec = retrieval_spec()
    evaluate.run(spec, OUT)
    model = Model(load_backbone(Path("models/tiny/base"), language_model=False), {}).eval()
    vectors = {
        side: embed(
            model, read_store(Path("own/retrieval"), f"test.{side}"), range(3), "mean", "cpu"
        )
        for side in ("source", "target")
    }
    unit = {side: v / np.linalg.norm(v, axis=2, keepdims=True) for side, v in vectors.items()}
    best = np.einsum("leh,lfh->lef", unit["target"], unit["source"]).argmax(2)
    assert lines("aa") == [
        {
            "id": f"e{query}",
            "prediction": f"f{best[1, query]}",
            "layers": [f"f{row}" for row in best[:, query]],
        }
        for query in range(9)
    ]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_sweep_mines_dev_with_every_layer_and_evaluation_takes_the_best(pooling):
    spec = retrieval_spec("dev", pooling) | {"metric": "bucc_f1"}
    inputs = {name: spec["inputs"][name] for name in ("checkpoint", "tokens", "prepared")}
    own = {"stage": "sweep", "target": "bucc2018", "languages": ["aa"], "pooling": pooling}
    sweep.run(own | {"inputs": inputs}, Path("layers/none/seed-1"))
    found = json.loads(Path("layers/none/seed-1/layers.json").read_text())
    scores = [row["f1"] for row in found["rows"]]
    assert [row["layer"] for row in found["rows"]] == [0, 1, 2]
    assert found["layer"] == scores.index(max(scores))
    assert not list(Path("state").glob("sweep-*"))

    def mined_with(layer: int | str) -> list:
        shutil.rmtree(OUT, ignore_errors=True)
        spec["decode"] = {"layer": layer, "pooling": pooling}
        evaluate.run(spec, OUT)
        return lines("aa")

    spec["inputs"]["layer"] = "layers/none/seed-1"
    chosen = mined_with("dev")
    assert chosen == mined_with(found["layer"])
    # Dev's threshold is carried to test.
    threshold = found["rows"][found["layer"]]["threshold"]
    assert all(line["score"] >= threshold for line in chosen)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_vectors_are_those_of_one_sentence_alone(layer, pooling, monkeypatch):
    import numpy as np
    import torch

    retrieval_spec()
    settings_of_process(monkeypatch, '{"eval_batch_tokens": 40}')
    model = Model(load_backbone(Path("models/tiny/base"), language_model=False), {}).eval()
    store = read_store(Path("own/retrieval"), "test.source")
    with torch.inference_mode():
        (found,) = embed(model, store, [layer], pooling, torch.device("cpu"))
        for row in range(store.sequences):
            ids = torch.from_numpy(store.padded(np.array([row]))["input_ids"])
            states = model.encoder(input_ids=ids, output_hidden_states=True).hidden_states[layer][0]
            wanted = states.mean(0) if pooling == "mean" else states[0]
            np.testing.assert_allclose(found[row], wanted.numpy(), atol=1e-5)


def test_a_base_model_of_bert_too():
    write_base("models-bert/base", "bert")
    spec = retrieval_spec()
    spec["inputs"]["checkpoint"] = "models-bert/base"
    assert predicted(spec) == 1
