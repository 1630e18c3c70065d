"""Time and size of a finished study's analysis and report: `python benchmarks/report.py STUDY`.

Each stage is run in a process of its own, into a folder that is removed again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from xstilts.plan import ANALYSIS, REPORT
from xstilts.session import Session

_RUN = (
    "import importlib, json, resource, sys; from pathlib import Path; "
    "module, out = sys.argv[1:]; spec = json.load(sys.stdin); "
    "importlib.import_module(module).run(spec, Path(out)); "
    "print('KiB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def main() -> None:
    """Print one line per stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    session = Session.of_file(parser.parse_args().study, Path.cwd())
    os.chdir(session.results)
    for out, module in (
        (ANALYSIS, "xstilts.analysis.analyse"),
        (REPORT, "xstilts.report.build"),
    ):
        draft, spec = Path(f".benchmark-{out}"), json.dumps(session.plan.jobs[out].spec)
        start = time.perf_counter()
        command = [sys.executable, "-c", _RUN, module, str(draft)]
        done = subprocess.run(command, input=spec, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        files = [path for path in draft.rglob("*") if path.is_file()]
        pages = sum(path.suffix == ".html" for path in files)
        size = sum(path.stat().st_size for path in files) / 1e6
        memory = int(done.stdout.split()[-1]) / 1024
        print(
            f"{out:9} {seconds:6.1f} s {memory:6.0f} MiB {size:7.1f} MB in {len(files)} files, "
            f"{pages} pages"
        )
        shutil.rmtree(draft)


if __name__ == "__main__":
    main()
