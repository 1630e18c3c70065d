"""The cluster as a fixture: started once, stopped at the end, also after Ctrl-C or SIGTERM."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from studies import LARGE, LONG, SHORT, Study, made

from cluster import Cluster, missing

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two idle nodes; skips where SLURM is not installed and cannot be."""
    _install()
    folder = Path(tempfile.mkdtemp(prefix="xstilts-cluster-"))  # a socket's path must be short
    cluster = Cluster(folder)
    # SIGTERM would end the process without the teardown.
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("stopped by SIGTERM"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def faults(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Study]:
    """The study that faults are injected into; where a test wants its trainings, they begin now."""
    study = Study.of(HERE / "faults.yaml", tmp_path_factory.mktemp("untouched"))
    if any("untouched" in getattr(item, "fixturenames", ()) for item in request.session.items):
        study.here(*map(made, (SHORT, LONG, LARGE)), "--quiet", "all")
    yield study
    study.stop()


def _install() -> None:
    if os.geteuid() != 0:
        pytest.skip("the SLURM of these tests is started by root")
    if missing() and not shutil.which("apt-get"):
        pytest.skip(f"not installed: {', '.join(missing())}; and there is no apt-get")
    if missing():
        done = subprocess.run([HERE / "install.sh"], capture_output=True, text=True, check=False)
        if done.returncode or missing():
            pytest.skip(f"not installed: {', '.join(missing())}; apt-get says: {done.stderr}")
