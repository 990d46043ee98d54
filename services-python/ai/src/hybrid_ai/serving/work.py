"""Jobs and their work: what waits in a model's queue.

A job is what one call asked for; its works are the pieces that can run in different batches (a text each, say).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

P = TypeVar("P")
R = TypeVar("R")

# Works of one batch are padded to the longest: only works of one class of length go together.
LENGTH_CLASSES = (32, 64, 128, 256, 1 << 30)


def length_class(cost: int) -> int:
    """The smallest class that holds `cost` tokens."""
    return next(limit for limit in LENGTH_CLASSES if cost <= limit)


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

    def __init__(self, payloads: Sequence[P], costs: Sequence[int], on_event: Callable[[Any], None] | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[R]] = self.loop.create_future()
        self.cancelled = False
        self.queued_at = time.perf_counter()
        self.queue_seconds = 0.0
        self.inference_seconds = 0.0
        self.running = 0
        self.waiting = len(payloads)
        self._on_event = on_event
        self._missing = len(payloads)
        self._results: list[R | None] = [None] * len(payloads)
        self._classes: dict[int, deque[Work[P, R]]] = {}
        for index, (payload, cost) in enumerate(zip(payloads, costs, strict=True)):
            self._classes.setdefault(length_class(cost), deque()).append(Work(self, index, payload, cost))

    def next_class(self) -> int:
        """The length class of a work that waits."""
        return next(limit for limit, works in self._classes.items() if works)

    def take(self, limit: int) -> Work[P, R] | None:
        """Takes a waiting work of that class, if there is one."""
        works = self._classes.get(limit)
        if not works:
            return None
        self.waiting -= 1
        self.running += 1
        return works.popleft()

    def emit(self, event: Any) -> None:
        if self._on_event is not None and not self.cancelled:
            self.loop.call_soon_threadsafe(self._on_event, event)

    def finish(self, index: int, result: R, queued: float, inference: float) -> None:
        """Stores one work's result; the last one wakes the caller."""
        self._results[index] = result
        self.queue_seconds = max(self.queue_seconds, queued)
        self.inference_seconds += inference
        self._missing -= 1
        if self._missing == 0:
            self.loop.call_soon_threadsafe(self._settle, None)

    def fail(self, error: BaseException) -> None:
        """Ends the job with an error."""
        self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(self._results)  # type: ignore[arg-type]  # every result is there
