"""Jobs and their work: what waits in a model's queue.

A job is what one call asked for; its works are the pieces that can run in different batches (a text each, say).
"""

import asyncio
import bisect
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hybrid_ai.serving.caller import Caller, Priority

P = TypeVar("P")
R = TypeVar("R")

# Works of one batch are padded to the longest: only works of one class of length go together. A class spans 16 tokens,
# or a sixth: wider ones pad more than batches save, narrower ones make batches of few.
LENGTH_CLASSES = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 1 << 30)


def length_class(cost: int) -> int:
    """The smallest class that holds `cost` tokens."""
    return LENGTH_CLASSES[bisect.bisect_left(LENGTH_CLASSES, cost)]


@dataclass(frozen=True)
class Timing:
    """Where a job's time went, in seconds. `inference` counts a batch once for each of the job's works in it."""

    queue: float
    inference: float


@dataclass(frozen=True)
class Alone(Generic[P, R]):
    """How a single work of up to `cost` is run where nobody else wants the model: on the event loop, so for moments.

    There it does without the way to a thread and back, which takes a good part of what a short text takes itself.
    """

    cost: int
    run: Callable[[P], R]


class Work(Generic[P, R]):
    """One piece of a job."""

    __slots__ = ("cost", "index", "job", "payload")

    def __init__(self, job: "Job[P, R]", index: int, payload: P, cost: int) -> None:
        self.job = job
        self.index = index
        self.payload = payload
        self.cost = cost

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more. A token loop asks at every token."""
        return self.job.cancelled

    def emit(self, event: Any) -> None:
        """Hands an event to the job's caller, from the worker's thread."""
        self.job.emit(event)


class Job(Generic[P, R]):
    """What one call waits for. Made on the event loop; run by worker threads."""

    def __init__(
        self,
        payloads: Sequence[P],
        costs: Sequence[int],
        on_event: Callable[[Any], None] | None,
        caller: Caller,
        priority: Priority,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[R]] = self.loop.create_future()
        self.caller, self.priority = caller, priority
        self.cancelled = False
        self.queued_at = time.perf_counter()
        self.queue_seconds = 0.0
        self.inference_seconds = 0.0
        self.running = 0
        self.size = self.waiting = len(payloads)
        self.cost = sum(costs)
        self.error: BaseException | None = None
        self._on_event = on_event
        self._missing = len(payloads)
        self._results: list[R | None] = [None] * len(payloads)
        self.classes: dict[int, deque[Work[P, R]]] = {}
        for index, (payload, cost) in enumerate(zip(payloads, costs, strict=True)):
            self.classes.setdefault(length_class(cost), deque()).append(Work(self, index, payload, cost))

    @property
    def expired(self) -> bool:
        """Whether its deadline has passed."""
        return time.monotonic() >= self.caller.deadline

    def take(self, limit: int) -> Work[P, R]:
        """Takes a waiting work of that class; there must be one."""
        work = self.classes[limit].popleft()
        if not self.classes[limit]:
            del self.classes[limit]
        self.waiting -= 1
        self.cost -= work.cost
        self.running += 1
        return work

    def emit(self, event: Any) -> None:
        if self._on_event is not None and not self.cancelled:
            self.loop.call_soon_threadsafe(self._on_event, event)

    def finish(self, index: int, result: R, queued: float, inference: float) -> bool:
        """Stores one work's result; returns whether it was the last one."""
        self._results[index] = result
        self.queue_seconds = max(self.queue_seconds, queued)
        self.inference_seconds += inference
        self._missing -= 1
        return self._missing == 0

    def settle(self) -> None:
        """Wakes the caller, with the results or the error. On the event loop."""
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self._results)  # type: ignore[arg-type]  # every result is there


def settle(jobs: Iterable[Job[Any, Any]]) -> None:
    """Wakes the callers of finished jobs from a worker's thread, all of them by one message to the event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any, Any]]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, finished in by_loop.items():
        loop.call_soon_threadsafe(_settle_all, finished)


def fail(jobs: Iterable[Job[Any, Any]], error: BaseException) -> None:
    """Wakes the callers of jobs that ended with an error."""
    jobs = list(jobs)
    for job in jobs:
        job.error = error
    settle(jobs)


def _settle_all(jobs: list[Job[Any, Any]]) -> None:
    for job in jobs:
        job.settle()
