"""What decoders cost: jobs, memory by way of training, rates, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from xstilts.cli import main
from xstilts.cluster.costs import costs_of, lines_of, models_of, task_of
from xstilts.cluster.memory import GIB, check_fit, uses
from xstilts.cluster.needs import model_of, needs
from xstilts.cluster.rates import Calibration, Measured, Rates, train_name, way_of
from xstilts.cluster.settings import Cluster, read_cluster
from xstilts.cluster.sizes import adapter_parameters, size_of
from xstilts.config import load_study
from xstilts.data.lock import Lock
from xstilts.errors import InputError
from xstilts.plan import Plan, make_plan
from xstilts.registry import load_registry

NOWHERE = Path("no such folder")
SMALL, LARGE = "qwen3-0.6b-base", "llama-3.1-8b"
LORA = {"lora": {"base": "bf16"}, "gradient_checkpointing": True}


def plan_of(*models: str, **changes: Any) -> Plan:
    content: dict[str, Any] = {
        "study": "s",
        "models": list(models),
        "recipes": ["none", "mnli", "squad"],
        "targets": ["xnli", "xcopa", "xquad", "tatoeba"],
        "languages": ["en", "th"],
        "training": {"default": {"precision": "bf16", "max_steps": 100}},
    }
    return make_plan(load_study(content | changes, "s.yaml"), load_registry(), Lock(), "s.yaml")


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Cluster:
    return read_cluster(repository / "workflow" / "profiles" / "slurm" / "cluster.yaml")


def with_memory(cluster: Cluster, gigabytes: float) -> Cluster:
    partition = {"max_runtime": 600, "max_mem_mb": 400_000, "max_threads": 8, "max_gpu": 1}
    content = {"gpus": {"a100": {"memory_gb": gigabytes}}, "partitions": {"g": partition}}
    return Cluster.model_validate(content | {"resources": cluster.resources})


def adapted(name: str) -> dict[str, Any]:
    default = {"precision": "bf16", "max_steps": 100}
    return {"default": default, "models": {name: {"default": LORA}}}


# ---- what fits


def test_full_training_of_eight_billion_is_refused_with_what_to_do(shipped: Cluster) -> None:
    with pytest.raises(InputError) as caught:
        check_fit(plan_of(LARGE), with_memory(shipped, 80))
    message = str(caught.value)
    assert "llama-3.1-8b on mnli does not fit into the memory of a GPU of the kind a100" in message
    assert (
        "micro_batch_tokens, set gradient_checkpointing: true, train adapters alone (lora: {})"
        in (message)
    )
    assert "at most 74.5 GiB" in message


def test_adapters_of_eight_billion_fit(shipped: Cluster) -> None:
    plan = plan_of(LARGE, training=adapted(LARGE))
    check_fit(plan, with_memory(shipped, 80))
    found = [use for _, use in uses(plan) if use.training]
    assert {use.way for use in found} == {"LoRA, rank 16 on bf16"}
    assert 20 < max(use.needed for use in found) / GIB < 40


def test_frozen_weights_in_32_bits_are_told_of(shipped: Cluster) -> None:
    training = adapted(LARGE)
    training["models"][LARGE]["default"] = LORA | {"lora": {}}
    with pytest.raises(
        InputError, match=r"hold the frozen weights in 16 bits \(lora: \{base: bf16"
    ):
        check_fit(plan_of(LARGE, training=training), with_memory(shipped, 47))


def test_the_table_of_a_study_has_a_line_for_each_model() -> None:
    plan = plan_of(SMALL, LARGE, "xlm-roberta-base", training=adapted(LARGE))
    costs = costs_of(plan, NOWHERE, "a100", Calibration())
    found = {needs.model: needs for needs in models_of(costs)}
    assert {name: needs.way for name, needs in found.items()} == {
        SMALL: "all weights",
        LARGE: "LoRA, rank 16 on bf16",
        "xlm-roberta-base": "all weights",
    }
    assert found[LARGE].parameters == 8_030_261_248
    assert found[SMALL].training > 16 * 596_049_920
    assert found[LARGE].prediction > 4 * 8_030_261_248
    hours = sum(needs.gpu_seconds for needs in found.values())
    assert hours == pytest.approx(costs.gpu_seconds)
    assert min(needs.gpu_seconds for needs in found.values()) > 0


def test_the_command_tells_what_models_need_before_it_refuses(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = f"study: s\nmodels: [{LARGE}]\nrecipes: [none, mnli]\ntargets: [xnli]\nlanguages: [en]\n"
    (tmp_path / "s.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    place = repository / "workflow" / "profiles" / "slurm" / "cluster.yaml"
    assert main(["plan", "s.yaml", "--cluster", str(place)]) == 2
    captured = capsys.readouterr()
    assert "llama-3.1-8b                      8,030.3 all weights" in captured.out
    assert "does not fit" in captured.err


# ---- jobs


def test_every_job_of_a_decoder_has_a_model_and_a_row(shipped: Cluster) -> None:
    plan = plan_of(LARGE, training=adapted(LARGE), prompting={"tuning": "prompt", "shots": 2})
    assert {job.stage for job in plan.jobs.values()} >= {"prompts", "merge"}
    for job in plan.jobs.values():
        if job.stage in ("prompts", "merge", "intermediate", "finetune", "evaluate"):
            assert model_of(job) == LARGE
        assert needs(job, plan, shipped)["mem_mb"]
    costs = costs_of(plan, NOWHERE, "a100", Calibration())
    assert not [cost.job.out for cost in costs.by_job.values() if cost.seconds is None]
    stages = [line.stage for line in lines_of(costs)]
    assert stages.index("prompts") < stages.index("intermediate") < stages.index("merge")


def test_adapters_ask_for_the_memory_of_a_prediction(shipped: Cluster) -> None:
    small, large = plan_of(LARGE), plan_of(LARGE, training=adapted(LARGE))
    out = f"checkpoints/{LARGE}/mnli/seed-1/intermediate"
    assert needs(small.jobs[out], small, shipped)["mem_mb"] == 192_000
    assert needs(large.jobs[out], large, shipped)["mem_mb"] == 96_000
    assert (
        needs(large.jobs[out.replace("checkpoints", "merged")], large, shipped)["mem_mb"] == 80_000
    )


def test_an_adapter_is_small_and_what_is_merged_is_whole() -> None:
    plan = plan_of(LARGE, training=adapted(LARGE))
    costs = costs_of(plan, NOWHERE, "a100", Calibration()).by_job
    adapter = costs[f"checkpoints/{LARGE}/mnli/seed-1/intermediate"]
    size = size_of(plan.registry.models[LARGE])
    assert adapter.size == 4 * adapter_parameters(size, 16, "all-linear")
    assert adapter.state == 12 * adapter.size
    merged = costs[f"merged/{LARGE}/mnli/seed-1/intermediate"]
    assert (merged.size, merged.gpus, adapter.gpus) == (4 * size.parameters, 0, 1)
    assert merged.seconds == pytest.approx(5 + 8_030_261_248 * 1.5e-8)


def test_test_prompts_hold_every_choice_and_training_prompts_one() -> None:
    costs = costs_of(plan_of(SMALL), NOWHERE, "a100", Calibration()).by_job
    xnli = costs[f"predictions/{SMALL}/none/seed-1/xnli"].work
    # 5010 pairs in two languages, three labels; 26.2 words of 1.4 sub-words, and 16 of the prompt
    assert xnli.rows == 2 * 5010
    assert xnli.forward == pytest.approx(2 * 5010 * 3 * (26.2 * 1.4 + 16))
    assert xnli.written == 0
    xquad = costs[f"predictions/{SMALL}/none/seed-1/xquad"]
    tokens = 2 * 1190 * (108.5 * 1.4 + 16 + 32)
    assert xquad.work.forward == pytest.approx(tokens)
    assert xquad.work.written == 32 * -(-tokens // 16384)
    assert xquad.sure == "assumed"
    mnli = costs[f"data/prompts/{SMALL}/mnli/en"].work
    assert mnli.rows > 390_000
    training = costs[f"checkpoints/{SMALL}/mnli/seed-1/intermediate"].work
    assert training.steps == 100
    assert training.tokens == pytest.approx(100 * 32 * (30.0 * 1.4 + 16), rel=1e-3)


# ---- rates


def test_operations_of_adapters_and_of_the_output_layer() -> None:
    size = size_of(load_registry().models[SMALL])
    rates, settings = Rates("a100"), {"precision": "bf16", "gradient_checkpointing": False}
    peak = 0.3 * 312e12

    def token(asked: float = 0.0, **more: Any) -> float:
        both, _ = rates.training("m", size, settings | more, "t", asked)
        assert both is not None
        return both[0] * peak

    output = size.vocabulary * size.hidden
    lora = {"lora": {"rank": 8, "targets": "all-linear"}}
    assert token() == pytest.approx(6 * size.blocks)
    assert token(0.5) == pytest.approx(6 * size.blocks + 3 * output)
    assert token(**lora) == pytest.approx(4 * size.blocks)
    assert token(**lora, gradient_checkpointing=True) == pytest.approx(6 * size.blocks)
    # 596M parameters, 4 bytes each, from memory at 2 TB/s, and 28 blocks of half a millisecond
    assert rates.written(size, 10) == pytest.approx(10 * (4 * 596_049_920 / 2e12 + 0.014))
    assert Rates("cpu").written(size, 10) == 0


def test_adapters_are_measured_apart() -> None:
    settings = {"precision": "bf16", "gradient_checkpointing": False}
    lora = settings | {"lora": {"rank": 8, "targets": "all-linear"}}
    assert (way_of(settings), way_of(lora)) == ("bf16", "bf16-lora")
    sums = {train_name("a100", "m", "bf16"): Measured(1, 10.0, 100.0)}
    rates = Rates("a100", Calibration({"s": sums}))
    size = size_of(load_registry().models[SMALL])
    assert rates.training("m", size, settings)[1] == "measured"
    assert rates.training("m", size, lora)[1] == "assumed"


def test_raw_text_of_a_decoder_is_named_by_what_is_learnt() -> None:
    recipes = {"none": {}, "text": {"mlm": {"corpus": "wikipedia", "languages": ["en"]}}}
    plan = plan_of(SMALL, "xlm-roberta-base", recipes=recipes)
    out = "checkpoints/{}/text/seed-1/intermediate"
    names = [task_of(plan.jobs[out.format(model)]) for model in (SMALL, "xlm-roberta-base")]
    assert names == ["causal_lm", "masked_lm"]
    needed = {use.name: use.needed for _, use in uses(plan) if use.name.endswith("_lm")}
    assert needed.keys() == {f"{SMALL} on causal_lm", "xlm-roberta-base on masked_lm"}
