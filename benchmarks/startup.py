"""What a stage costs before and behind its work, by phases, of one checkout or of several in turn.

A tiny model (tests/tiny.py) is fine-tuned for two steps by `xstilts stage finetune` in a process of
its own. What is imported on the way is timed by a finder; the other marks are the stage's own
progress lines. Below it: seconds until other stages have imported what they need.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
OUT = "finetuned"
PHASES = (
    "import torch",
    "import torch's compiler",
    "import transformers",
    "python, data, model",
    "first step",
    "rest of the stage",
    "end of the process",
)
IMPORTS = {
    "(python)": "pass",
    "torch": "import torch",
    "prepare": "import xstilts.data.prepare",
    "tokens": "import xstilts.data.tokens",
    "score": "import xstilts.evaluation.score",
}
#: Makes the world and prints the spec; run once a checkout, with its own tests/tiny.py.
WORLD = """
import json, tiny
tiny.write_world()
task = {"sequence_classification": "sequence_classification"}
print(json.dumps(tiny.training_spec(task, max_steps=2, evaluate_every=2)))
"""
#: The stage with its marks: imports are timed where they are outermost; torch's compiler always.
CHILD = """
import importlib.util, json, sys, time
start, spec, marks = float(sys.argv[1]), sys.argv[2], {}
spent, stack = {}, []

def group(name):
    if name.startswith(("torch._dynamo", "torch._inductor")):
        return "import torch's compiler"
    top = name.partition(".")[0]
    return f"import {top}" if top in ("torch", "transformers") and not stack else None

class Watch:
    def __init__(self):
        self.busy = set()
    def find_spec(self, name, path=None, target=None):
        phase = group(name)
        if phase is None or name in self.busy or stack and stack[-1][0] == phase:
            return None
        self.busy.add(name)
        found = importlib.util.find_spec(name)
        if found is None or found.loader is None:
            return found
        execute = found.loader.exec_module
        def timed(module):
            began = time.perf_counter()
            stack.append([phase, 0.0])
            try:
                execute(module)
            finally:
                whole = time.perf_counter() - began
                inner = stack.pop()[1]
                spent[phase] = spent.get(phase, 0.0) + whole - inner
                if stack:
                    stack[-1][1] += whole
        found.loader.exec_module = timed
        return found

sys.meta_path.insert(0, Watch())
from xstilts.cli import main
from xstilts.progress import Progress

def mark(name, method):
    def marked(self, *args, **kwargs):
        marks.setdefault(name, (time.time() - start, sum(spent.values())))
        return method(self, *args, **kwargs)
    return marked

Progress.__init__ = mark("ready", Progress.__init__)
Progress.step = mark("step", Progress.step)
Progress.done = mark("done", Progress.done)
status = main(["stage", "finetune", "--out", sys.argv[3], "--spec", spec])
print(json.dumps({"marks": marks, "spent": spent}))
sys.exit(status)
"""


def environment(checkout: Path) -> dict[str, str]:
    """The environment of a child that runs a checkout's package."""
    path = os.pathsep.join([str(checkout / "src"), str(checkout / "tests")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def run_once(checkout: Path, folder: Path, spec: str) -> dict[str, float]:
    """Seconds of each phase of one stage."""
    for name in (OUT, "state"):
        shutil.rmtree(folder / name, ignore_errors=True)
    before_it, start = cpu_seconds(), time.time()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(start), spec, OUT],
        cwd=folder,
        env=environment(checkout),
        check=True,
        capture_output=True,
        text=True,
    )
    wall = time.time() - start
    found = json.loads(done.stdout.splitlines()[-1])
    (ready, before), (step, until), (end, _) = (
        found["marks"][name] for name in ("ready", "step", "done")
    )
    phases = {**dict.fromkeys(PHASES, 0.0), **found["spent"]}
    phases["python, data, model"] = ready - before
    phases["first step"] = step - ready - (until - before)
    phases["rest of the stage"] = end - step
    phases["end of the process"] = wall - end
    cpu = cpu_seconds() - before_it
    return phases | {"until the first step": step, "whole": wall, "whole, CPU time": cpu}


def cpu_seconds() -> float:
    """CPU time of all finished children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stages(checkouts: list[Path], runs: int) -> None:
    """Print the median of every phase, the checkouts in turn."""
    with tempfile.TemporaryDirectory() as name:
        worlds = []
        for number, checkout in enumerate(checkouts):
            folder = Path(name) / str(number)
            folder.mkdir()
            made = subprocess.run(
                [sys.executable, "-c", WORLD],
                cwd=folder,
                env=environment(checkout),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            worlds.append((checkout, folder, made.stdout))
        for world in worlds:
            run_once(*world)  # byte code and the page cache
        rounds = [[run_once(*world) for world in worlds] for _ in range(runs)]
    print(f"seconds, median of {runs} (fastest to slowest)\n")
    for number, checkout in enumerate(checkouts):
        print(f"  {number + 1}: {checkout}")
    for phase in (*PHASES, "until the first step", "whole", "whole, CPU time"):
        cells = []
        for number in range(len(checkouts)):
            times = [found[number][phase] for found in rounds]
            middle = statistics.median(times)
            cells.append(f"{middle:6.2f} ({min(times):.2f} to {max(times):.2f})")
        print(f"{phase:<24} " + "  ".join(f"{cell:<24}" for cell in cells).rstrip())


def imports(runs: int) -> None:
    """Print the median time of the imports of other stages."""
    for name, code in IMPORTS.items():
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], env=environment(HERE), check=True)
            times.append(time.perf_counter() - start)
        print(f"{name:<24} {statistics.median(times):6.2f}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, help="default: the one of this script")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    stages([path.resolve() for path in options.checkouts] or [HERE], options.runs)
    print("\nimports of other stages")
    imports(options.runs)


if __name__ == "__main__":
    main()
