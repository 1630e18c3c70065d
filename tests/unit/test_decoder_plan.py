"""Decoders in the plan: trained and asked in words, adapters, whole weights."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from xstilts.errors import InputError
from xstilts.plan import Plan
from xstilts.session import Session

STUDY: dict[str, Any] = {
    "study": "toy",
    "models": ["toy-llama"],
    "recipes": ["none", "toy_choice"],
    "targets": ["toy_choice", "toy_qa", "toy_retrieval"],
    "languages": ["qaa", "qab"],
    "source_language": "qaa",
    "seeds": [1, 2],
    "toyworld": {
        "sizes": {
            "corpus": {"train": 20},
            "choice": {"train": 20, "dev": 8, "test": 8},
            "nli": {"train": 20, "dev": 8, "test": 8},
            "qa": {"train": 20, "dev": 8, "test": 8},
            "pos": {"train": 20, "dev": 8, "test": 8},
            "parallel": {"test": 8},
        }
    },
    "pretraining": {"corpus": ["toy_corpus"]},
}
LORA = {"default": {"lora": {"rank": 4}}}
ONE = "toy-llama/toy_choice/seed-1"


def plan_of(**changes: Any) -> Plan:
    return Session.of_config(STUDY | changes, "s.yaml", Path(), main=False).plan


def test_what_it_is_trained_on_and_what_it_is_asked_are_apart() -> None:
    jobs = plan_of().jobs
    trained = jobs["data/prompts/toy-llama/toy_choice/qaa"].spec
    asked = jobs["data/questions/toy-llama/toy_choice/qaa"].spec
    assert trained["splits"] == ["train", "dev"]
    assert asked["splits"] == ["test"]
    assert trained["prompt"] == asked["prompt"]
    intermediate = jobs[f"checkpoints/{ONE}/intermediate"].spec
    (task,) = intermediate["tasks"]
    assert (task["head"], task["format"]) == ("causal_lm", "prompted")
    assert task["tokens"] == ["data/prompts/toy-llama/toy_choice/qaa"]
    assert jobs[f"predictions/{ONE}/toy_choice"].spec["inputs"]["tokens"] == [
        "data/questions/toy-llama/toy_choice/qaa",
        "data/questions/toy-llama/toy_choice/qab",
    ]


def test_how_it_is_asked_trains_nothing_again() -> None:
    """Shots and main likelihood decide predictions; what trainings read stays as it is."""
    before = plan_of().jobs
    after = plan_of(prompting={"shots": 3, "main": "pmi", "words": "target"}).jobs
    assert before.keys() == after.keys()
    changed = {out for out in before if before[out].spec != after[out].spec}
    kinds = {before[out].stage for out in changed}
    assert kinds == {"prompts", "evaluate"}
    assert all(out.startswith(("data/questions/", "predictions/")) for out in changed)
    asked = after["data/questions/toy-llama/toy_choice/qab"]
    assert asked.spec["shots"] == {"number": 3, "seed": 1, "words": {}}
    assert "data/prepared/toy_choice/qaa" in asked.inputs
    decode = after[f"predictions/{ONE}/toy_choice"].spec["decode"]
    assert decode == {"kind": "choice", "main": "pmi"}


def test_each_way_of_answering() -> None:
    jobs = plan_of().jobs
    written = jobs[f"predictions/{ONE}/toy_qa"].spec
    assert (written["format"], written["decode"]) == (
        "prompted",
        {"kind": "answer", "max_new_tokens": 32},
    )
    compared = jobs[f"predictions/{ONE}/toy_retrieval"].spec
    assert compared["format"] == "sentence_retrieval"
    assert compared["inputs"]["tokens"] == ["data/tokens/toy-llama/toy_parallel/qab"]
    assert compared["decode"]["layer"] == 1


def test_nothing_random_happens_to_the_model_as_it_is() -> None:
    """Without fine-tuning, one seed is all there is of `none`."""
    plan = plan_of()
    assert not plan.of("finetune")
    scored = {job.out for job in plan.of("score")}
    assert "scores/toy-llama/none/seed-1/toy_choice" in scored
    assert "scores/toy-llama/none/seed-2/toy_choice" not in scored
    assert "scores/toy-llama/toy_choice/seed-2/toy_choice" in scored


def test_adapters_are_merged_before_anything_reads_them() -> None:
    plan = plan_of(training=LORA, prompting={"tuning": "prompt"}, targets=["toy_choice"])
    adapter, merged = f"checkpoints/{ONE}/intermediate", f"merged/{ONE}/intermediate"
    assert plan.jobs[adapter].files == ("adapter_model.safetensors",)
    assert plan.jobs[merged].spec["inputs"] == {
        "adapter": adapter,
        "model": "models/toy-llama/base",
    }
    assert plan.jobs[merged].inputs == [adapter]
    tuned = plan.jobs[f"checkpoints/{ONE}/toy_choice"].spec
    assert tuned["inputs"]["model"] == merged
    evaluated = plan.jobs[f"predictions/{ONE}/toy_choice"].spec
    assert evaluated["inputs"]["checkpoint"] == f"merged/{ONE}/toy_choice"
    trained = {job.out for stage in ("intermediate", "finetune") for job in plan.of(stage)}
    readers = {job.stage for job in plan.jobs.values() if trained & set(job.reads)}
    assert readers == {"merge", "aggregate", "analyse", "report"}  # these three read the accounts


def test_pretraining_never_has_adapters() -> None:
    assert plan_of(training=LORA).jobs["models/toy-llama/base"].spec["settings"]["lora"] is None
    wrong = {"corpus": ["toy_corpus"], "training": LORA["default"]}
    with pytest.raises(InputError, match=r"pretraining.training: adapters of random weights"):
        plan_of(pretraining=wrong)


def test_encoders_have_no_adapters() -> None:
    with pytest.raises(InputError, match=r"'toy-xlmr' is an encoder.*training.models"):
        plan_of(models=["toy-xlmr"], training=LORA)


def test_a_decoder_with_heads_is_read_as_encoders_are() -> None:
    plan = plan_of(prompting={"tuning": "head"}, targets=["toy_choice", "toy_pos"])
    tuned = plan.jobs[f"checkpoints/{ONE}/toy_pos"].spec["tasks"]
    assert [task["format"] for task in tuned] == ["token_classification"]
    # Intermediate training is in words all the same.
    assert plan.jobs[f"checkpoints/{ONE}/intermediate"].spec["tasks"][0]["format"] == "prompted"
    assert not [out for out in plan.jobs if out.startswith("data/questions/")]


@pytest.mark.parametrize(("tuning", "heads"), [("prompt", {}), ("head", {"again": "toy_choice"})])
def test_tasks_one_after_the_other(tmp_path: Path, tuning: str, heads: dict[str, str]) -> None:
    """The second goes on with the first one's head, where it has one."""
    target = {"title": "Two", "train": ["toy_choice", "again"], "dataset": "toy_choice"}
    target |= {"metric": "accuracy", "group": "classification"}
    tasks = {"again": {"title": "Again", "datasets": ["toy_choice"], "language": "qaa"}}
    rows = tmp_path / "rows.yaml"
    rows.write_text(yaml.safe_dump({"tasks": tasks, "targets": {"two": target}}))
    plan = plan_of(registry=[str(rows)], targets=["two"], prompting={"tuning": tuning})
    second = plan.jobs["checkpoints/toy-llama/none/seed-1/toy_choice-then-again"]
    assert second.spec["heads"] == heads


