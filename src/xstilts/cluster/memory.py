"""How much memory of a GPU a training or a prediction takes, estimated, against what the GPU has.

A training, per process:

- 16 bytes a trained parameter: weights, gradients and AdamW's two moments in 32-bit floats. With
  `precision: bf16` another 2 a parameter of the blocks, and of a decoder's output layer: autocast's
  copies of the weights. With `lora` the adapters alone are trained; the frozen weights take 4 bytes
  a parameter and their copies 2, or 2 in all with `base: bf16`. The copies are what a layer saves
  for its backward pass: with `gradient_checkpointing` one block has them at a time.
- Activations, for every sub-word that goes through the model at once and every block: what torch
  saves for the backward pass, dropout included, counted with saved-tensor hooks
  (tests/unit/test_cluster_memory.py does it again). `_KEPT` has the bytes for each value of the
  hidden size, of the queries and of the feed-forward layer; keys and values are counted as wide as
  queries, as they are where a batch has padding. The attention matrix itself is not kept by the
  fused kernels that CUDA uses; BLOOM has none, and keeps it. With `gradient_checkpointing` a block
  keeps its input, 4 bytes a value, and one block at a time has all of the above.
- The gradients of a decoder's block on their way back: 8 h + 12 i bytes for every sub-word.
- Frozen norms keep one value less each. An adapter keeps its `rank` values; its dropout keeps a
  copy of its own of each layer's input and a mask.
- Language modelling: logits over the vocabulary for the sub-words that are asked for, as values,
  gradient and log-probabilities: 12 bytes each. Of a prompt only the answer is asked for.
- 1.5 GiB for CUDA's context, kernels' workspaces and what the allocator cannot use.

A prediction: weights, 4 bytes a parameter; what one block needs for every sub-word of a batch
(encoders 32 h + 8 i bytes, decoders see `_working`); every hidden state, 4 h, where vectors of all
layers are compared; a decoder's keys and values of all blocks, 8 bytes each, of the prefixes and
again of the choices that share them; the logits that are held at a time; the same 1.5 GiB. Heads
are left out: they are small beside a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from xstilts.cluster.settings import Cluster
from xstilts.cluster.sizes import Size, adapted, adapter_parameters, size_of
from xstilts.errors import InputError
from xstilts.plan import LOOKS, Job, Plan
from xstilts.registry.rows import DatasetRow
from xstilts.training.settings import Lora

GIB = 2**30
RESERVED = 1.5 * GIB
#: Bytes that a block keeps for each value of hidden size, queries and feed-forward layer: in
#: 32-bit floats, then under bf16.
_ENCODER = ((40, 0, 8), (28, 0, 4))
_LLAMA = ((24, 16, 16), (26, 8, 8))
_KEPT: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "qwen3": ((24, 32, 16), (26, 20, 8)),  # queries and keys have norms
    "gemma3_text": ((40, 32, 16), (42, 24, 8)),  # and there are four norms to a block
    "apertus": ((24, 32, 21), (24, 20, 13)),  # no gate, but xIELU
    "bloom": ((64, 0, 0), (36, 0, 0)),
    "xlm-roberta": _ENCODER,
    "bert": _ENCODER,
}
#: Bytes of one of BLOOM's attention matrices for each of its values, likewise.
_MATRIX = (4, 6)
#: Bytes of logits that a prediction holds at a time: `xstilts.evaluation.likelihood` makes 2 ** 24
#: of them, and two copies while it sums.
LOGITS = 3 * 4 * 2**24
#: Share of a prompt's sub-words that is asked for, by the format of its data: ASSUMED where no
#: prompts have been made yet. A choice is at most a sentence; a tag stands for every word.
ASKED: Mapping[str, float] = {
    "sequence_classification": 0.5,
    "multiple_choice": 0.5,
    "question_answering": 0.1,
    "token_classification": 0.6,
}


def activations(
    size: Size,
    tokens: int,
    *,
    bf16: bool,
    checkpointing: bool = False,
    lora: Lora | None = None,
    length: int = 0,
) -> float:
    """Bytes that the blocks keep for the backward pass, for so many sub-words at once.

    Args:
        size: Sizes of the model.
        tokens: Sub-words.
        bf16: Autocast to bfloat16.
        checkpointing: Gradient checkpointing.
        lora: Adapters, where they alone are trained.
        length: Longest row, in sub-words.
    """
    block = tokens * _kept(size, bf16, lora, length)
    if checkpointing:
        return float(size.layers * tokens * 4 * size.hidden + block)
    return float(size.layers * block)


def _kept(size: Size, bf16: bool, lora: Lora | None, length: int) -> float:
    """Bytes of a sub-word in one block."""
    h, q, i = _KEPT.get(size.architecture, _LLAMA)[bf16]
    matrix = _MATRIX[bf16] * size.heads * length if size.architecture == "bloom" else 0
    kept = h * size.hidden + q * size.queries + i * size.intermediate + matrix
    if lora is None:
        return kept
    layers = adapted(size, lora.targets)
    inputs = sum(before for before, _ in layers)
    norms = 4 if size.architecture == "gemma3_text" else 2
    # BLOOM's LayerNorms keep their inputs, frozen or not.
    kept -= 0 if size.architecture == "bloom" else norms * 4 * size.hidden
    kept += lora.rank * len(layers) * (2 if bf16 else 4)
    # Copies and masks, the latter as large as the values on a CPU.
    return kept + (inputs * (4 if bf16 else 6.3) if lora.dropout else 0)


def weight_bytes(
    size: Size, *, bf16: bool, checkpointing: bool = False, lora: Lora | None = None
) -> float:
    """Bytes of weights, gradients, moments and autocast's copies in a training."""
    output = size.vocabulary * size.hidden if size.is_decoder else 0
    if lora is None:
        return 16 * size.parameters + (2 * (size.blocks + output) if bf16 else 0)
    held = 16 * adapter_parameters(size, lora.rank, lora.targets)
    if lora.base == "bf16":
        return held + 2 * size.parameters
    blocks = size.blocks // size.layers if checkpointing else size.blocks
    return held + 4 * size.parameters + (2 * (blocks + output) if bf16 else 0)


