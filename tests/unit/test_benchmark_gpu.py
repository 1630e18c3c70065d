"""The GPU benchmark runs where there is no GPU, and counts what its docstring says."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tiny import settings_of_process
from xstilts.runtime import runtime


@pytest.fixture
def benchmark(repository, tmp_path, monkeypatch):
    path = repository / "benchmarks" / "training_gpu.py"
    spec = importlib.util.spec_from_file_location("training_gpu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings_of_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    runtime.cache_clear()


def options_of(benchmark, monkeypatch, *more: str):
    command = ["x", "--device", "cpu", "--tiny", "--warm", "1", "--steps", "2", "--hub", "nowhere"]
    monkeypatch.setattr(sys, "argv", [*command, *more])
    return benchmark.arguments()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the loop would take the GPU")
@pytest.mark.parametrize("task", ["mnli", "squad"])
@pytest.mark.parametrize("side", ["xstilts", "Trainer, grouped by length"])
def test_a_side_runs_on_a_cpu(benchmark, monkeypatch, capsys, task, side):
    if side not in benchmark.OURS:
        pytest.importorskip("accelerate", reason="Trainer needs accelerate")
    more = ("--child", side, "--tasks", task, "--scale", "2")
    options_of(benchmark, monkeypatch, *more)
    assert benchmark.main() == 0
    run = json.loads(capsys.readouterr().out.splitlines()[-1])
    batch, longest, *_ = benchmark.TASKS[task]
    assert run["examples"] * run["seconds"] == pytest.approx(2 * 2 * batch)  # scale, steps
    assert 8 <= run["tokens"] / run["examples"] <= longest
    assert run["mebibytes"] > 100


def test_work_by_hand(benchmark, monkeypatch):
    options = options_of(benchmark, monkeypatch)
    encoder = AutoModel.from_config(benchmark.config_of("mnli", options), add_pooling_layer=False)
    clock = benchmark.Clock(options)
    for step in range(1, 4):
        clock.step(step)
    clock.marks = {1: 10.0, 3: 12.0}
    lengths = [np.array([9, 9]), np.array([10, 20]), np.array([30, 5])]  # the first is warm-up
    run = benchmark.measured(clock, lengths, encoder, options)
    # A layer of width 64: 4 projections, 128 inner units, 2 LayerNorms.
    layer = 4 * (64 * 64 + 64) + (64 * 128 + 128) + (128 * 64 + 64) + 2 * 2 * 64
    work = 6 * 2 * layer * 65 + 12 * 2 * 64 * (100 + 400 + 900 + 25)
    assert run["flops"] == pytest.approx(work / 2)
    assert run["tokens"] == 32.5
    assert run["examples"] == 2


@pytest.mark.parametrize("task", ["mnli", "squad"])
def test_drawn_lengths_are_like_those_of_the_slices(benchmark, shared, tmp_path, task):
    drawn = benchmark.lengths_of(task, 4000, tmp_path)
    real = benchmark.lengths_of(task, 4000, shared / "hub")
    assert not np.array_equal(drawn, real)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(drawn, share) == pytest.approx(np.quantile(real, share), rel=0.12)
    assert max(drawn.max(), real.max()) <= benchmark.TASKS[task][1]


def test_without_a_gpu_it_says_so(benchmark, monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit):
        benchmark.arguments()
    assert "there is no CUDA device" in capsys.readouterr().err
