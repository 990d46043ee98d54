"""The queue of a model by itself: order, fairness, deadlines, refusals, and failures. The model here only records."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from conftest import Loop, wait_until
from prometheus_client import REGISTRY

from hybrid_ai.errors import DeadlineExceeded, Overloaded, Unavailable
from hybrid_ai.serving.caller import CALLER, Caller, Priority
from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Alone, Limits, Worker

Model = Worker[str, str]


class Recorder:
    """A model that runs while `open` is set, and remembers its batches. "bad" makes it fail."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[str]] = []
        self.started = 0

    def run(self, batch: Sequence[Work[str, str]]) -> list[str]:
        self.started += 1
        assert self.open.wait(20)
        if any(work.payload == "bad" for work in batch):
            raise ArithmeticError("bad")
        self.batches.append([work.payload for work in batch])
        return [work.payload.upper() for work in batch]


Make = Callable[..., tuple[Model, Recorder]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Model, Recorder]] = []

    def build(queue: int = 100, tokens: int = 1000, works: int = 1) -> tuple[Model, Recorder]:
        recorder = Recorder()
        made.append((Worker("test", recorder.run, Limits(queue, tokens, works), stage="kernel"), recorder))
        return made[-1]

    yield build
    for worker, recorder in made:
        recorder.open.set()
        worker.close()


class Calls:
    """Submits jobs as callers; the first one keeps the model busy."""

    def __init__(self, loop: Loop, worker: Model, recorder: Recorder) -> None:
        self.loop, self.worker, self.recorder = loop, worker, recorder
        self.futures: list[Any] = []
        self.submit("busy", subject="first")
        wait_until(lambda: recorder.started == 1)

    def submit(
        self, *texts: str, subject: str = "", deadline: float = math.inf, bulk: bool = False, cost: int = 1
    ) -> Any:
        async def go() -> list[str]:
            CALLER.set(Caller(subject, deadline, Priority.BULK if bulk else None))
            results, _ = await self.worker.submit(texts, [cost] * len(texts))
            return results

        future = asyncio.run_coroutine_threadsafe(go(), self.loop.loop)
        self.futures.append(future)
        # Whether it waits or was refused is known when the loop has run the first part of it.
        self.loop.run(asyncio.sleep(0))
        return future

    def order(self) -> list[str]:
        """Lets the model run, and returns what it did, in order."""
        self.recorder.open.set()
        for future in self.futures:
            future.exception(20)
        return [text for batch in self.recorder.batches for text in batch][1:]


@pytest.fixture
def calls(loop: Loop, make: Make) -> Callable[..., Calls]:
    return lambda **limits: Calls(loop, *make(**limits))


def test_callers_take_turns_whoever_has_queued_more(calls: Callable[..., Calls]) -> None:
    queue = calls()
    for text in ("a1", "a2", "a3"):
        queue.submit(text, subject="alice")
    queue.submit("b1", "b2", subject="bob")
    queue.submit("c1", subject="carol")
    assert queue.order() == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_callers_small_job_does_not_wait_for_its_large_one(calls: Callable[..., Calls]) -> None:
    queue = calls()
    queue.submit("l1", "l2", "l3", "l4", subject="alice")
    queue.submit("s1", subject="alice")
    assert queue.order().index("s1") == 1


def test_interactive_work_goes_first_and_bulk_work_is_not_starved(calls: Callable[..., Calls]) -> None:
    queue = calls()
    queue.submit(*(f"b{number}" for number in range(4)), subject="bob", bulk=True)
    queue.submit(*(f"i{number}" for number in range(8)), subject="alice")
    assert queue.order() == ["i0", "i1", "i2", "b0", "i3", "i4", "i5", "b1", "i6", "i7", "b2", "b3"]


