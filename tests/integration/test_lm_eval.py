"""Agreement with lm-evaluation-harness 0.4.13: the same model, rows and templates.

Our side is the whole way of a study: fetched, prepared, rendered, read and scored by its stages.
The other side runs in an environment of its own, made once in pytest's cache from
lm_eval_requirements.txt; `XSTILTS_LM_EVAL` may name the Python of one that is there already.
A few languages of every script are asked for; XSTILTS_ALL_LANGUAGES=1 asks for all 33, which takes
ten minutes.
"""

import json
import os
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from xstilts.cli import run_stage
from xstilts.runtime import VARIABLE, runtime
from xstilts.session import Session

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "lm_eval_requirements.txt"
ALL = bool(os.environ.get("XSTILTS_ALL_LANGUAGES"))
#: Languages of each target, and the examples that the slices have of each.
ASKED: dict[str, tuple[list[str], int]] = {
    "xcopa": (["qu", "ta", "th", "zh"], 150),
    "xnli": (["ar", "de", "en", "th", "zh"], 250),
    "pawsx": (["de", "en", "ja", "zh"], 150),
}
#: Targets, what the harness calls their tasks, and its order of their choices.
TARGETS = {
    "xcopa": ("xcopa", None),
    "xnli": ("xnli", ["entailment", "neutral", "contradiction"]),
    "pawsx": ("paws", ["0", "1"]),
}
STAGES = ("fetch", "prepare", "fetch_model", "tokenizer", "prompts", "testset", "evaluate", "score")


@pytest.fixture(scope="session")
def harness(request: pytest.FixtureRequest) -> str:
    """Python of an environment with lm-evaluation-harness."""
    if named := os.environ.get("XSTILTS_LM_EVAL"):
        return named
    folder = request.config.cache.mkdir("lm_eval") / "venv"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists() or ready.read_text() != REQUIREMENTS.read_text():
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"lm-evaluation-harness cannot be installed: {done.stderr[-500:]}")
        ready.write_text(REQUIREMENTS.read_text())
    return str(python)


def write_model(folder: Path, texts: list[str], *, begins: bool) -> None:
    """A llama with random weights and a BPE of bytes, as a repository of the Hub.

    Args:
        folder: Where to.
        texts: What the BPE is learnt from.
        begins: Whether the tokenizer puts `<s>` before every text, as Llama's, or not, as Qwen's.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=6000, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet
    )
    bpe.train_from_iterator(texts, trainer)
    if begins:
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    named = {"pad_token": "<pad>", "eos_token": "</s>"} | ({"bos_token": "<s>"} if begins else {})
    PreTrainedTokenizerFast(tokenizer_object=bpe, **named).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    size |= {"intermediate_size": 128, "max_position_embeddings": 1024}
    ids = {"vocab_size": bpe.get_vocab_size(), "pad_token_id": 0, "eos_token_id": 2}
    config = LlamaConfig(**size, **ids, bos_token_id=1, initializer_range=0.1)
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(
    scope="module",
    params=[(True, list(TARGETS)), (False, ["xcopa"])],
    ids=["with a beginning", "without"],
)
def asked(request: pytest.FixtureRequest) -> tuple[bool, list[str]]:
    """Whether the tokenizer begins a text with a token of its own, and the targets."""
    found: tuple[bool, list[str]] = request.param
    return found


@pytest.fixture(scope="module")
def mirror(
    asked: tuple[bool, list[str]], shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The real rows and the model in the Hub's layout."""
    folder = tmp_path_factory.mktemp("mirror")
    for owner in (shared / "hub").iterdir():
        if owner.is_dir():
            (folder / owner.name).symlink_to(owner)
    texts: list[str] = []
    for name in ("cambridgeltl/xcopa", "facebook/xnli"):
        for path in sorted((shared / "hub" / name).glob("*/validation-*.parquet")):
            texts += pq.read_table(path, columns=["premise"])["premise"].to_pylist()
    write_model(folder / "tests" / "tiny-llama", texts, begins=asked[0])
    return folder


