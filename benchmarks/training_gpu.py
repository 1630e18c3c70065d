"""XLM-R Large on one GPU beside Hugging Face's Trainer: `python benchmarks/training_gpu.py`.

Random weights of XLM-R Large's architecture, random sub-words, bf16 autocast, fused AdamW; rows as
long as MNLI's (effective batch 32, longest 128) and SQuAD's windows (16, longest 384). Where the
slices of the two data sets are found (`--hub`), a row has 1.3 sub-words for every word of a real
one and 4 for the special tokens; else lengths are drawn from log-normal distributions that were
fitted to those (median and sigma: 39 and 0.48; 178 and 0.39). No side drops attention
probabilities, unless its name says "attention dropout 0.1", which is what a study has by default.

Each side runs in a process of its own: `--warm` steps, then `--steps` timed ones (Trainer's length
groups repeat after 50). Ours is the project's own loop with the deterministic algorithms that every
stage asks for; Trainer runs without them, as it does by default. `--scale N` accumulates N times
the batch: an optimiser step of XLM-R Large moves some 15 GB of weights and moments, which a batch
of 1,300 sub-words does not hide.

tokens/s and examples/s count no padding. Model FLOP utilisation is the useful work per second over
the ceiling, the best rate of large bf16 matrix products measured in the same run:

    work = 6 * parameters * tokens + 12 * layers * hidden * sum over rows of length ** 2

with the parameters of the encoder's layers (embeddings and heads are not counted): 2 operations a
parameter and token forward, 4 backward; attention has two products of 2 * hidden * length
operations a token and layer forward, and twice as many backward. Recomputed activations count
nothing. `--device cpu --tiny` keeps the script working where there is no GPU; its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TASKS = {  # effective batch, longest row, median and sigma of the log-normal lengths
    "mnli": (32, 128, 39, 0.48),
    "squad": (16, 384, 178, 0.39),
}
SLICES = {
    "mnli": ("nyu-mll/glue/mnli", ("premise", "hypothesis")),
    "squad": ("rajpurkar/squad/plain_text", ("question", "context")),
}
#: What differs from a study's defaults but precision (bf16) and attention dropout (none).
OURS: dict[str, dict[str, Any]] = {
    "xstilts": {},
    "xstilts, compiled": {"compile": True},
    "xstilts, gradient checkpointing": {"gradient_checkpointing": True},
    "xstilts, padded": {"packed": False},
    "xstilts, attention dropout 0.1": {"attention_dropout": None},
}
TRAINER = {
    "Trainer, padded to the longest": {"padding": "max_length"},
    "Trainer, dynamic padding": {"padding": "longest"},
    "Trainer, grouped by length": {"padding": "longest", "grouped": True},
}
PAD = 1
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE |= {"intermediate_size": 4096, "vocab_size": 250_002}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"intermediate_size": 128, "vocab_size": 500}


def lengths_of(task: str, rows: int, hub: Path) -> np.ndarray:
    """Sub-words of every row, special tokens included: [rows]."""
    _, longest, median, sigma = TASKS[task]
    rng = np.random.default_rng(1)
    folder, columns = SLICES[task]
    found = sorted((hub / folder).glob("train-*.parquet"))
    if found:
        import pandas as pd

        texts = pd.concat([pd.read_parquet(path, columns=[*columns]) for path in found])
        words = sum(texts[column].str.split().str.len() for column in columns)
        drawn = 1.3 * rng.choice(words.to_numpy(), rows) + 4
    else:
        drawn = rng.lognormal(np.log(median), sigma, rows)
    return np.clip(np.round(drawn), 8, longest).astype(np.int64)


def data_of(task: str, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Flat arrays of random sub-words, as the project's token store has them."""
    steps = max(64, options.warm + options.steps)
    lengths = lengths_of(task, TASKS[task][0] * options.scale * steps, options.hub)
    rng = np.random.default_rng(2)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(4, size_of(options)["vocab_size"], offsets[-1])
    arrays = {"input_ids": ids.astype(np.int32), "offsets": offsets}
    if task == "mnli":
        return arrays | {"labels": rng.integers(0, 3, len(lengths)).astype(np.int32)}
    start = rng.integers(1, lengths).astype(np.int32)
    inside = np.ones(len(ids), np.int32)  # every sub-word may begin the answer
    return arrays | {"start": start, "end": start, "char_start": inside}


def size_of(options: argparse.Namespace) -> dict[str, int]:
    """The size of the model."""
    return TINY if options.tiny else LARGE


def config_of(task: str, options: argparse.Namespace) -> Any:
    """XLM-R's configuration; no attention dropout."""
    from transformers import XLMRobertaConfig

    return XLMRobertaConfig(
        **size_of(options),
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
        num_labels=3 if task == "mnli" else 2,
    )


