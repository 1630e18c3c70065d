"""Wall time and peak memory of planning a study: `python benchmarks/plan.py [STUDY ...]`.

Each study is planned three ways: nothing done; everything done; one job of a cluster, whose process
reads the Snakefile and plans its own target only. "Done" is a results folder with the real manifest
of each artifact and bundle, files of no content beside them, and Snakemake's own metadata, which
`snakemake --touch` writes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files
from xstilts.artifacts.publish import input_manifests
from xstilts.artifacts.spec import Spec
from xstilts.session import Session
from xstilts.validation import read_yaml

RUNS = 3
#: As Snakemake starts the process of a job on a node of a cluster.
INSIDE = ["--mode", "subprocess", "--force", "--nolock", "--ignore-incomplete"]
INSIDE += ["--target-files-omit-workdir-adjustment", "--max-inventory-time", "0"]


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MiB of a command; the fastest of a few runs."""
    best = (float("inf"), 0.0)
    for _ in range(RUNS):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        best = min(best, (time.perf_counter() - start, usage.ru_maxrss / 1024))
    return best


def moved(study: Path, results: Path) -> Path:
    """A copy of a study whose results go elsewhere."""
    path = results / study.name
    path.write_text(yaml.safe_dump(read_yaml(study) | {"results": str(results)}, sort_keys=False))
    return path


def finish(study: Path) -> None:
    """Write what a finished run leaves, but for the content of files."""
    session = Session.of_file(study, Path.cwd())
    home = Path.cwd()
    session.results.mkdir(parents=True, exist_ok=True)
    os.chdir(session.results)
    for job in session.plan.jobs.values():
        _write(Path(job.out), job.spec, job.files)
    for out, bundle in session.plan.bundles.items():
        _write(Path(out), bundle.index, ())
    os.chdir(home)
    command = [sys.executable, "-c", _TOUCH, "--touch", "--forceall", "--no-hooks", "--cores", "1"]
    subprocess.run(
        [*command, "--quiet", "all", "--configfile", str(study)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


#: Snakemake sleeps for a tenth of a second after each touched job.
_TOUCH = """
from snakemake.cli import main
from snakemake.executors import touch
touch.Executor.SLEEPING_TIME = 0
main()
"""


def _write(out: Path, spec: Spec, files: tuple[str, ...]) -> None:
    """An artifact of empty files; `publishing` would sync each of thousands to disk."""
    out.mkdir(parents=True)
    for name in files:
        (out / name).touch()
    made = Manifest(out.as_posix(), spec, input_manifests(spec), describe_files(out))
    (out / MANIFEST).write_text(made.to_json(), encoding="utf-8")


def report(name: str, command: list[str]) -> None:
    """Measure and print a line."""
    seconds, mebibytes = measure(command)
    print(f"{name:<32} {seconds:6.2f} s {mebibytes:7.0f} MiB", flush=True)


def main(studies: list[Path]) -> None:
    """Print a line for the bare start of Snakemake and three per study."""
    report("(bare start)", ["snakemake", "--version"])
    for path in studies:
        with tempfile.TemporaryDirectory() as folder:
            study = moved(path, Path(folder))
            jobs = Session.of_file(study, Path.cwd()).plan.of("finetune")
            dry = ["snakemake", "-n", "--configfile", str(study)]
            report(f"{path.stem}: nothing done", dry)
            finish(study)
            report(f"{path.stem}: everything done", dry)
            _, model, recipe, seed, training = jobs[-1].out.split("/")
            wildcards = f"model={model},recipe={recipe},seed={seed[5:]},training={training}"
            target = ["--target-jobs", f"finetune:{wildcards}", "--allowed-rules", "finetune"]
            report(f"{path.stem}: one job's process", [*dry, *target, *INSIDE])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", type=Path)
    given = parser.parse_args().studies
    main(given or [Path("config.yaml"), Path("studies/paper.yaml")])