def training_bytes(
    size: Size,
    tokens: int,
    *,
    bf16: bool,
    checkpointing: bool = False,
    masked: float = 0.0,
    lora: Lora | None = None,
    length: int = 0,
) -> float:
    """Bytes of a GPU that one process of a training takes.

    Args:
        size: Sizes of the model.
        tokens: Most sub-words that go through the model at once.
        bf16: Autocast to bfloat16.
        checkpointing: Gradient checkpointing.
        masked: Sub-words among them that go through a language-model head.
        lora: Adapters, where they alone are trained.
        length: Longest row, in sub-words.
    """
    weights = weight_bytes(size, bf16=bf16, checkpointing=checkpointing, lora=lora)
    kept = activations(
        size, tokens, bf16=bf16, checkpointing=checkpointing, lora=lora, length=length
    )
    # What is on its way back through one block; encoders' fits into what is reserved.
    way = tokens * (8 * size.hidden + 12 * size.intermediate) if size.is_decoder else 0
    return weights + kept + way + 12 * masked * size.vocabulary + RESERVED


def prediction_bytes(
    size: Size,
    tokens: int,
    *,
    all_layers: bool = False,
    language_model: bool = False,
    length: int = 0,
) -> float:
    """Bytes of a GPU that a prediction takes, with so many sub-words in a batch.

    Args:
        size: Sizes of the model.
        tokens: Sub-words of a batch.
        all_layers: Whether every hidden state is held.
        language_model: Whether a decoder chooses or writes, with its keys and values held.
        length: Longest row, in sub-words.
    """
    states = (size.layers + 1) * tokens * 4 * size.hidden if all_layers else 0
    held = 2 * 8 * size.layers * size.keys * tokens + LOGITS if language_model else 0
    return 4 * size.parameters + tokens * _working(size, length) + states + held + RESERVED


