"""How much memory of a GPU a training or a prediction takes, estimated, against what the GPU has.

A training, per process:

- 16 bytes a parameter of the encoder: weights, gradients and AdamW's two moments in 32-bit floats.
  With `precision: bf16` another 2 a parameter of the blocks: autocast's copies of the weights.
- Activations, for every sub-word that goes through the model at once and every block: of hidden
  size h and feed-forward size i, 40 h + 8 i bytes in 32-bit floats and 28 h + 4 i under bf16. These
  are what torch saves for the backward pass, dropout included, counted with saved-tensor hooks
  (tests/unit/test_cluster_memory.py does it again); the attention matrix itself is not kept by the
  fused kernels that CUDA uses. With `gradient_checkpointing` a block keeps its input, 4 h, and one
  block at a time has all of the above.
- Masked language modelling: logits over the vocabulary for the masked sub-words, as values,
  gradient and log-probabilities: 12 bytes each.
- 1.5 GiB for CUDA's context, kernels' workspaces and what the allocator cannot use.

A prediction: weights, 4 bytes a parameter; 32 h + 8 i bytes for every sub-word of a batch, in one
block; every hidden state, 4 h, where vectors of all layers are compared; the same 1.5 GiB.
Heads are left out: they are small beside an encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from xstilts.cluster.settings import Cluster
from xstilts.cluster.sizes import Size, size_of
from xstilts.errors import InputError
from xstilts.plan import Job, Plan
from xstilts.registry.rows import DatasetRow

GIB = 2**30
RESERVED = 1.5 * GIB


def activations(size: Size, tokens: int, *, bf16: bool, checkpointing: bool = False) -> float:
    """Bytes that the blocks keep for the backward pass, for so many sub-words at once."""
    wide = 28 * size.hidden + 4 * size.intermediate
    block = tokens * (wide if bf16 else 40 * size.hidden + 8 * size.intermediate)
    if checkpointing:
        return float(size.layers * tokens * 4 * size.hidden + block)
    return float(size.layers * block)


def training_bytes(
    size: Size, tokens: int, *, bf16: bool, checkpointing: bool = False, masked: float = 0.0
) -> float:
    """Bytes of a GPU that one process of a training takes.

    Args:
        size: Sizes of the encoder.
        tokens: Most sub-words that go through the model at once.
        bf16: Autocast to bfloat16.
        checkpointing: Gradient checkpointing.
        masked: Sub-words among them that go through a language-model head.
    """
    weights = 16 * size.parameters + (2 * size.blocks if bf16 else 0)
    kept = activations(size, tokens, bf16=bf16, checkpointing=checkpointing)
    return weights + kept + 12 * masked * size.vocabulary + RESERVED


def prediction_bytes(size: Size, tokens: int, *, all_layers: bool = False) -> float:
    """Bytes of a GPU that a prediction takes, with so many sub-words in a batch."""
    states = (size.layers + 1) * tokens * 4 * size.hidden if all_layers else 0
    block = tokens * (32 * size.hidden + 8 * size.intermediate)
    return 4 * size.parameters + block + states + RESERVED


def check_fit(plan: Plan, cluster: Cluster) -> None:
    """Check that every training and evaluation fits into the GPU that it is going to get.

    Raises:
        InputError: On the first that does not, with model, task, GiB and the keys to change.
    """
    if not cluster.gpus:
        return
    kind = min(cluster.kinds, key=lambda name: cluster.gpus[name].memory_gb)
    room = cluster.gpus[kind].memory_gb * 1e9
    known: set[tuple[Any, ...]] = set()
    for job in plan.jobs.values():
        for name, needed, key, hint in _uses(job, plan):
            if key not in known and needed > room:
                raise InputError(
                    f"{plan.where}: {job.out}",
                    f"{name} does not fit into the memory of a GPU of the kind {kind}",
                    expected=f"at most {room / GIB:.1f} GiB",
                    found=f"about {needed / GIB:.1f} GiB",
                    hint=hint,
                )
            known.add(key)


_Use = tuple[str, float, tuple[Any, ...], str]


def _uses(job: Job, plan: Plan) -> Iterator[_Use]:
    """What a job has in a GPU at one time or another: its name, bytes, identity, and advice."""
    if job.stage in ("pretrain", "intermediate", "finetune"):
        yield from _training_uses(job, plan)
    elif job.stage in ("evaluate", "sweep"):
        model = job.out.split("/")[1]
        size = size_of(plan.registry.models[model])
        tokens = plan.study.evaluation.batch_tokens
        every = job.stage == "sweep" or "layer" in job.spec["inputs"]
        needed = prediction_bytes(size, tokens, all_layers=every)
        name = f"{model} on {job.spec['target']}"
        hint = "Lower evaluation.batch_tokens, or name a larger `gpu` in cluster.yaml"
        yield name, needed, (model, every), hint


def _training_uses(job: Job, plan: Plan) -> Iterator[_Use]:
    spec, model = job.spec, job.out.split("/")[1]
    size, settings = size_of(plan.registry.models[model]), spec["settings"]
    bf16, checkpointing = settings["precision"] == "bf16", settings["gradient_checkpointing"]
    for name, tokens, mask in _passes(job, plan):
        needed = training_bytes(
            size, tokens, bf16=bf16, checkpointing=checkpointing, masked=mask * tokens
        )
        hint = f"Lower training.tasks.{name}.micro_batch_tokens, " if mask == 0 else "Lower "
        hint += "the training's micro_batch_tokens, " if mask else ""
        hint += "" if checkpointing else "set gradient_checkpointing: true, "
        hint += "or name a larger `gpu` in cluster.yaml"
        yield f"{model} on {name}", needed, (model, tokens, bf16, checkpointing, mask), hint


def _passes(job: Job, plan: Plan) -> Iterator[tuple[str, int, float]]:
    """Name, sub-words at once, and share of them that is masked, of each task of a training."""
    spec = job.spec
    for entry in spec.get("tasks", ()):
        yield entry["name"], _at_once(job, plan, entry), 0.0
    if spec["mlm"]:
        tokens = spec["mlm"].get("tokens") or spec["inputs"]["tokens"]
        entry = {"tokens": tokens, "batch_size": spec["mlm"]["batch_size"], "negatives": None}
        yield "masked_lm", _at_once(job, plan, entry), spec["mlm"]["mask"]


def _at_once(job: Job, plan: Plan, entry: dict[str, Any]) -> int:
    """Most sub-words of one forward pass: `micro_batch_tokens`, or all of a smaller batch."""
    jobs = [plan.jobs[folder].spec for folder in entry["tokens"]]
    rows = plan.registry.datasets[jobs[0]["dataset"]]
    longest = max(spec["encoding"]["max_length"] for spec in jobs)
    units = ceil(entry["batch_size"] / plan.study.processes)
    if jobs[0]["format"] == "answer_retrieval":
        units = min(entry["negatives"] or entry["batch_size"], entry["batch_size"])
    whole = units * rows_of_unit(rows) * longest
    return int(min(whole, job.spec["settings"]["micro_batch_tokens"]))


def rows_of_unit(row: DatasetRow) -> int:
    """Rows of the model's input that an example takes: its choices, or a query and its answer."""
    if row.format == "multiple_choice":
        choices = row.fields.get("choices")
        return len(choices) if isinstance(choices, tuple) else len(row.labels or ()) or 1
    return 2 if row.format == "answer_retrieval" else 1
