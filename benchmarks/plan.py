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

from xstilts.artifacts.publish import publishing
from xstilts.session import Session
from xstilts.validation import read_yaml

RUNS = 3
#: As Snakemake starts a job's process on a node of a cluster, where it does nothing then.
INSIDE = ["--mode", "subprocess", "--target-files-omit-workdir-adjustment", "--nolock", "--force"]


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
    session.results.mkdir(parents=True)
    os.chdir(session.results)
    for job in session.plan.jobs.values():
        with publishing(Path(job.out), job.spec) as draft:
            for name in job.files:
                (draft.folder / name).touch()
    for out, bundle in session.plan.bundles.items():
        with publishing(Path(out), bundle.index):
            pass
    os.chdir(home)
    touch = ["snakemake", "--touch", "--cores", "1", "--quiet", "all", "--configfile", str(study)]
    subprocess.run(touch, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
            plan = Session.of_file(study, Path.cwd()).plan
            last = plan.of("finetune")[-1].out
            dry = ["snakemake", "-n", "--configfile", str(study)]
            report(f"{path.stem}: nothing done", dry)
            finish(study)
            report(f"{path.stem}: everything done", dry)
            inner = ["snakemake", f"{last}/manifest.json", "-n", "--configfile", str(study)]
            report(f"{path.stem}: one job's own plan", [*inner, *INSIDE, "--allowed-rules", "finetune"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", type=Path)
    given = parser.parse_args().studies
    main(given or [Path("config.yaml"), Path("studies/paper.yaml")])
