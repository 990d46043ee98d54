"""A pool of processes for CPU work in pure Python, which would hold the interpreter's lock: fresh ones, never forks.

It is a worker like a model's, whose threads each wait for a process of their own. A process that crashes, or takes too
long or too much memory, costs its own call alone: the next one finds a new process.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from hybrid_ai import telemetry
from hybrid_ai.errors import Unavailable
from hybrid_ai.serving import child
from hybrid_ai.serving.queue import Limits
from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Timing, Worker

_START_SECONDS = 30.0


@dataclass(frozen=True)
class PoolLimits:
    """What one pool may take. `megabytes` bounds the address space of each process, `seconds` one call."""

    processes: int
    queue: int
    megabytes: int
    seconds: float


class Refused(Exception):
    """The function does not take its arguments, and says why. Whose field they are, the pool's user knows."""


class TooMuch(Refused):
    """The work exceeds what one process may take."""


class _Process:
    """One process and the pipe to it."""

    def __init__(self, target: str, megabytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", child.__name__, str(theirs.fileno()), target, str(megabytes)]
            # A session of its own: Ctrl-C is for the service, which ends its processes itself.
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.pipe = Connection(ours.detach())
        if not self.pipe.poll(_START_SECONDS):
            self.end()
            raise EOFError
        self.pipe.recv()

    @property
    def died(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()


class ProcessPool:
    """Runs `target` ("module:function") on payloads, each a tuple of arguments. Processes start at first use."""

    def __init__(self, name: str, target: str, limits: PoolLimits) -> None:
        self._name, self._target, self._limits = name, target, limits
        self._processes: dict[int, _Process] = {}
        self._busy: set[int] = set()
        self._allowed = f"{limits.seconds:g} s and {limits.megabytes} MB are allowed"
        self._crashes = telemetry.WORKER_CRASHES.labels(name)
        queue = Limits(limits.queue, batch_tokens=1, batch_works=1)
        self._worker: Worker[tuple[Any, ...], Any] = Worker(
            name, self._run, queue, stage="kernel", threads=limits.processes
        )

    async def run(self, *arguments: Any) -> tuple[Any, Timing]:
        """Runs the function on the arguments in a process. Raises Refused, with its ValueError's text, or TooMuch."""
        (result,), timing = await self._worker.submit([arguments], [1])
        return result, timing

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [process.process.pid for process in list(self._processes.values())]

    def under_way(self) -> list[int]:
        """The processes that work now."""
        return list(self._busy)

    def close(self) -> None:
        self._worker.close()
        for process in list(self._processes.values()):
            process.end()
        self._processes.clear()

    def _run(self, batch: Sequence[Work[tuple[Any, ...], Any]]) -> Sequence[Any]:
        (work,) = batch
        try:
            process = self._process()
            kind, result = self._ask(process, work.payload)
        except (EOFError, OSError):
            self._crashes.inc()
            self._drop()
            raise Unavailable(
                "the process that did the work ended before it was done", reason="WORKER_CRASHED"
            ) from None
        if kind == child.OK:
            return [result]
        if kind == child.NO_MEMORY:
            self._drop()  # what it holds may not come back
            raise TooMuch(f"needs too much memory; {self._allowed}")
        if kind == child.REFUSED:
            raise Refused(result)
        raise RuntimeError(f"{self._target} failed with {result}")

    def _ask(self, process: _Process, payload: tuple[Any, ...]) -> tuple[int, Any]:
        self._busy.add(process.process.pid)
        try:
            process.pipe.send(payload)
            if process.pipe.poll(self._limits.seconds):
                answer: tuple[int, Any] = process.pipe.recv()
                return answer
        finally:
            self._busy.discard(process.process.pid)
        self._drop()
        raise TooMuch(f"takes too long; {self._allowed}")

    def _process(self) -> _Process:
        """This thread's process; a new one where there is none or it died while it was idle."""
        mine = threading.get_ident()
        process = self._processes.get(mine)
        if process is not None and process.died:
            self._crashes.inc()
            self._drop()
            process = None
        if process is None:
            process = self._processes[mine] = _Process(self._target, self._limits.megabytes)
        return process

    def _drop(self) -> None:
        process = self._processes.pop(threading.get_ident(), None)
        if process is not None:
            process.end()
