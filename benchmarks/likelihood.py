"""Likelihoods of choices here beside lm-evaluation-harness: examples per second.

Runs in the environment of tests/integration/lm_eval_requirements.txt with `src` on PYTHONPATH: both
sides read the same rows by the same model in the same process, in turn. The rows are those that the
harness's own tasks make of the slices of XCOPA and XNLI at `../shared/hub`, a few of each language;
the model is a Llama of random weights. Both begin with sub-words and end with log-likelihoods, and
may have as many sub-words in a batch, padding included: the harness's rows a batch times the
longest row. Loading, rendering and tokenising are not timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "integration"))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import numpy as np
import torch
from lm_eval.api.registry import get_model
from lm_eval_side import local_tasks
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from xstilts.data.ragged import Ragged, offsets_of
from xstilts.evaluation.likelihood import Answers, Decoder

HUB = Path(os.environ.get("XSTILTS_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "hub"
SLICES = {"xcopa": "cambridgeltl/xcopa", "xnli": "facebook/xnli"}


def questions_of(name: str, examples: int) -> list[list[tuple[str, str]]]:
    """Contexts and continuations of each question, as many of each language."""
    codes = sorted(path.name for path in (HUB / SLICES[name]).iterdir() if path.is_dir())
    tasks = local_tasks(str(HUB), [f"{name}_{code}" for code in codes])
    found = []
    for task in tasks:
        task.build_all_requests(limit=-(-examples // len(codes)), rank=0, world_size=1)
        asked: dict[int, list[tuple[str, str]]] = {}
        for request in task.instances:
            asked.setdefault(request.doc_id, []).append(request.args)
        found += list(asked.values())
    return found


def model_of(options: argparse.Namespace, texts: list[str]) -> tuple[Any, Any]:
    """A Llama of random weights, and a byte-level BPE learnt from the rows."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    symbols = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocabulary,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=symbols,
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>", model_max_length=2048
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        intermediate_size=options.hidden * 8 // 3,
        max_position_embeddings=2048,
    )
    return LlamaForCausalLM(config).eval().to(options.device), tokenizer


def answers_of(questions: list[list[tuple[list[int], list[int]]]]) -> Answers:
    """The rows as our stage of evaluation reads them from a prompts store."""
    rows = [row for question in questions for row in question]
    values = np.array([token for before, after in rows for token in before + after], np.int32)
    lengths = [len(before) + len(after) for before, after in rows]
    starts = np.array([len(before) for before, _ in rows])
    counts = [len(question) for question in questions]
    return Answers(Ragged(values, offsets_of(lengths)), starts, offsets_of(counts))


def seconds(run: Any, device: str) -> tuple[float, Any]:
    """Wall time of a call, and what it returns."""
    start = time.perf_counter()
    found = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def compare(name: str, options: argparse.Namespace) -> None:
    """One line of the table, and the figures of each run."""
    texts = questions_of(name, options.examples)
    flat = [before + after for question in texts for before, after in question]
    model, tokenizer = model_of(options, flat)
    harness = get_model("hf")(
        pretrained=model, tokenizer=tokenizer, batch_size=options.batch, device=options.device
    )
    prefix = [harness.prefix_token_id]
    coded = [
        [
            harness._encode_pair(*pair) if pair[0] else (prefix, harness.tok_encode(pair[1]))
            for pair in question
        ]
        for question in texts
    ]
    rows = [(("", ""), *row) for question in coded for row in question]
    answers = answers_of(coded)
    budget = options.batch * int(answers.rows.lengths.max())
    decoder = Decoder(model, 0, torch.device(options.device), budget)
    ways = {
        "xstilts": lambda: decoder.loglikelihoods(answers),
        "harness": lambda: harness._loglikelihood_tokens(rows, disable_tqdm=True),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for run in range(options.runs + 1):
        for way in sorted(ways, reverse=bool(run % 2)):
            took, found = seconds(ways[way], options.device)
            if run:  # the first run warms up
                times[way].append(took)
            elif way == "harness":
                theirs = np.array([value for value, _ in found])
            else:
                ours = found
    ratios = [b / a for a, b in zip(times["xstilts"], times["harness"], strict=True)]
    speed = {way: len(texts) / statistics.median(took) for way, took in times.items()}
    mean = answers.rows.lengths.mean()
    print(
        f"| {name} | {len(texts)} | {mean:.0f} | {budget} | {speed['xstilts']:.1f} | "
        f"{speed['harness']:.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-"
        f"{max(ratios):.2f}) | {np.abs(ours - theirs).max():.0e} |",
        flush=True,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16, help="the harness's rows a batch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", nargs="+", default=list(SLICES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        "| rows | examples | sub-words a row | sub-words a batch | here | harness | ratio | gap |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.tasks:
        compare(name, options)


if __name__ == "__main__":
    main()
