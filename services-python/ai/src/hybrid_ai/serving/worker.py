"""A model's worker: a thread that takes a batch from the queue whenever it is free, and never waits for more.

The queue is bounded, jobs take turns, so that a large one does not hold up a small one, and what was cancelled is
dropped before a batch is formed. Adding a model means giving a worker its `run` function.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

from hybrid_ai import telemetry
from hybrid_ai.errors import Overloaded, Unavailable
from hybrid_ai.serving.work import Job, P, R, Work


@dataclass(frozen=True)
class Limits:
    """How much may wait (works), and how much one batch may hold (padded tokens, works)."""

    queue: int
    batch_tokens: int
    batch_works: int


@dataclass(frozen=True)
class Timing:
    """Where a job's time went, in seconds. `inference` counts a batch once for each of the job's works in it."""

    queue: float
    inference: float


class Worker(Generic[P, R]):
    """Runs `run` on batches in a thread of its own. `stage` names what a cancellation stops while it runs."""

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Work[P, R]]], Sequence[R]],
        limits: Limits,
        stage: Literal["kernel", "tokens"],
    ) -> None:
        self._run = run
        self._limits = limits
        self._stage = stage
        self._jobs: deque[Job[P, R]] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._name = name
        self._thread = threading.Thread(target=self._serve, name=f"model-{name}", daemon=True)
        self._queued_items = telemetry.QUEUED_ITEMS.labels(name)
        self._queue_seconds = telemetry.QUEUE_SECONDS.labels(name)
        self._batch_items = telemetry.BATCH_ITEMS.labels(name)
        self._inference_seconds = telemetry.INFERENCE_SECONDS.labels(name)
        self._thread.start()

    async def submit(
        self, payloads: Sequence[P], costs: Sequence[int], on_event: Callable[[Any], None] | None = None
    ) -> tuple[list[R], Timing]:
        """Runs the payloads, in as many batches as it takes. `on_event` gets a token loop's events, on the event loop.

        Cancelling the awaiting task drops what waits and stops what runs. Raises Overloaded when the queue is full.
        """
        job: Job[P, R] = Job(payloads, costs, on_event)
        self._enqueue(job)
        try:
            results = await job.done
        finally:
            if not job.done.done() or job.done.cancelled():
                self._cancel(job)
        return results, Timing(job.queue_seconds, job.inference_seconds)

    def close(self, timeout: float = 5.0) -> None:
        """Lets the running batch finish and ends the thread; what waits fails as unavailable."""
        with self._changed:
            self._closing = True
            jobs, self._jobs = self._jobs, deque()
            self._waiting = 0
            self._changed.notify_all()
        for job in jobs:
            job.fail(Unavailable("the service is shutting down"))
        self._thread.join(timeout)

    def _enqueue(self, job: Job[P, R]) -> None:
        with self._changed:
            if self._closing:
                raise Unavailable("the service is shutting down")
            if self._waiting + job.waiting > self._limits.queue:
                telemetry.REJECTED.labels(self._name).inc()
                raise Overloaded(f"the {self._name} queue is full")
            self._jobs.append(job)
            self._waiting += job.waiting
            self._queued_items.set(self._waiting)
            self._changed.notify()

    def _cancel(self, job: Job[P, R]) -> None:
        with self._changed:
            job.cancelled = True
            if job in self._jobs:
                self._jobs.remove(job)
                self._waiting -= job.waiting
                self._queued_items.set(self._waiting)
            dropped, running = job.waiting, job.running
            job.waiting = 0
        if dropped:
            telemetry.CANCELLED.labels("queued").inc(dropped)
        if running:
            telemetry.CANCELLED.labels(self._stage).inc(running)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                batch = self._take()
            self._run_batch(batch)

    def _take(self) -> list[Work[P, R]]:
        """The next batch: from the first job's length class, one work of each job in turn, within the limits."""
        limit = self._jobs[0].next_class()
        room = max(1, min(self._limits.batch_works, self._limits.batch_tokens // limit))
        batch: list[Work[P, R]] = []
        taken = True
        while taken and len(batch) < room:
            taken = False
            for job in self._jobs:
                work = job.take(limit)
                if work is not None:
                    taken = True
                    batch.append(work)
                    if len(batch) == room:
                        break
        self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if job.waiting)
        self._waiting -= len(batch)
        self._queued_items.set(self._waiting)
        return batch

    def _run_batch(self, batch: list[Work[P, R]]) -> None:
        started = time.perf_counter()
        error: BaseException | None = None
        results: Sequence[R] = ()
        try:
            results = self._run(batch)
        except Exception as raised:
            error = raised
        seconds = time.perf_counter() - started
        self._inference_seconds.observe(seconds)
        self._batch_items.observe(len(batch))
        for position, work in enumerate(batch):
            job = work.job
            with self._changed:
                job.running -= 1
            queued = started - job.queued_at
            self._queue_seconds.observe(queued)
            if error is not None:
                job.fail(error)
            else:
                job.finish(work.index, results[position], queued, seconds)
        if error is not None:
            self._drop([work.job for work in batch])

    def _drop(self, jobs: list[Job[P, R]]) -> None:
        """Takes failed jobs' remaining works out of the queue."""
        with self._changed:
            for job in jobs:
                if job in self._jobs:
                    self._jobs.remove(job)
                    self._waiting -= job.waiting
                    job.waiting = 0
            self._queued_items.set(self._waiting)
