"""How long a set of jobs takes on so many GPUs: the critical path, and a simulated run."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True)
class Task:
    """A job as the scheduler sees it.

    Attributes:
        seconds: How long it takes.
        gpus: GPUs that it holds; a task without one takes a CPU slot.
        after: Names of the tasks that must be done before; those that are unknown are done.
    """

    seconds: float
    gpus: int = 0
    after: tuple[str, ...] = ()


def order(tasks: Mapping[str, Task]) -> list[str]:
    """Names of the tasks, each behind those it needs."""
    known = {
        name: [other for other in task.after if other in tasks] for name, task in tasks.items()
    }
    return list(TopologicalSorter(known).static_order())


def tails(tasks: Mapping[str, Task]) -> dict[str, float]:
    """Seconds of the longest chain that begins with each task, itself included."""
    rest = dict.fromkeys(tasks, 0.0)
    for name in reversed(order(tasks)):
        rest[name] += tasks[name].seconds
        for other in tasks[name].after:
            if other in rest:
                rest[other] = max(rest[other], rest[name])
    return rest


def critical_path(tasks: Mapping[str, Task]) -> list[str]:
    """The longest chain of tasks, in its order; empty where there are none."""
    rest = tails(tasks)
    if not rest:
        return []
    followers = _followers(tasks)
    path = [max(rest, key=lambda name: rest[name])]
    while followers[path[-1]]:
        path.append(max(followers[path[-1]], key=lambda name: rest[name]))
    return path


def _followers(tasks: Mapping[str, Task]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for other in dict.fromkeys(task.after):
            if other in found:
                found[other].append(name)
    return found


def makespan(tasks: Mapping[str, Task], gpus: int, cpus: int) -> float:
    """Seconds until all tasks are done, by list scheduling.

    Whenever something is free, the task that may begin and has the longest chain behind it takes it
    (of those that fit). Waiting in a queue, retries and lost nodes are not in it.

    Args:
        tasks: The tasks.
        gpus: GPUs in all.
        cpus: Tasks without a GPU that run at the same time.

    Raises:
        ValueError: If a task needs more GPUs than there are, or there is no CPU slot.
    """
    most = max((task.gpus for task in tasks.values()), default=0)
    if most > gpus or cpus < 1:
        raise ValueError(f"{most} GPUs and a CPU slot are needed, {gpus} and {cpus} are there")
    return _Run(tasks, gpus, cpus).seconds()


class _Run:
    def __init__(self, tasks: Mapping[str, Task], gpus: int, cpus: int) -> None:
        self.tasks, self.gpus, self.cpus = tasks, gpus, cpus
        self.rest, self.followers = tails(tasks), _followers(tasks)
        self.waits = {name: _known(task.after, tasks) for name, task in tasks.items()}
        #: Tasks that may begin, by the GPUs they take: the longest chain first.
        self.ready: dict[int, list[tuple[float, str]]] = {}
        self.running: list[tuple[float, str]] = []

    def seconds(self) -> float:
        now = 0.0
        for name, waits in self.waits.items():
            if not waits:
                self._offer(name)
        self._begin(now)
        while self.running:
            now, name = heapq.heappop(self.running)
            self._end(name)
            while self.running and self.running[0][0] <= now:
                self._end(heapq.heappop(self.running)[1])
            self._begin(now)
        return now

    def _offer(self, name: str) -> None:
        queue = self.ready.setdefault(self.tasks[name].gpus, [])
        heapq.heappush(queue, (-self.rest[name], name))

    def _end(self, name: str) -> None:
        self._free(self.tasks[name].gpus, 1)
        for other in self.followers[name]:
            self.waits[other] -= 1
            if not self.waits[other]:
                self._offer(other)

    def _begin(self, now: float) -> None:
        while True:
            fitting = [queue[0] + (size,) for size, queue in self.ready.items() if self._fits(size)]
            if not fitting:
                return
            _, name, size = min(fitting)
            heapq.heappop(self.ready[size])
            self._free(size, -1)
            heapq.heappush(self.running, (now + self.tasks[name].seconds, name))

    def _fits(self, size: int) -> bool:
        return bool(self.ready[size]) and (size <= self.gpus if size else self.cpus > 0)

    def _free(self, size: int, sign: int) -> None:
        self.gpus += sign * size
        self.cpus += sign * (size == 0)


def _known(names: Iterable[str], tasks: Mapping[str, Task]) -> int:
    """Number of different tasks among some names."""
    return len({name for name in names if name in tasks})
