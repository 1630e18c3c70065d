"""`xstilts audit verify` beside sha256sum: `python benchmarks/verify.py`.

Both read the same files of random bytes, in turn, each run in processes of its own: sha256sum by
`xargs`, with as many at a time as there are CPUs. The files lie in the page cache where memory
allows, so it is the hashing that is timed and not the disk.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xstilts.artifacts.publish import publishing

_CHUNK = 1 << 24


def _make(results: Path, total: int, size: int) -> None:
    """Artifacts like checkpoints: weights of random bytes, and a small file beside them."""
    os.chdir(results)
    for number in range(max(1, total // size)):
        with publishing(Path(f"checkpoints/{number}"), {"stage": "finetune"}) as draft:
            with (draft.folder / "model.safetensors").open("wb") as file:
                for start in range(0, size, _CHUNK):
                    file.write(os.urandom(min(_CHUNK, size - start)))
            (draft.folder / "training.json").write_text("{}\n")


def _seconds(command: list[str], text: str = "") -> float:
    start = time.perf_counter()
    subprocess.run(command, input=text, text=True, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print GB/s of each run, and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=10.0, help="of files, in all")
    parser.add_argument("--file", type=float, default=1.0, help="GB of one file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write them; default: TMPDIR")
    options = parser.parse_args()
    home, cpus = Path.cwd(), len(os.sched_getaffinity(0))
    results = Path(tempfile.mkdtemp(prefix="xstilts-benchmark-", dir=options.folder)).resolve()
    try:
        _make(results, int(options.gb * 1e9), int(options.file * 1e9))
        os.chdir(home)
        files = [path for path in results.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e9
        names = "\0".join(map(str, files))
        verify = [sys.executable, "-m", "xstilts.cli", "audit", "verify", "--no-recompute"]
        sums = ["xargs", "-0", "-P", str(cpus), "-n", "1", "sha256sum"]
        ours, theirs = [], []
        for _ in range(options.runs):
            ours.append(size / _seconds([*verify, str(results)]))
            theirs.append(size / _seconds(sums, names))
            print(f"verify {ours[-1]:.2f} GB/s, sha256sum {theirs[-1]:.2f} GB/s", flush=True)
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"{size:.1f} GB in {len(files)} files, {cpus} CPUs: ratio of the medians {ratio:.2f}")
    finally:
        os.chdir(home)
        shutil.rmtree(results)


if __name__ == "__main__":
    main()