def _working(size: Size, length: int) -> float:
    """Bytes of a sub-word in one block without a backward pass.

    Decoders': the larger of attention (queries before and after their places are turned in, keys
    and values repeated) and feed-forward layer, as the peak of torch's allocator has it; BLOOM's
    GELU has six values at a time.
    """
    h, q, i = size.hidden, size.queries, size.intermediate
    if not size.is_decoder:
        return 32 * h + 8 * i
    if size.architecture == "bloom":
        return 100 * h + 8 * size.heads * length
    return max(
        12 * h + 24 * q, 12 * h + 21 * i if size.architecture == "apertus" else 8 * h + 12 * i
    )


def merge_bytes(size: Size) -> float:
    """Bytes of the host that merging an adapter takes: the weights, and once more while written."""
    return 2 * 4 * size.parameters


# ---- of a plan


@dataclass(frozen=True)
class Use:
    """What a job has in a GPU at one time or another.

    Attributes:
        model: The model.
        name: What it does.
        needed: Bytes.
        training: Whether it trains.
        lora: Whether adapters alone are trained.
        hint: What to change where it does not fit.
    """

    model: str
    name: str
    needed: float
    training: bool
    lora: Lora | None
    hint: str

    @property
    def way(self) -> str:
        """How weights are trained, in words."""
        if self.lora is None:
            return "all weights"
        held = " on bf16" if self.lora.base == "bf16" else ""
        return f"LoRA, rank {self.lora.rank}{held}"


def check_fit(plan: Plan, cluster: Cluster) -> None:
    """Check that every training and evaluation fits into the GPU that it is going to get.

    Raises:
        InputError: On the first that does not, with model, task, GiB and the keys to change.
    """
    if not cluster.gpus:
        return
    kind = min(cluster.kinds, key=lambda name: cluster.gpus[name].memory_gb)
    room = cluster.gpus[kind].memory_gb * 1e9
    for out, use in uses(plan):
        if use.needed > room:
            raise InputError(
                f"{plan.where}: {out}",
                f"{use.name} does not fit into the memory of a GPU of the kind {kind}",
                expected=f"at most {room / GIB:.1f} GiB",
                found=f"about {use.needed / GIB:.1f} GiB",
                hint=use.hint,
            )


def uses(plan: Plan) -> Iterator[tuple[str, Use]]:
    """All that jobs have in a GPU, each different one once, with the first job's folder."""
    known = set[tuple[Any, ...]]()
    for job in plan.jobs.values():
        for use, key in _uses(job, plan):
            if key not in known:
                known.add(key)
                yield job.out, use


def _uses(job: Job, plan: Plan) -> Iterator[tuple[Use, tuple[Any, ...]]]:
    """What a job has in a GPU, with what tells it from others."""
    if job.stage in ("pretrain", "intermediate", "finetune"):
        yield from _training_uses(job, plan)
    elif job.stage in LOOKS:
        model = job.out.split("/")[1]
        size = size_of(plan.registry.models[model])
        tokens = plan.study.evaluation.batch_tokens
        every = job.stage == "sweep" or "layer" in job.spec["inputs"]
        asks = job.spec.get("format") == "prompted"
        length = _longest(job.spec["inputs"].get("tokens", ()), plan)
        needed = prediction_bytes(
            size, tokens, all_layers=every, language_model=asks, length=length
        )
        name = f"{model} on {job.spec.get('target', 'all targets')}"
        hint = "Lower evaluation.batch_tokens, or name a larger `gpu` in cluster.yaml"
        yield Use(model, name, needed, False, None, hint), (model, every, asks, length)


def _training_uses(job: Job, plan: Plan) -> Iterator[tuple[Use, tuple[Any, ...]]]:
    spec, model = job.spec, job.out.split("/")[1]
    size, settings = size_of(plan.registry.models[model]), spec["settings"]
    bf16, checkpointing = settings["precision"] == "bf16", settings["gradient_checkpointing"]
    lora = lora_of(settings)
    for one in _passes(job, plan):
        needed = training_bytes(
            size,
            one.tokens,
            bf16=bf16,
            checkpointing=checkpointing,
            masked=one.asked * one.tokens,
            lora=lora,
            length=one.length,
        )
        hint = _hint(one, size, lora, checkpointing)
        use = Use(model, f"{model} on {one.name}", needed, True, lora, hint)
        yield use, (model, one.tokens, one.asked, one.length, bf16, checkpointing, str(lora))


