"""A model's worker: a thread (or some) that takes a batch from the queue whenever it is free, and never waits for more.

What was cancelled or is too late is dropped before a batch is formed; what cannot be done in time, or does not fit, is
refused at once. Adding a model means giving a worker its `run` function. See queue.py for the order.
"""

import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal

from hybrid_ai import telemetry, tracing
from hybrid_ai.errors import DeadlineExceeded, Overloaded, Unavailable
from hybrid_ai.models import niceness
from hybrid_ai.serving.caller import CALLER, Priority
from hybrid_ai.serving.queue import FairQueue, Limits
from hybrid_ai.serving.work import Alone, Job, P, R, Timing, Work, fail, settle

__all__ = ["Alone", "Limits", "Timing", "Worker"]
# Weight of the latest batch in the model's measured speed.
_SMOOTHING = 0.2
# What a refused caller is told to wait: the queue's time within these bounds; this long before anything was measured.
_RETRY_SECONDS = (0.05, 60.0)
_UNKNOWN_WAIT = 1.0
# The share of a call's time that may pass in the queue: the rest is for its run, and for those who overtake it.
_WAIT_SHARE = 0.5
_TOO_LATE = "is too long for the call's deadline"


class Worker(Generic[P, R]):
    """Runs `run` on batches in threads of its own. `stage` names what a cancellation stops while it runs.

    With a niceness the threads give way to the event loop, which then takes calls, refuses and answers in time. `alone`
    says how a short work is run that comes while nobody else is served.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Work[P, R]]], Sequence[R]],
        limits: Limits,
        stage: Literal["kernel", "tokens"],
        threads: int = 1,
        niceness: int = 0,
        alone: Alone[P, R] | None = None,
    ) -> None:
        self._run = run
        self._alone = alone
        # Calls of `submit` that have not ended.
        self._submitted = 0
        self._niceness = niceness
        self._stage = stage
        self._queue: FairQueue[P, R] = FairQueue(limits)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closing = False
        # Works that threads have taken and not finished.
        self._running = 0
        self._name = name
        self._seconds_per_cost = 0.0
        self._queued_items = telemetry.QUEUED_ITEMS.labels(name)
        # Looking a metric up by its labels takes longer than counting: a flood is counted by the thousand.
        self._rejected = functools.cache(functools.partial(telemetry.REJECTED.labels, name))
        self._queue_seconds = telemetry.QUEUE_SECONDS.labels(name)
        self._batch_items = telemetry.BATCH_ITEMS.labels(name)
        self._inference_seconds = telemetry.INFERENCE_SECONDS.labels(name)
        self._threads = [
            threading.Thread(target=self._serve, name=f"model-{name}", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def submit(
        self,
        payloads: Sequence[P],
        costs: Sequence[int],
        on_event: Callable[[Any], None] | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> tuple[list[R], Timing]:
        """Runs the payloads, in as many batches as it takes. `on_event` gets a token loop's events, on the event loop.

        A priority of the caller's own goes before `priority`. Cancelling the awaiting task drops what waits and stops
        what runs. Raises Overloaded when the queue is full or too long for the deadline, DeadlineExceeded after it.
        """
        caller = CALLER.get()
        level = priority if caller.priority is None else caller.priority
        job: Job[P, R] = Job(payloads, costs, on_event, caller, level)
        self._submitted += 1
        try:
            if self._alone is not None and self._is_alone(job, self._alone.cost):
                return self._run_alone(job, self._alone.run)
            return await self._run_queued(job)
        finally:
            self._submitted -= 1
            job.classes.clear()  # what was not taken refers to the job: a ring that only a collection frees

    async def _run_queued(self, job: Job[P, R]) -> tuple[list[R], Timing]:
        self._enqueue(job)
        try:
            with tracing.span(f"model {self._name}", items=job.size) as span:
                results = await job.done
                span.set("queue_seconds", job.queue_seconds)
        finally:
            if not job.done.done() or job.done.cancelled():
                self._cancel(job)
        return results, Timing(job.queue_seconds, job.inference_seconds)

    def _is_alone(self, job: Job[P, R], cost: int) -> bool:
        """Whether the job is short, and nobody else wants the model."""
        short = job.size == 1 and job.cost <= cost
        return short and job.caller.alone and self._submitted == 1 and not self._closing

    def _run_alone(self, job: Job[P, R], run: Callable[[P], R]) -> tuple[list[R], Timing]:
        """Runs the only work of a job here and now."""
        if job.expired:
            self._rejected("expired").inc()
            raise DeadlineExceeded(f"the deadline passed before the {self._name} model ran")
        (work,) = (work for works in job.classes.values() for work in works)
        with tracing.span(f"model {self._name}", items=1, queue_seconds=0.0):
            started = time.perf_counter()
            result = run(work.payload)
            seconds = time.perf_counter() - started
        job.loop.call_soon(self._observe, 1, seconds)  # after the answer, which is near
        job.loop.call_soon(self._queue_seconds.observe, 0.0)
        return [result], Timing(0.0, seconds)

    def admit(self, size: int, priority: Priority = Priority.INTERACTIVE) -> None:
        """Raises Overloaded where `size` works would be refused, before anything is done for them."""
        caller = CALLER.get()
        level = priority if caller.priority is None else caller.priority
        with self._lock:
            if self._too_late(level, caller.deadline):
                raise self._refusal(level, "deadline", _TOO_LATE)
            if not self._queue.has_room(size) and not self._queue.victim(caller.subject, level, size):
                raise self._refusal(level, "full", "is full")

    def close(self, timeout: float = 5.0) -> None:
        """Lets the running batch finish and ends the threads; what waits fails as unavailable."""
        with self._lock:
            self._closing = True
            jobs = self._queue.clear()
            self._changed.notify_all()
        fail(jobs, Unavailable("the service is shutting down", reason="SHUTTING_DOWN"))
        for thread in self._threads:
            thread.join(timeout)

    def _enqueue(self, job: Job[P, R]) -> None:
        displaced: list[Job[P, R]] = []
        with self._lock:
            if self._closing:
                self._rejected("shutdown").inc()
                raise Unavailable("the service is shutting down", reason="SHUTTING_DOWN")
            if self._too_late(job.priority, job.caller.deadline):
                raise self._refusal(job.priority, "deadline", _TOO_LATE)
            while not self._queue.has_room(job.size):
                victim = self._queue.victim(job.caller.subject, job.priority, job.size)
                if victim is None:
                    refusal = self._refusal(job.priority, "full", "is full")
                    break
                self._queue.remove(victim)
                displaced.append(victim)
            else:
                refusal = None
                self._queue.add(job)
                self._queued_items.set(self._queue.waiting)
                self._changed.notify()
            losses = [(victim, self._refusal(victim.priority, "displaced", "is full")) for victim in displaced]
        for victim, error in losses:
            fail([victim], error)
        if refusal is not None:
            raise refusal

    def _wait_seconds(self, priority: Priority) -> float:
        """How long a newcomer would wait, by what waits and how fast the model was."""
        return self._queue.cost_before(priority) * self._seconds_per_cost / len(self._threads)

    def _too_late(self, priority: Priority, deadline: float) -> bool:
        """Whether a newcomer's wait would leave it too little of its time: what is let in should come to its end."""
        return self._wait_seconds(priority) > _WAIT_SHARE * (deadline - time.monotonic())

    def _refusal(self, priority: Priority, reason: str, what: str) -> Overloaded:
        self._rejected(reason).inc()
        shortest, longest = _RETRY_SECONDS
        wait = self._wait_seconds(priority) if self._seconds_per_cost else _UNKNOWN_WAIT
        return Overloaded(
            f"the {self._name} queue {what}", min(max(wait, shortest), longest), "QUEUE_" + reason.upper()
        )

    def _cancel(self, job: Job[P, R]) -> None:
        with self._lock:
            job.cancelled = True
            dropped, running = self._queue.remove(job), job.running
            self._queued_items.set(self._queue.waiting)
        if dropped:
            telemetry.CANCELLED.labels("queued").inc(dropped)
        if running:
            telemetry.CANCELLED.labels(self._stage).inc(running)

    def _serve(self) -> None:
        niceness.lower(self._niceness)
        while True:
            with self._changed:
                while not self._queue.waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                batch, expired = self._queue.take(self._share())
                self._running += len(batch)
                self._queued_items.set(self._queue.waiting)
                if self._queue.waiting:
                    self._changed.notify()  # a job of many works woke one thread
            if expired:
                self._rejected("expired").inc(len(expired))
                fail(expired, DeadlineExceeded(f"the deadline passed in the {self._name} queue"))
            if batch:
                self._run_batch(batch)
                with self._lock:
                    self._running -= len(batch)

    def _share(self) -> int:
        """How many works one of several threads may take: what there is, shared out among them and one more.

        Whoever takes all leaves the next one nothing, which then takes the first that comes by itself, and so on. That
        one more is what callers have back or are sent meanwhile: it waits for the thread that is free first.
        """
        threads = len(self._threads)
        return math.ceil((self._queue.waiting + self._running) / (threads + 1)) if threads > 1 else self._queue.waiting

    def _run_batch(self, batch: list[Work[P, R]]) -> None:
        """Runs a batch. Where it fails, its jobs are run one by one, so that only the one at fault does."""
        started = time.perf_counter()
        try:
            results = self._run(batch)
        except Exception as error:
            jobs = list(dict.fromkeys(work.job for work in batch))
            if len(jobs) > 1:
                for job in jobs:
                    self._run_batch([work for work in batch if work.job is job])
            else:
                self._give_up(jobs[0], error)
            return
        seconds = time.perf_counter() - started
        self._observe(len(batch), seconds)
        self._learn_pace(sum(work.cost for work in batch), seconds)
        finished: list[Job[P, R]] = []
        with self._lock:  # several threads may finish works of one job
            for work, result in zip(batch, results, strict=True):
                work.job.running -= 1
                if work.job.finish(work.index, result, started - work.job.queued_at, seconds):
                    finished.append(work.job)
        settle(finished)
        for work in batch:
            self._queue_seconds.observe(started - work.job.queued_at)

    def _observe(self, works: int, seconds: float) -> None:
        self._inference_seconds.observe(seconds)
        self._batch_items.observe(works)

    def _learn_pace(self, cost: int, seconds: float) -> None:
        """From batches alone: by their pace the queue's time is foretold."""
        measured, known = seconds / max(1, cost), self._seconds_per_cost
        self._seconds_per_cost = known + _SMOOTHING * (measured - known) if known else measured

    def _give_up(self, job: Job[P, R], error: Exception) -> None:
        """Ends a job with the error, and takes the rest of it out of the queue."""
        with self._lock:
            job.running = 0
            self._queue.remove(job)
            self._queued_items.set(self._queue.waiting)
        fail([job], error)
