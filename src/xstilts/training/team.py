"""Several processes, one GPU each, as one training: data parallel.

The processes find each other by torchrun's environment variables (RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT). Where nobody has set them, a stage starts `processes` of itself. All see
the same global batches; each takes every n-th part of one, and sums of losses, terms and gradients
are added up before anything is divided, so that what is computed does not depend on their number
but for the order of floating-point sums.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xstilts.errors import InputError
from xstilts.runtime import runtime

T = TypeVar("T")
#: Gradients are added up in pieces of so many numbers.
_PIECE = 2**25
#: Seconds that the others have to end by themselves when one has ended badly.
_GRACE = 10.0


@dataclass(frozen=True)
class Team:
    """This process among those of its training.

    Attributes:
        rank: Its number; 0 alone writes.
        size: How many there are.
        device: Where its tensors are.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def own(self, parts: Sequence[T]) -> list[tuple[int, T]]:
        """The parts of a batch that this process takes, with their numbers."""
        return list(enumerate(parts))[self.rank :: self.size]

    def sums(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def gathered(self, value: T) -> list[T]:
        """One value of every process."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes; a process without one has zeros."""
        if self.size == 1:
            return
        there = torch.tensor([p.grad is not None for p in parameters], device=self.device).int()
        torch.distributed.all_reduce(there)
        wanted = [p for p, count in zip(parameters, there.tolist(), strict=True) if count]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for piece in _pieces([p.grad for p in wanted if p.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in piece])
            torch.distributed.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in piece])
            for gradient, part in zip(piece, parts, strict=True):
                gradient.copy_(part.view_as(gradient))


def _pieces(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    piece: list[Tensor] = []
    for gradient in gradients:
        piece.append(gradient)
        if sum(part.numel() for part in piece) >= _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def alone() -> Team:
    """A training of one process, on the GPU that it sees, if there is one."""
    return Team(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def together(run: Callable[[Team], None], again: Callable[[], None]) -> None:
    """Run a training in as many processes as `runtime().processes` says, or torchrun started.

    Args:
        run: The training, as one process of the team runs it.
        again: A function that can be pickled and ends in this function with the same `run`; it is
            called in the processes that are started here.

    Raises:
        InputError: If there are fewer GPUs than processes.
        SystemExit: With the status of the first process that ended badly.
    """
    if "WORLD_SIZE" in os.environ:
        _join(run)
    elif runtime().processes == 1:
        run(alone())
    else:
        _start(runtime().processes, again)


def _join(run: Callable[[Team], None]) -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(
        backend, rank=rank, world_size=size, init_method=_meeting()
    )
    try:
        run(Team(rank, size, device))
    finally:
        torch.distributed.destroy_process_group()


def _meeting() -> str:
    """Where the processes meet: a file where they were started here, else as torchrun says."""
    return os.environ.get("XSTILTS_MEETING", "env://")


def _start(number: int, again: Callable[[], None]) -> None:
    if torch.cuda.is_available() and torch.cuda.device_count() < number:
        raise InputError(
            "processes",
            "there are fewer GPUs than processes of a training",
            expected=f"{number} GPUs",
            found=str(torch.cuda.device_count()),
            hint="Ask for as many GPUs per job, or lower the study's processes",
        )
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="xstilts-") as folder:
        meeting = f"file://{Path(folder) / 'meeting'}"
        crew = [
            context.Process(target=_crew_member, args=(rank, number, meeting, again))
            for rank in range(number)
        ]
        for process in crew:
            process.start()
        status = _wait(crew)
    if status:
        raise SystemExit(status)


def _crew_member(rank: int, size: int, meeting: str, again: Callable[[], None]) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "XSTILTS_MEETING": meeting}
    os.environ.update({name: str(value) for name, value in own.items()})
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")  # all are on this machine
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        again()
    except InputError as error:
        if rank == 0:
            print(f"xstilts stage: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _die_with_parent() -> None:
    """A killed parent cannot stop its processes, and they would train on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _wait(crew: Sequence[Any]) -> int:
    """Status of the team: 0, or that of the first process that ended badly."""

    def pass_on(number: int, _: Any) -> None:
        for process in crew:
            if process.is_alive():
                os.kill(process.pid, number)

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        while all(process.exitcode in (None, 0) for process in crew):
            if all(process.exitcode == 0 for process in crew):
                return 0
            crew[0].join(0.05)
            time.sleep(0.05)
        return _end(crew)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(crew: Sequence[Any]) -> int:
    """Give the others a moment, then stop them; the lowest number's bad status is the team's."""
    first = next(process.exitcode for process in crew if process.exitcode not in (None, 0))
    limit = time.monotonic() + _GRACE
    for process in crew:
        process.join(max(0.0, limit - time.monotonic()))
    for process in crew:
        if process.is_alive():
            process.kill()
            process.join()
    bad: list[int] = [process.exitcode for process in crew if process.exitcode not in (0, None)]
    chosen: int = next((code for code in bad if code > 0), first)
    return chosen if chosen > 0 else 128 - chosen