class Clock:
    """Seconds from the end of the warm-up to the last step; the loop takes it for a Progress."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.label = "benchmark"
        self.marks = {options.warm: 0.0, options.warm + options.steps: 0.0}

    def step(self, step: int, note: str = "") -> None:
        """Look at the clock where a mark is, when the device has done its work."""
        import torch

        if step in self.marks:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.marks[step] = time.perf_counter()

    def resume(self, step: int) -> None:
        """Nothing is resumed here."""

    @property
    def seconds(self) -> float:
        """Seconds of the timed steps."""
        first, last = self.marks.values()
        return last - first


def measured(
    clock: Clock, lengths: list[np.ndarray], encoder: Any, options: argparse.Namespace
) -> dict[str, float]:
    """Figures of a run from the lengths of the rows of every step."""
    rows = np.concatenate(lengths[options.warm : options.warm + options.steps]).astype(float)
    parameters = sum(parameter.numel() for parameter in encoder.encoder.parameters())
    size = size_of(options)
    width = 12 * size["num_hidden_layers"] * size["hidden_size"]
    work = 6 * parameters * rows.sum() + width * np.square(rows).sum()
    return {
        "seconds": clock.seconds,
        "tokens": rows.sum() / clock.seconds,
        "examples": len(rows) / clock.seconds,
        "flops": work / clock.seconds,
        "mebibytes": peak(),
    }


def peak() -> float:
    """Peak MiB of the device's memory, or of the process where there is no device."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_ours(name: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """The project's loop on one task."""
    from transformers import AutoModel

    from xstilts.training.loop import train
    from xstilts.training.model import Model, make_heads
    from xstilts.training.settings import Training
    from xstilts.training.speed import prepare
    from xstilts.training.stages import _prepare_torch
    from xstilts.training.state import State

    changes = dict(OURS[name])
    packed = changes.pop("packed", True)
    steps = options.warm + options.steps
    given = {"precision": "bf16", "attention_dropout": 0.0, "select": "last", "max_steps": steps}
    settings = Training(**{**given, "batch_size": TASKS[task][0] * options.scale, **changes})
    _prepare_torch(settings, 1)
    unit = our_task(task, settings, options)
    config = config_of(task, options)
    if settings.attention_dropout is None:
        config.attention_probs_dropout_prob = 0.1
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    wanted = {task: (unit.train.meta.format, unit.train.meta.labels)}
    model = Model(encoder, make_heads(wanted, config, settings.dropout))
    prepare(model, settings)
    model.packed = model.packed and packed
    clock = Clock(options)
    with tempfile.TemporaryDirectory() as folder:
        order = np.zeros(steps, dtype=np.int64)
        state = State(Path(folder))
        # Random labels cannot be learned, and the guard against collapse may see that.
        train(model, [unit], order, settings, 1, state, clock, on_collapse="report")
    lengths = [unit.lengths[unit.batches[step]] for step in range(steps)]
    return measured(clock, lengths, encoder, options) | {"packed": uses_kernel(model)}


def our_task(task: str, settings: Any, options: argparse.Namespace) -> Any:
    """The task as the loop takes it."""
    from xstilts.data.token_store import TokenMeta, TokenStore
    from xstilts.formats.head import trained_format
    from xstilts.training.batches import ShuffledBatches
    from xstilts.training.loop import TrainTask

    name = "sequence_classification" if task == "mnli" else "question_answering"
    labels = ("entailment", "neutral", "contradiction") if task == "mnli" else None
    meta = TokenMeta(name, labels, PAD, 3, (0, PAD, 2, 3), size_of(options)["vocab_size"])
    store, format_ = TokenStore(data_of(task, options), meta), trained_format(name)
    lengths = format_.unit_lengths(store)
    batches = ShuffledBatches(lengths, settings.batch_size, [1])
    return TrainTask(task, task, format_, store, None, batches, lengths, format_.unit_rows(store))


def uses_kernel(model: Any) -> bool:
    """Whether a training step of the model leaves the padding out."""
    import torch

    from xstilts.training.packed import kernel_allows

    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16):
        return model.packed and kernel_allows(model.train().encoder, device)


def run_trainer(name: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """Hugging Face's Trainer on the same rows."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.models.xlm_roberta import modeling_xlm_roberta as models

    kind = "SequenceClassification" if task == "mnli" else "QuestionAnswering"
    torch.manual_seed(1)
    model = getattr(models, f"XLMRobertaFor{kind}")(config_of(task, options))
    clock, lengths = Clock(options), []

    class Watched(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            lengths.append(inputs["attention_mask"].sum(1))
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Ticks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.step(state.global_step)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=options.warm + options.steps,
            per_device_train_batch_size=TASKS[task][0],
            gradient_accumulation_steps=options.scale,
            train_sampling_strategy="group_by_length" if "grouped" in TRAINER[name] else "random",
            learning_rate=1e-5,
            weight_decay=0.01,
            bf16=True,
            optim="adamw_torch_fused",
            use_cpu=options.device == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        pad_to = TASKS[task][1] if TRAINER[name]["padding"] == "max_length" else None
        Watched(
            model,
            arguments,
            data_collator=lambda rows: collate(rows, pad_to),
            train_dataset=rows_of(task, options),
            callbacks=[Ticks()],
        ).train()
    parts = [part.cpu().numpy() for part in lengths]
    starts = range(0, len(parts), options.scale)
    known = [np.concatenate(parts[start : start + options.scale]) for start in starts]
    return measured(clock, known, model.roberta, options)


def rows_of(task: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows as Trainer takes them."""
    arrays = data_of(task, options)
    cut = np.split(arrays["input_ids"].astype(np.int64), arrays["offsets"][1:-1])
    names = {"labels": "labels"} if task == "mnli" else {"start": "start_positions"}
    names |= {} if task == "mnli" else {"end": "end_positions"}
    labels = {new: arrays[old].tolist() for old, new in names.items()}
    return [
        {"input_ids": ids} | {name: values[row] for name, values in labels.items()}
        for row, ids in enumerate(cut)
    ]


def collate(rows: list[dict[str, Any]], pad_to: int | None) -> dict[str, Any]:
    """A batch, padded to its longest row or to a fixed length."""
    import torch

    length = pad_to or max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), length), PAD)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        own = len(row["input_ids"])
        ids[number, :own], mask[number, :own] = torch.from_numpy(row["input_ids"]), 1
    names = [name for name in rows[0] if name != "input_ids"]
    labels = {name: torch.tensor([row[name] for row in rows]) for name in names}
    return labels | {"input_ids": ids, "attention_mask": mask}


def run_ceiling(options: argparse.Namespace) -> dict[str, float]:
    """Operations per second of large bf16 matrix products: the best of several sizes."""
    import torch

    device = torch.device(options.device)
    best = 0.0
    for size in (128, 256) if options.tiny else (4096, 8192, 16384):
        one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in "ab")
        for _ in range(5):  # the first ones are warm-up
            start = time.perf_counter()
            for _ in range(10):
                torch.mm(one, other)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, 10 * 2 * size**3 / (time.perf_counter() - start))
    return {"flops": best}


def child(name: str, task: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """What a run in a process of its own measured; None where it failed."""
    command = [sys.executable, __file__, "--child", name, "--tasks", task]
    for key in ("device", "steps", "warm", "scale", "hub"):
        command += [f"--{key}", str(getattr(options, key))]
    command += ["--tiny"] if options.tiny else []
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {})
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{name:<34} failed", flush=True)
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> int:
    """Print a line per side and task, and the ratios to Trainer."""
    options = arguments()
    if options.child:
        print(json.dumps(run_child(options)))
        return 0
    ceiling = child("ceiling", "mnli", options)
    if ceiling is None:
        return 1
    print(f"ceiling of bf16 matrix products: {ceiling['flops'] / 1e12:.3g} TFLOP/s")
    sides = [*OURS, *TRAINER] if options.sides is None else options.sides
    failed = False
    for task in options.tasks:
        real = (options.hub / SLICES[task][0]).is_dir()
        print(f"\n{task}: lengths {'of the slice' if real else 'drawn'}", flush=True)
        figures = {}
        for name in sides:
            run = child(name, task, options)
            failed |= run is None
            if run is not None:
                figures[name] = run
                print_run(name, run, ceiling["flops"])
        print_ratios(figures)
    return int(failed)


def print_run(name: str, run: dict[str, Any], ceiling: float) -> None:
    """One line of figures."""
    note = "" if run.get("packed", True) or "padded" in name else "  (with padding)"
    print(
        f"{name:<34} {run['tokens']:9.0f} tokens/s {run['examples']:8.1f} examples/s"
        f" {run['flops'] / ceiling:6.1%} MFU {run['mebibytes']:8.0f} MiB{note}",
        flush=True,
    )


def print_ratios(figures: dict[str, dict[str, Any]]) -> None:
    """Ours over each of Trainer's, in examples per second."""
    theirs = [name for name in figures if name in TRAINER]
    for ours in (name for name in figures if name in OURS and theirs):
        rates = ((figures[ours]["examples"] / figures[name]["examples"], name) for name in theirs)
        print(f"{ours}: " + "; ".join(f"{rate:.2f} x {name}" for rate, name in rates), flush=True)


def run_child(options: argparse.Namespace) -> dict[str, Any]:
    """The work of a child process."""
    if options.child == "ceiling":
        return run_ceiling(options)
    run = run_ours if options.child in OURS else run_trainer
    return run(options.child, options.tasks[0], options)


def arguments() -> argparse.Namespace:
    """The command line."""
    hub = Path(__file__).resolve().parents[2] / "shared" / "hub"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--sides", nargs="+", choices=[*OURS, *TRAINER])
    parser.add_argument("--warm", type=int, default=20, help="steps before the clock starts")
    parser.add_argument("--steps", type=int, default=100, help="timed steps")
    parser.add_argument("--scale", type=int, default=1, help="accumulated batches of a step")
    parser.add_argument("--hub", type=Path, default=hub, help="slices of real data")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not options.child:
        import torch

        if not torch.cuda.is_available():
            parser.error("there is no CUDA device; --device cpu --tiny shows that the script runs")
    return options


if __name__ == "__main__":
    sys.exit(main())