@pytest.mark.parametrize(("own", "order"), [(Priority.INTERACTIVE, ["new", "b1"]), (None, ["b1", "new"])])
def test_a_caller_s_own_priority_goes_before_the_model_s(
    calls: Callable[..., Calls], own: Priority | None, order: list[str]
) -> None:
    queue = calls(queue=2)

    async def submit() -> None:
        CALLER.set(Caller("bulk", priority=own))
        queue.worker.admit(1, Priority.BULK)
        await queue.worker.submit(["new"], [1], priority=Priority.BULK)

    queue.submit("b1", subject="bulk", bulk=True)
    queue.futures.append(asyncio.run_coroutine_threadsafe(submit(), queue.loop.loop))
    queue.loop.run(asyncio.sleep(0))
    assert queue.order() == order


def test_a_caller_s_own_priority_lets_it_in_where_bulk_work_fills_the_queue(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=1)
    queue.submit("b1", subject="bulk", bulk=True)

    async def admit(own: Priority | None) -> None:
        CALLER.set(Caller("bulk", priority=own))
        queue.worker.admit(1, Priority.BULK)

    queue.loop.run(admit(Priority.INTERACTIVE))
    with pytest.raises(Overloaded):
        queue.loop.run(admit(None))


def test_batches_hold_one_class_of_length_within_their_budgets(calls: Callable[..., Calls]) -> None:
    queue = calls(tokens=128, works=3)
    for number in range(4):
        queue.submit(f"short{number}", subject="alice", cost=10)
        queue.submit(f"long{number}", subject="bob", cost=100)
    queue.order()
    for batch in queue.recorder.batches[1:]:
        assert len({text[:4] for text in batch}) == 1
        assert len(batch) <= (3 if batch[0].startswith("short") else 1)
    assert max(len(batch) for batch in queue.recorder.batches) == 3


def test_a_work_larger_than_the_budget_runs_alone(calls: Callable[..., Calls]) -> None:
    queue = calls(tokens=16, works=8)
    queue.submit("huge", cost=5000)
    queue.submit("small")
    assert sorted(queue.order()) == ["huge", "small"]


def test_what_is_too_late_is_dropped_before_it_runs(calls: Callable[..., Calls]) -> None:
    queue = calls()
    late = queue.submit("late", deadline=time.monotonic() + 0.05)
    queue.submit("fine", deadline=time.monotonic() + 60)
    passes = time.monotonic() + 0.06
    wait_until(lambda: time.monotonic() > passes)
    assert queue.order() == ["fine"]
    assert isinstance(late.exception(), DeadlineExceeded)


def test_a_call_that_would_wait_for_more_than_half_of_its_time_is_refused_at_once(calls: Callable[..., Calls]) -> None:
    queue = calls()
    queue.recorder.open.set()
    queue.futures[0].result(20)
    queue.recorder.open.clear()
    queue.worker._seconds_per_cost = 0.5
    queue.submit("busy again")
    wait_until(lambda: queue.recorder.started == 2)
    queue.submit(*["x"] * 10, subject="alice")
    # What waits takes 5 s, which is more than half of 9 s and less than half of 11 s.
    hurried = queue.submit("hurried", subject="bob", deadline=time.monotonic() + 9)
    error = hurried.exception(1)
    assert isinstance(error, Overloaded) and error.retry_seconds == pytest.approx(5.0)
    patient = queue.submit("patient", subject="bob", deadline=time.monotonic() + 11)
    assert not patient.done()


def test_a_full_queue_refuses_its_greediest_caller(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=4)
    waiting = [queue.submit(f"a{number}", subject="alice") for number in range(4)]
    refused = queue.submit("a4", subject="alice")
    assert isinstance(refused.exception(1), Overloaded)
    newcomer = queue.submit("b0", subject="bob")
    assert isinstance(waiting[3].exception(1), Overloaded)  # the latest of alice's makes room
    assert queue.order() == ["a0", "b0", "a1", "a2"]
    assert newcomer.result(1) == ["B0"]


def test_a_queue_of_equals_refuses_the_newcomer(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=3)
    for subject in ("alice", "bob", "carol"):
        queue.submit(subject, subject=subject)
    assert isinstance(queue.submit("dave", subject="dave").exception(1), Overloaded)
    assert queue.order() == ["alice", "bob", "carol"]


