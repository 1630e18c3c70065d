"""Trainings killed by SIGKILL at random moments end in the bytes of one that nobody touched.

`python -m pytest -m slow -s tests/integration/test_kills.py` prints the table.
"""

import json
import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tiny import (
    FORMATS,
    MLM,
    SETTINGS,
    TEXT,
    run_stage,
    settings_of_process,
    training_spec,
    write_base,
    write_tokens,
    write_world,
)
from tiny_decoder import BASE, LORA, pretraining_spec, prompt_spec, write_prompts
from xstilts.artifacts.manifest import read_manifest
from xstilts.runtime import runtime

pytestmark = pytest.mark.slow

KILLS, STEPS = 10, 40
OUT = Path("checkpoints/out")
#: Every step is saved, so that many moments lie within a save; nothing is learnt from random data.
PROCESS = {"save_seconds": 0.0, "on_collapse": "report"}
USUAL = {"max_steps": STEPS, "evaluate_every": 7, "micro_batch_tokens": 80, "negatives": 4}
DECODERS = ("causal_lm", "prompts", "adapters")
NAMES = [*FORMATS, "answer_retrieval", "masked_lm", "all of them, and text", *DECODERS]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["transformers.models.xlm_roberta.modeling_xlm_roberta"])


def specs() -> dict[str, dict]:
    """One training of each format, one of them all with text beside them, and a pretraining."""
    names = [*FORMATS, "answer_retrieval"]
    found = {name: training_spec({name: name}, **USUAL) for name in names}
    found["all of them, and text"] = training_spec({name: name for name in names}, TEXT, **USUAL)
    size = {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 24}
    found["masked_lm"] = {
        "stage": "pretrain",
        "model": {"architecture": "xlm-roberta", "scratch": size, "max_length": 16},
        "seed": 1,
        "settings": SETTINGS | USUAL,
        "mlm": MLM,
        "inputs": {"tokens": TEXT},
    }
    found["causal_lm"] = pretraining_spec(**USUAL)
    found["prompts"] = prompt_spec(text=True, **USUAL)
    found["adapters"] = prompt_spec(text=True, lora=LORA, **USUAL)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder, before = tmp_path_factory.mktemp("kills"), Path.cwd()
    os.chdir(folder)
    write_world()
    write_tokens("tokens/answer_retrieval", "answer_retrieval")
    write_base(BASE, "llama")
    write_prompts("tokens/nli")
    write_prompts("tokens/qa", 1)
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def here(world, monkeypatch):
    monkeypatch.chdir(world)
    settings_of_process(monkeypatch, json.dumps(PROCESS))
    yield
    runtime.cache_clear()


def start(world: Path, spec: dict, out: Path):
    nobody = (-1, signal.SIGKILL)
    arguments = (world, spec, str(out), json.dumps(PROCESS), nobody)
    child = CONTEXT.Process(target=run_stage, args=arguments)
    child.start()
    return child


def in_state(out: Path, pattern: str) -> list[Path]:
    """Files of a training's state; none where the training removes it at this very moment."""
    with suppress(FileNotFoundError):
        return list(Path("state", out).glob(pattern))
    return []


def saved_step(out: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in in_state(out, "*/step-*")), default=0)


def killed(world: Path, spec: dict, out: Path, rng: random.Random, seconds: float, number: int):
    """Kill a training; every third one as soon as a save has begun.

    Returns:
        The last saved step, and whether a half-written one lay beside it.
    """
    child = start(world, spec, out)
    while not in_state(out, "*/step-*") and child.is_alive():
        time.sleep(0.001)
    wait = rng.uniform(0, seconds)
    limit = time.monotonic() + wait
    while child.is_alive() and time.monotonic() < limit:
        time.sleep(0.001)
    while number % 3 == 2 and child.is_alive():
        if in_state(out, "*/.step-*.tmp"):
            break
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    return saved_step(out), bool(in_state(out, "*/.step-*.tmp")), child.exitcode


@pytest.mark.parametrize("name", NAMES)
def test_killed_anywhere_it_ends_in_the_same_bytes(world, name):
    spec, rng = specs()[name], random.Random(name)
    place = name.replace(" ", "-")
    straight = Path(f"straight/{place}")
    begun = time.monotonic()
    child = start(world, spec, straight)
    child.join()
    assert child.exitcode == 0
    seconds = (time.monotonic() - begun) * 0.7
    wanted = read_manifest(straight).files
    seen = []
    while len(seen) < KILLS:
        out = Path(f"killed/{place}-{len(seen)}")
        step, torn, status = killed(world, spec, out, rng, seconds, len(seen))
        if status == 0:
            seconds *= 0.8  # it was faster than the signal
            continue
        again = start(world, spec, out)
        again.join()
        assert again.exitcode == 0
        assert read_manifest(out).files == wanted
        seen.append((step, torn))
    steps = " ".join(f"{step}{'*' if torn else ''}" for step, torn in sorted(seen))
    weights = next(file for file in wanted if file.endswith("model.safetensors"))
    sha256 = wanted[weights]["sha256"][:16]
    print(f"\n| {name} | {KILLS} of {KILLS} | {steps} | {sha256} |")
    assert any(torn for _, torn in seen)
