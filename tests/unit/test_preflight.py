"""What is checked before a job is submitted; tests/cluster asks a real SLURM."""

from pathlib import Path

import pytest

from xstilts.cluster import preflight
from xstilts.cluster.settings import read_cluster
from xstilts.errors import InputError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("00:30:00", 30),
        ("2-00:00:00", 2880),
        ("1-12:30:30", 2190.5),
        ("UNLIMITED", None),
    ],
)
def test_minutes(text, wanted):
    assert preflight.minutes(text) == wanted


@pytest.mark.parametrize(
    ("gres", "kinds"),
    [
        ("gpu:a100:4(S:0-1)", {"a100"}),
        ("gpu:4", {""}),
        ("gpu", {""}),
        ("gpu:h100:8(S:0-3),nvme:1", {"h100"}),
        ("gpu:a100:2,gpu:v100:2", {"a100", "v100"}),
        ("(null)", set()),
        ("shard:4", set()),
    ],
)
def test_kinds_of_gpu(gres, kinds):
    assert preflight.gpu_kinds(gres) == kinds


def test_without_slurm(monkeypatch, tmp_path, repository):
    cluster = read_cluster(repository / "workflow/profiles/slurm/cluster.yaml")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no command 'sbatch'.*workflow/profiles/local"):
        preflight.check_cluster(cluster, "cluster.yaml", gpus=True)


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "home"
    blocked.write_text("a file")
    monkeypatch.setenv("HOME", str(blocked))
    with pytest.raises(InputError, match=r"home: nothing can be written there.*XDG_CACHE_HOME"):
        preflight.check_folders(tmp_path / "results", 90)


def test_advice_on_a_slow_file_system(monkeypatch, tmp_path):
    assert preflight.check_folders(tmp_path, 5) == []
    monkeypatch.setattr(preflight, "seconds_of_a_file", lambda folder: 0.4)
    (line,) = preflight.check_folders(tmp_path, 5)
    assert "takes 0.40 s" in line
    assert "`latency-wait: 5`" in line
    assert preflight.check_folders(tmp_path, 90) == []
    assert not list(Path(tmp_path).iterdir())  # nothing is left behind
