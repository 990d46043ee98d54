"""The event loop: what gRPC has finished wakes it once, and its calls leave the garbage collector little to do."""

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from conftest import Loop, Running, as_user, wait_until
from grpc_errors import invalid
from hybrid.ai.v1.text_service_pb2 import EmbedRequest

from hybrid_ai import event_loop


class Reader:
    """As grpc.aio reads: one byte for each time that it is called, and then whatever has been finished."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.calls = 0
        self.bytes = b""

    def _handle_events(self) -> None:
        self.calls += 1
        self.bytes += self._end.recv(1)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_burst_of_wakeups_calls_grpcs_reader_once(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair

    async def bursts() -> list[int]:
        reader, calls = Reader(near), []
        asyncio.get_running_loop().add_reader(near, reader._handle_events)
        for size in (1, 7, 5000):
            far.sendall(b"x" * size)
            for _ in range(20):
                await asyncio.sleep(0.001)
            calls.append(reader.calls)
        asyncio.get_running_loop().remove_reader(near)
        return calls

    # Of more than 4,096 bytes the rest is a wakeup of its own.
    assert event_loop.run(bursts()) == [1, 2, 4]


def test_other_readers_are_called_as_ever(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair

    async def one_by_one() -> bytes:
        taken: list[bytes] = []
        asyncio.get_running_loop().add_reader(near, lambda: taken.append(near.recv(1)))
        far.sendall(b"abc")
        for _ in range(20):
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().remove_reader(near)
        return b"".join(taken)

    assert event_loop.run(one_by_one()) == b"abc"


def test_a_call_is_freed_at_its_end_without_the_garbage_collector(loop: Loop, service: Running) -> None:
    def call() -> None:
        service.text.Embed(EmbedRequest(texts=["freed"]), metadata=as_user())
        assert invalid(lambda: service.text.Embed(EmbedRequest(), metadata=as_user())) == ["texts"]

    call()
    idle = service.service._edge.under_way._idle
    wait_until(idle.is_set)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(10):
            call()
        wait_until(idle.is_set)
        loop.run(asyncio.sleep(0.05))  # what is done after an answer
        gc.collect()
        left = {type(thing).__name__ for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    # The service's own, and gRPC's of its side; the client of this test leaves others.
    ours = {"Call", "Caller", "Job", "Work", "Served"}
    assert not left & (ours | {"RPCState", "_ServicerContext", "AbortError", "_HandlerCallDetails"})


def test_grpcs_reader_and_its_thread_are_found(loop: Loop, service: Running) -> None:
    assert loop.loop.gathers
    (poller,) = [thread for thread in threading.enumerate() if thread.name.endswith("(_poll_wrapper)")]
    assert poller.native_id is not None and os.sched_getscheduler(poller.native_id) == os.SCHED_BATCH
