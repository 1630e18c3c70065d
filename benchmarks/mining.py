"""Mining beside faiss's exact search: `python benchmarks/mining.py [--rows N] [--runs N] ...`.

faiss makes the two bare searches that mining needs (4 neighbours, both directions). Ours also
scores and pairs. Each run is a process of its own, in turn; what is timed begins with the vectors
in memory (in faiss's index, for faiss).
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

K = 4
NAMES = ("faiss", "xstilts")


def sides(rows: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of two sides [rows, width], and the planted partners of the first half."""
    rng = np.random.default_rng(1)
    source, target = (rng.standard_normal((rows, width), dtype=np.float32) for _ in range(2))
    partner = rng.permutation(rows)[: rows // 2]
    for row, other in enumerate(partner):
        target[other] += source[row]
    for side in (source, target):
        side /= np.sqrt(np.einsum("ij,ij->i", side, side))[:, None]
    return source, target, partner


def search_with_faiss(rows: int, width: int, threads: int) -> dict[str, float]:
    """Seconds of two searches, and the share of planted partners that are nearest."""
    import faiss

    faiss.omp_set_num_threads(threads)
    source, target, partner = sides(rows, width)
    indexes = []
    for side in (source, target):
        indexes.append(faiss.IndexFlatIP(width))
        indexes[-1].add(side)
    start = time.perf_counter()
    _, forward = indexes[1].search(source, K)
    indexes[0].search(target, K)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "found": float((forward[: len(partner), 0] == partner).mean())}


def mine_with_xstilts(rows: int, width: int, threads: int) -> dict[str, float]:
    """Seconds of mining, and the share of planted pairs that are mined."""
    import torch

    from xstilts.evaluation.mining import mine_rows

    torch.set_num_threads(threads)
    source, target, partner = sides(rows, width)
    start = time.perf_counter()
    pairs = mine_rows(source, target, K, device="cpu")
    seconds = time.perf_counter() - start
    mined = np.full(rows, -1)
    mined[pairs.source] = pairs.target
    return {"seconds": seconds, "found": float((mined[: len(partner)] == partner).mean())}


def child(name: str, options: argparse.Namespace) -> dict[str, float]:
    """What a run in a process of its own measured, with its peak MiB."""
    command = [sys.executable, __file__, "--child", name]
    for key in ("rows", "width", "threads"):
        command += [f"--{key}", str(getattr(options, key))]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return json.loads(answer) | {"mebibytes": usage.ru_maxrss / 1024}


def main() -> None:
    """Print a line per run, and the ratio of the fastest runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="vectors of either side")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work = search_with_faiss if options.child == "faiss" else mine_with_xstilts
        print(json.dumps(work(options.rows, options.width, options.threads)))
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for _ in range(options.runs):
        for name in NAMES:
            run = child(name, options)
            runs[name].append(run)
            print(
                f"{name:<8} {run['seconds']:8.2f} s {run['mebibytes']:7.0f} MiB"
                f"   {run['found']:.4f} of the planted pairs found",
                flush=True,
            )
    faiss, ours = (min(run["seconds"] for run in runs[name]) for name in NAMES)
    print(f"ratio of the fastest: {ours / faiss:.3f}")


if __name__ == "__main__":
    main()