def lora_of(settings: Mapping[str, Any]) -> Lora | None:
    """Adapters of a training, from its spec."""
    return Lora.model_validate(settings["lora"]) if settings.get("lora") else None


def _hint(one: _Pass, size: Size, lora: Lora | None, checkpointing: bool) -> str:
    """What to change of a training that does not fit."""
    own = "the training's " if one.is_text else f"training.tasks.{one.name}."
    parts = [f"Lower {own}micro_batch_tokens"]
    parts += [] if checkpointing else ["set gradient_checkpointing: true"]
    if size.is_decoder and lora is None:
        parts.append("train adapters alone (lora: {})")
    elif lora is not None and lora.base == "fp32":
        parts.append("hold the frozen weights in 16 bits (lora: {base: bf16})")
    return ", ".join([*parts, "or name a larger `gpu` in cluster.yaml"])


@dataclass(frozen=True)
class _Pass:
    """One task of a training: sub-words at once, the share that is asked for, the longest row."""

    name: str
    tokens: int
    asked: float
    length: int
    is_text: bool = False


def _passes(job: Job, plan: Plan) -> Iterator[_Pass]:
    spec = job.spec
    for entry in spec.get("tasks", ()):
        at_once, longest = _at_once(job, plan, entry), _longest(entry["tokens"], plan)
        yield _Pass(entry["name"], at_once, asked_share(entry, plan), longest)
    if mlm := spec["mlm"]:
        tokens = mlm.get("tokens") or spec["inputs"]["tokens"]
        entry = {"tokens": tokens, "batch_size": mlm["batch_size"], "negatives": None}
        # A decoder is asked for all sub-words.
        asked, name = mlm["mask"] or 1.0, "masked_lm" if mlm["mask"] else "causal_lm"
        yield _Pass(name, _at_once(job, plan, entry), asked, _longest(tokens, plan), is_text=True)


def asked_share(entry: Mapping[str, Any], plan: Plan) -> float:
    """Share of a task's sub-words that go through the output layer; 0 where a head is trained."""
    if entry["format"] != "prompted":
        return 0.0
    dataset = plan.jobs[entry["tokens"][0]].spec["dataset"]
    return ASKED[plan.registry.datasets[dataset].format]


def _longest(folders: Any, plan: Plan) -> int:
    """Sub-words of the longest row of some data."""
    names = [folders] if isinstance(folders, str) else folders
    specs = (plan.jobs[name].spec for name in names)
    return max((spec["encoding"]["max_length"] for spec in specs), default=0)


def _at_once(job: Job, plan: Plan, entry: Mapping[str, Any]) -> int:
    """Most sub-words of one forward pass: `micro_batch_tokens`, or all of a smaller batch."""
    first = plan.jobs[entry["tokens"][0]]
    units = ceil(entry["batch_size"] / plan.study.processes)
    if first.spec["format"] == "answer_retrieval":
        units = min(entry["negatives"] or entry["batch_size"], entry["batch_size"])
    # A prompt is trained with its right answer alone.
    prompted = first.stage == "prompts"
    rows = 1 if prompted else rows_of_unit(plan.registry.datasets[first.spec["dataset"]])
    whole = units * rows * _longest(entry["tokens"], plan)
    return int(min(whole, job.spec["settings"]["micro_batch_tokens"]))


def rows_of_unit(row: DatasetRow) -> int:
    """Rows of the model's input that an example takes: its choices, or a query and its answer."""
    if row.format == "multiple_choice":
        choices = row.fields.get("choices")
        return len(choices) if isinstance(choices, tuple) else len(row.labels or ()) or 1
    return 2 if row.format == "answer_retrieval" else 1


def answers_of(row: DatasetRow) -> int:
    """Answers that a decoder compares for an example: its labels or choices; else it writes one."""
    if row.format == "sequence_classification":
        return len(row.labels or ()) or 1
    return rows_of_unit(row) if row.format == "multiple_choice" else 1