def rejected(reason: str) -> float:
    """How many jobs of these tests' models were, as the metrics tell."""
    labels = {"model": "test", "reason": reason}
    return REGISTRY.get_sample_value("ai_rejected_total", labels) or 0.0


def test_whatever_is_refused_or_dropped_is_counted_by_its_reason(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=4)
    reasons = ("deadline", "full", "displaced", "expired", "shutdown")
    before = [rejected(reason) for reason in reasons]
    expires = time.monotonic() + 0.05
    queue.submit("too late", subject="bob", deadline=expires)
    for number in range(4):
        queue.submit(f"a{number}", subject="alice")  # the last one finds the queue full
    queue.submit("d1", subject="dave")  # takes the place of alice's latest
    queue.submit("d2", subject="dave")
    queue.worker._seconds_per_cost = 10.0
    queue.submit("in a hurry", subject="carol", deadline=time.monotonic() + 20)
    queue.worker._seconds_per_cost = 0.0
    wait_until(lambda: time.monotonic() > expires)
    queue.order()
    queue.worker.close()
    queue.submit("after the end")
    assert [rejected(reason) - was for reason, was in zip(reasons, before, strict=True)] == [1, 2, 1, 1, 1]


def test_interactive_work_displaces_bulk_work(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=2)
    bulk = [queue.submit(text, subject=text, bulk=True) for text in ("b0", "b1")]
    queue.submit("i0", subject="alice")
    wait_until(lambda: any(future.done() for future in bulk))
    assert [type(future.exception(1)) for future in bulk if future.done()] == [Overloaded]
    assert isinstance(queue.submit("b2", subject="carol", bulk=True).exception(1), Overloaded)
    assert queue.order()[0] == "i0"


def test_a_job_that_never_fits_displaces_nobody(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=2)
    queue.submit("b0", subject="bob", bulk=True)
    assert isinstance(queue.submit(*"xyz", subject="alice").exception(1), Overloaded)
    assert queue.order() == ["b0"]


def test_only_the_job_at_fault_fails(calls: Callable[..., Calls]) -> None:
    queue = calls(works=8)
    good = [queue.submit(text, subject=text) for text in ("a", "b")]
    bad = queue.submit("bad", subject="mallory")
    queue.order()
    assert [future.result(1) for future in good] == [["A"], ["B"]]
    assert isinstance(bad.exception(1), ArithmeticError)
    assert queue.submit("after").result(20) == ["AFTER"]


def test_cancelled_work_is_dropped_before_batching(calls: Callable[..., Calls]) -> None:
    queue = calls(queue=2, works=8)
    first, second = queue.submit("a", subject="alice"), queue.submit("b", subject="bob")
    begun = time.perf_counter()
    first.cancel()
    wait_until(lambda: queue.worker._queue.waiting == 1)
    assert time.perf_counter() - begun < 0.5  # 50 ms are promised, on a machine that has time for it
    queue.submit("c", subject="carol")  # its place is free again
    assert second.done() is False
    queue.futures.remove(first)
    assert queue.order() == ["b", "c"]


def test_closing_fails_what_waits_and_refuses_more(calls: Callable[..., Calls]) -> None:
    queue = calls()
    waiting = queue.submit("waiting")
    closing = threading.Thread(target=queue.worker.close)
    closing.start()
    assert isinstance(waiting.exception(5), Unavailable)
    assert isinstance(queue.submit("more").exception(5), Unavailable)
    queue.recorder.open.set()
    closing.join(10)
    assert queue.futures[0].result(5) == ["BUSY"]