def test_raw_text_is_not_masked() -> None:
    mlm = {"tasks": ["toy_choice"], "mlm": {"corpus": ["toy_corpus"], "share": 0.5}}
    plan = plan_of(recipes={"none": None, "both": mlm})
    assert plan.jobs["models/toy-llama/base"].spec["mlm"]["mask"] is None
    both = plan.jobs["checkpoints/toy-llama/both/seed-1/intermediate"].spec
    assert both["mlm"]["mask"] is None
    assert plan.jobs["data/tokens/toy-llama/toy_corpus/qaa"].spec["format"] == "causal_lm"


def test_encoders_and_decoders_stand_in_one_table() -> None:
    plan = plan_of(models=["toy-xlmr", "toy-llama"], targets=["toy_choice"])
    cells = plan.jobs["tables"].spec["cells"]
    assert {cell["model"] for cell in cells} == {"toy-xlmr", "toy-llama"}
    models = plan.jobs["tables"].spec["models"]
    assert [models[name]["kind"] for name in models] == ["encoder", "decoder"]


def test_tagging_is_not_asked_in_words() -> None:
    with pytest.raises(InputError, match=r"toy_pos: decoders .* prompting.tuning: head"):
        plan_of(targets=["toy_pos"])


def test_words_that_a_prompt_does_not_have(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "prompts:\n  toy_nli:\n    title: t\n    version: 1\n    source: s\n"
        "    datasets: [toy_nli]\n    context: '{{ text_a }}'\n"
        "    choice: {entailment: '{{ words.a }}', neutral: b, contradiction: c}\n"
        "    words: {qaa: {a: x}}\n"
    )
    with pytest.raises(
        InputError, match=r"prompting.words: prompt 'toy_nli' has no words in 'qab'"
    ):
        plan_of(
            targets=["toy_nli"],
            recipes=["none"],
            registry=[str(own)],
            prompting={"words": "target"},
        )


def test_prompts_longer_than_the_model() -> None:
    with pytest.raises(InputError, match=r"encoding.datasets.prompted: max_length is longer"):
        plan_of(encoding={"datasets": {"prompted": {"max_length": 500}}})


def test_written_answers_have_room() -> None:
    jobs = plan_of(prompting={"max_new_tokens": 40}).jobs
    asked = {
        name: jobs[f"data/questions/toy-llama/{name}/qaa"].spec for name in ("toy_qa", "toy_choice")
    }
    assert asked["toy_qa"]["encoding"]["max_length"] == 192 - 40
    assert asked["toy_choice"]["encoding"]["max_length"] == 192
    with pytest.raises(InputError, match=r"prompting.max_new_tokens: leaves less than half"):
        plan_of(prompting={"max_new_tokens": 100})


def test_tables_know_whether_a_decoder_is_tuned() -> None:
    for tuning, is_tuned in (("none", False), ("prompt", True)):
        models = plan_of(prompting={"tuning": tuning}).jobs["tables"].spec["models"]
        assert models["toy-llama"]["tuned"] is is_tuned


def test_a_decoders_first_sub_word_is_no_sentence() -> None:
    with pytest.raises(InputError, match=r"retrieval.pooling: the first sub-word of a decoder"):
        plan_of(evaluation={"retrieval": {"pooling": "cls"}})
