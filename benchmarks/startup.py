"""What starting a stage costs: its imports, beside those of torch alone."""

import subprocess
import sys
import time

RUNS = 3
IMPORTS = {
    "(python)": "pass",
    "torch": "import torch",
    "prepare": "import xstilts.data.prepare",
    "tokens": "import xstilts.data.tokens",
    "score": "import xstilts.evaluation.score",
    "finetune": (
        "import xstilts.training.stages;"
        "from transformers.models.xlm_roberta import modeling_xlm_roberta"
    ),
}


def main() -> None:
    """Print the fastest of a few runs for each."""
    for name, code in IMPORTS.items():
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - start)
        print(f"{name:<12} {min(times):6.2f} s")


if __name__ == "__main__":
    main()
