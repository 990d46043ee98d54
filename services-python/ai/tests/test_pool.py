"""The pool of processes by itself: answers, errors, memory, time, and what its crashes leave behind."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from conftest import Loop

from hybrid_ai.errors import PublicError, Unavailable
from hybrid_ai.serving.pool import PoolLimits, ProcessPool, Refused, TooMuch

LIMITS = PoolLimits(processes=1, queue=8, megabytes=256, seconds=20)


@pytest.fixture
def pool(loop: Loop) -> Iterator[Callable[..., ProcessPool]]:
    made: list[ProcessPool] = []

    def make(target: str, limits: PoolLimits = LIMITS) -> ProcessPool:
        made.append(ProcessPool("test", target, limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_calls_are_answered_in_a_process_of_their_own(loop: Loop, pool: Callable[..., ProcessPool]) -> None:
    import os

    processes = pool("os:getpid")
    pid, timing = loop.run(processes.run())
    assert pid != os.getpid() and processes.pids() == [pid] and timing.inference > 0
    assert loop.run(processes.run())[0] == pid


def test_what_the_function_refuses_is_said_without_a_field(loop: Loop, pool: Callable[..., ProcessPool]) -> None:
    with pytest.raises(Refused, match=r"^invalid literal for int") as caught:
        loop.run(pool("builtins:int").run("x"))
    assert not isinstance(caught.value, TooMuch | PublicError)  # which field it was in, only the pool's user knows


def test_other_errors_are_not_told(loop: Loop, pool: Callable[..., ProcessPool]) -> None:
    with pytest.raises(RuntimeError, match="failed with TypeError"):
        loop.run(pool("builtins:len").run(1))


def test_memory_is_bounded(loop: Loop, pool: Callable[..., ProcessPool]) -> None:
    processes = pool("builtins:bytearray")
    assert loop.run(processes.run(1 << 20))[0] == bytearray(1 << 20)
    with pytest.raises(TooMuch, match=r"^needs too much memory; 20 s and 256 MB are allowed$"):
        loop.run(processes.run(1 << 28))
    assert len(loop.run(processes.run(10))[0]) == 10


def test_time_is_bounded(loop: Loop, pool: Callable[..., ProcessPool]) -> None:
    processes = pool("time:sleep", PoolLimits(processes=1, queue=8, megabytes=256, seconds=0.2))
    with pytest.raises(TooMuch, match=r"^takes too long; 0\.2 s and 256 MB are allowed$"):
        loop.run(processes.run(30))
    assert processes.pids() == []


def test_crashes_never_wear_the_pool_out(loop: Loop, pool: Callable[..., ProcessPool]) -> None:
    processes = pool("os:_exit", PoolLimits(processes=2, queue=8, megabytes=256, seconds=20))

    async def crash() -> list[object]:
        return list(await asyncio.gather(*(processes.run(1) for _ in range(6)), return_exceptions=True))

    assert [type(result) for result in loop.run(crash())] == [Unavailable] * 6
    assert processes.under_way() == []