@pytest.fixture(scope="module")
def ours(
    asked: tuple[bool, list[str]], mirror: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    """A finished study: its evaluation and scores, in words of the languages."""
    root = tmp_path_factory.mktemp("study")
    row = {"title": "Tiny", "architecture": "llama", "hub": "tests/tiny-llama", "layers": 2}
    row |= {"max_length": 1024, "retrieval_layer": 1, "licence": "CC0-1.0"}
    (root / "rows.yaml").write_text(yaml.safe_dump({"models": {"tiny-llama": row}}))
    study = {"study": "agreement", "mirror": str(mirror), "registry": ["rows.yaml"]}
    study |= {"lock": "lock.json", "models": ["tiny-llama"], "recipes": ["none"], "seeds": [1]}
    targets = {name: {} if ALL else {"languages": ASKED[name][0]} for name in asked[1]}
    study |= {"targets": targets, "languages": "all", "transferability": None}
    study |= {"prompting": {"words": "target", "main": "sum"}}
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    session = Session.of_config(study, str(root / "study.yaml"), root)
    session.results.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(session.results)
        patch.setenv(VARIABLE, session.runtime_json)
        patch.setattr(sys, "meta_path", [*sys.meta_path])
        runtime.cache_clear()
        for stage in STAGES:
            for job in session.plan.of(stage):
                run_stage(stage, job.spec, Path(job.out))
        yield session
    runtime.cache_clear()


@pytest.fixture(scope="module")
def theirs(
    harness: str, mirror: Path, ours: Session, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the harness finds, by its task."""
    folder = tmp_path_factory.mktemp("harness")
    tasks = [
        f"{TARGETS[job.spec['target']][0]}_{language}"
        for job in ours.plan.of("score")
        for language in job.spec["languages"]
    ]
    names = ("HF_", "XSTILTS_", "PYTHON")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(names)}
    clean |= {"HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    model, out = mirror / "tests" / "tiny-llama", folder / "found.json"
    command = [harness, HERE / "lm_eval_side.py", model, mirror, out, *tasks]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_loglikelihoods_and_accuracies_agree(ours: Session, theirs: dict[str, Any]) -> None:
    compared, worst = Counter[str](), 0.0
    for job in ours.plan.of("score"):
        prefix, order = TARGETS[job.spec["target"]]
        scores = json.loads((Path(job.out) / "scores.json").read_text(encoding="utf-8"))
        values = {(row["language"], row["metric"]): row["value"] for row in scores["rows"]}
        for language in job.spec["languages"]:
            wanted = theirs[f"{prefix}_{language}"]
            path = Path(job.spec["inputs"]["predictions"]) / f"{language}.jsonl"
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            found = np.array([line["loglikelihood"] for line in lines])
            if order:
                found = found[:, [labels_of(ours, job.spec["target"]).index(x) for x in order]]
            difference = np.abs(found - np.array(wanted["loglikelihoods"])).max()
            worst = max(worst, float(difference))
            assert difference < 1e-4, (job.spec["target"], language)
            for metric in ("accuracy", "accuracy_sum"):
                assert values[language, metric] == pytest.approx(100 * wanted["accuracy"], abs=1e-9)
            compared[job.spec["target"]] += len(lines)
    print(f"largest difference {worst:.1e} over {dict(compared)}")
    numbers = {job.spec["target"]: len(job.spec["languages"]) for job in ours.plan.of("score")}
    assert dict(compared) == {name: count * ASKED[name][1] for name, count in numbers.items()}
    assert sum(numbers.values()) >= 4


def labels_of(session: Session, target: str) -> list[str]:
    """Names of a target's labels, in the order of its choices."""
    return list(session.registry.datasets[session.registry.targets[target].dataset].labels or ())
