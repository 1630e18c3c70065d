"""Wall time and peak memory of planning a study: `python benchmarks/plan.py [STUDY ...]`."""

import os
import subprocess
import sys
import time

RUNS = 3


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


def main(studies: list[str]) -> None:
    """Print a line per study and one for the bare start of Snakemake."""
    commands = {study: ["snakemake", "-n", "--configfile", study] for study in studies}
    for name, command in {"(bare start)": ["snakemake", "--version"], **commands}.items():
        seconds, mebibytes = measure(command)
        print(f"{name:<24} {seconds:6.2f} s {mebibytes:7.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:] or ["config.yaml", "studies/paper.yaml"])
