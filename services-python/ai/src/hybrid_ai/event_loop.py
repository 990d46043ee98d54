"""The event loop: uvloop, woken once for all that gRPC has finished, and not pushed aside by gRPC's own thread.

gRPC's thread writes a byte into a socket for each thing that it has finished; its reader on the event loop takes one
byte, and then everything that is finished. After a burst the loop would be woken for each byte left over, in vain: a
twentieth of a short call's time. So all but one of the bytes are taken out before the reader is called. And as that
thread sleeps most of the time, it would push aside whoever runs, twice for each call: it waits its turn instead.
"""

import asyncio
import contextlib
import functools
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

# What grpc.aio calls its reader. Under another name it is called as it would be anyway.
_READER = "_handle_events"
# What Python calls the thread in which grpc.aio waits.
_POLLER = "(_poll_wrapper)"
# Bytes that are looked at together.
_MANY = 4096


class Loop(uvloop.Loop):  # type: ignore[misc]  # uvloop has no types
    """uvloop with that one change. `gathers`: gRPC's reader was found."""

    gathers = False

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        reader = callback.func if isinstance(callback, functools.partial) else callback
        if isinstance(fd, socket.socket) and getattr(reader, "__name__", "") == _READER:
            callback, self.gathers = _once(fd, callback), True
            _let_grpc_wait_its_turn()
        return super().add_reader(fd, callback, *args)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end, as asyncio.run does."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def _let_grpc_wait_its_turn() -> None:
    """Linux lets a thread of this policy preempt nobody when it wakes; it has its share of the cores as before."""
    if not hasattr(os, "SCHED_BATCH"):
        return
    for thread in threading.enumerate():
        if thread.name.endswith(_POLLER) and thread.native_id is not None:
            with contextlib.suppress(OSError):  # where a container may not, it does without
                os.sched_setscheduler(thread.native_id, os.SCHED_BATCH, os.sched_param(0))


def _once(wakeups: socket.socket, callback: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> None:
        waiting = len(wakeups.recv(_MANY, socket.MSG_PEEK))
        if waiting > 1:
            wakeups.recv(waiting - 1)
        callback(*args)

    return call
