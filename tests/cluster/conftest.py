import pytest

from cluster import Cluster


def pytest_configure(config):
    config.addinivalue_line("markers", "cluster: needs a SLURM")


@pytest.fixture(scope="session")
def cluster():
    return Cluster()
