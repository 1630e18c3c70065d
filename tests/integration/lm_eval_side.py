"""The other side of test_lm_eval.py; runs in lm-evaluation-harness's own environment.

Arguments: the model's folder, a mirror of the Hub, the file to write, the tasks.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

#: The harness's file of a task, and its data, by the beginning of the task's name.
TASKS = {
    "xcopa": ("xcopa/default_{}.yaml", "cambridgeltl/xcopa"),
    "xnli": ("xnli/xnli_{}.yaml", "facebook/xnli"),
    "paws": ("paws-x/paws_{}.yaml", "google-research-datasets/paws-x"),
}


def local_tasks(mirror: str, names: Sequence[str]) -> list[Any]:
    """The harness's own tasks; only the place of the data and the split are others.

    Args:
        mirror: Data in the Hub's layout: there is no network.
        names: Tasks such as `xnli_sw`.
    """
    manager, found = TaskManager(include_defaults=False), []
    for name in names:
        kind, language = name.split("_")
        own, data = TASKS[kind]
        changed = {"dataset_path": f"{mirror}/{data}", "test_split": "test", "training_split": None}
        path = Path(lm_eval.__file__).parent / "tasks" / own.format(language)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump({"include": str(path), **changed}, file)
            file.flush()
            found += manager.load([file.name])["tasks"].values()
    return found


def main(model: str, mirror: str, out: str, *names: str) -> None:
    """Evaluate, and write the log-likelihoods and the accuracy of each task."""
    found = lm_eval.simple_evaluate(
        "hf",
        # Summed in single precision, a likelihood of -2000 is a multiple of 1.2e-4.
        model_args={"pretrained": model, "dtype": "float32", "softmax_dtype": "float64"},
        tasks=local_tasks(mirror, names),
        task_manager=TaskManager(include_defaults=False),
        batch_size=16,
        device="cpu",
        log_samples=True,
        bootstrap_iters=0,
    )
    content = {
        task: {
            "accuracy": found["results"][task]["acc,none"],
            "loglikelihoods": [
                [value for value, _ in sample["filtered_resps"]]
                for sample in sorted(samples, key=lambda sample: sample["doc_id"])
            ],
        }
        for task, samples in found["samples"].items()
    }
    Path(out).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
