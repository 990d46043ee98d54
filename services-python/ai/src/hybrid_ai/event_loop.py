"""The event loop: uvloop, woken once for all that gRPC has finished.

gRPC's thread writes a byte into a socket for each thing that it has finished; its reader on the event loop takes one
byte, and then everything that is finished. After a burst the loop would be woken for each byte left over, in vain: a
twentieth of a short call's time. So all but one of the bytes are taken out before the reader is called.
"""

import asyncio
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

# What grpc.aio calls its reader. Under another name it is called as it would be anyway.
_READER = "_handle_events"
# Bytes that are looked at together.
_MANY = 4096


class Loop(uvloop.Loop):  # type: ignore[misc]  # uvloop has no types
    """uvloop with that one change. `gathers`: gRPC's reader was found."""

    gathers = False

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        reader = callback.func if isinstance(callback, functools.partial) else callback
        if isinstance(fd, socket.socket) and getattr(reader, "__name__", "") == _READER:
            callback, self.gathers = _once(fd, callback), True
        return super().add_reader(fd, callback, *args)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end, as asyncio.run does."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def _once(wakeups: socket.socket, callback: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> None:
        waiting = len(wakeups.recv(_MANY, socket.MSG_PEEK))
        if waiting > 1:
            wakeups.recv(waiting - 1)
        callback(*args)

    return call