def test_several_threads_share_out_what_waits(loop: Loop) -> None:
    """A job wakes as many threads as it has work for, and none of them takes what the others could begin with."""
    taken: list[int] = []
    opened = threading.Event()

    def run(batch: Sequence[Work[str, str]]) -> list[str]:
        taken.append(len(batch))
        assert opened.wait(20)
        return [work.payload for work in batch]

    worker: Model = Worker("test", run, Limits(100, 1000, 16), stage="kernel", threads=2)
    try:
        texts = [str(number) for number in range(30)]
        job = asyncio.run_coroutine_threadsafe(worker.submit(texts, [1] * 30), loop.loop)
        wait_until(lambda: len(taken) == 2)
        assert taken == [10, 10]
        opened.set()
        results, _ = job.result(20)
        assert results == texts
        assert sum(taken) == 30
    finally:
        opened.set()
        worker.close()


def test_the_queue_forgets_everything_it_held(loop: Loop, make: Make) -> None:
    worker, recorder = make(works=4)
    recorder.open.set()

    async def one(number: int) -> None:
        CALLER.set(Caller(f"caller {number % 17}", priority=Priority(number % 2)))
        task = asyncio.ensure_future(worker.submit(["x"] * (number % 5 + 1), [number % 40 + 1] * (number % 5 + 1)))
        await asyncio.sleep(0)
        if number % 3 == 0:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(300)))

    loop.run(many())
    queue = worker._queue
    assert queue.waiting == 0 and queue.cost_before(Priority.BULK) == 0
    assert not any(queue._lines.values())


class Lonely(Recorder):
    """A model that also runs a single work of cost 16 or less by itself, and remembers in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.alone: list[tuple[str, int]] = []

    def run_alone(self, text: str) -> str:
        self.alone.append((text, threading.get_ident()))
        if text == "bad":
            raise ArithmeticError("bad")
        return text.upper()


@pytest.fixture
def lonely(loop: Loop) -> Iterator[tuple[Callable[..., Any], Lonely]]:
    model = Lonely()
    worker: Model = Worker("test", model.run, Limits(100, 1000, 8), stage="kernel", alone=Alone(16, model.run_alone))

    def submit(text: str, cost: int = 1, deadline: float = math.inf, alone: bool = True) -> Any:
        async def go() -> list[str]:
            CALLER.set(Caller("alice", deadline, alone=alone))
            return (await worker.submit([text], [cost]))[0]

        return go()

    yield submit, model
    model.open.set()
    worker.close()


def test_a_short_work_alone_is_run_on_the_event_loop(loop: Loop, lonely: tuple[Callable[..., Any], Lonely]) -> None:
    submit, model = lonely
    here = loop.run(_thread())
    assert [loop.run(submit(text)) for text in ("one", "two")] == [["ONE"], ["TWO"]]
    assert model.alone == [("one", here), ("two", here)]
    model.open.set()
    assert loop.run(submit("long", cost=17)) == ["LONG"]
    assert len(model.alone) == 2 and model.batches == [["long"]]


def test_what_did_not_come_alone_or_finds_others_waiting_is_queued(
    loop: Loop, lonely: tuple[Callable[..., Any], Lonely]
) -> None:
    submit, model = lonely

    async def together() -> list[list[str]]:
        running = [asyncio.ensure_future(submit(text, alone=text != "first")) for text in ("first", "b", "c")]
        await asyncio.sleep(0.01)
        model.open.set()
        return await asyncio.gather(*running)

    assert loop.run(together()) == [["FIRST"], ["B"], ["C"]]
    assert model.alone == [] and sorted(text for batch in model.batches for text in batch) == ["b", "c", "first"]
    assert loop.run(submit("d")) == ["D"]
    assert len(model.alone) == 1


def test_alone_ends_with_the_deadline_and_with_errors_and_goes_on(
    loop: Loop, lonely: tuple[Callable[..., Any], Lonely]
) -> None:
    submit, model = lonely
    before = rejected("expired")
    with pytest.raises(DeadlineExceeded):
        loop.run(submit("late", deadline=time.monotonic() - 1))
    assert rejected("expired") == before + 1
    with pytest.raises(ArithmeticError):
        loop.run(submit("bad"))
    assert loop.run(submit("good")) == ["GOOD"]
    assert [text for text, _ in model.alone] == ["bad", "good"]


async def _thread() -> int:
    return threading.get_ident()
