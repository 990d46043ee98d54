"""Several processes on one port: starts them, restarts what dies, ends them together, shows their metrics as one.

The kernel spreads connections over the processes (SO_REUSEPORT); all share the index on disk (store/changes.py). The
first one is ready, and has made the tables, before the others start. A process ends when its supervisor is gone.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from hybrid_ai.config import Config

_LOG = logging.getLogger("hybrid_ai.supervisor")
_BACKOFF_SECONDS = (0.2, 30.0)
# A process that has lived this long is taken for healthy: its next restart comes at once again.
_HEALTHY_SECONDS = 60.0
_KILL_AFTER_SECONDS = 10.0


@dataclass
class _Child:
    """One place for a process. `line` closes when either side ends; a byte on it says that the process is ready."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    line: socket.socket | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    ready: bool = False


class Supervisor:
    """Runs the processes until a signal ends it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = False
        self._announced = False
        self._children = [_Child(number) for number in range(config.processes)]
        self._folder = tempfile.TemporaryDirectory(prefix="hybrid-ai-metrics-")
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, self._folder.name)  # type: ignore[no-untyped-call]
        self._restarts = Counter(
            "ai_process_restarts", "Processes started in place of dead ones", registry=self._registry
        )
        self._alive = Gauge("ai_processes", "Processes that run", registry=self._registry)

    def run(self) -> int:
        """Returns 0 after a clean end, 1 where a process had to be killed."""
        self._wake, wakes = socket.socketpair()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        host, _, port = self._config.metrics_listen.rpartition(":")
        metrics, thread = start_http_server(int(port), host, self._registry)
        with _reserve(self._config.listen) as reserved:
            self._listen = f"{self._config.listen.rpartition(':')[0]}:{reserved.getsockname()[1]}"
            while not self._stopping:
                self._start_what_is_due()
                if all(child.ready for child in self._children) and not self._announced:
                    self._announced = True
                    _LOG.info("ready", extra={"listen": self._listen, "metrics_port": metrics.server_port})
                self._wait()
                self._bury_the_dead()
        clean = self._end()
        metrics.shutdown()
        thread.join()
        self._folder.cleanup()
        return 0 if clean else 1

    def _on_signal(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _start_what_is_due(self) -> None:
        first = self._children[0]
        for child in self._children:
            waits = child is not first and not first.ready and not self._announced
            if child.process is None and not waits and time.monotonic() >= child.due:
                self._start(child)

    def _start(self, child: _Child) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | {
            "AI_PROCESSES": "1",
            "AI_PROCESS": str(child.number),
            "AI_LISTEN": self._listen,
            "AI_SUPERVISOR": str(theirs.fileno()),
            "PROMETHEUS_MULTIPROC_DIR": self._folder.name,
        }
        with theirs:
            child.process = subprocess.Popen(
                [sys.executable, "-m", "hybrid_ai"], env=environment, pass_fds=[theirs.fileno()], process_group=0
            )
        child.line, child.started, child.ready = ours, time.monotonic(), False
        if child.failures:
            self._restarts.inc()
        self._alive.set(sum(other.process is not None for other in self._children))

    def _wait(self) -> None:
        """Until a process says that it is ready, one ends, a restart is due, or a signal comes."""
        lines = {child.line: child for child in self._children if child.line is not None and not child.ready}
        dues = [child.due for child in self._children if child.process is None]
        timeout = max(0.0, min(dues) - time.monotonic()) if dues else None
        readable, _, _ = select.select([self._wake, *lines], [], [], timeout)
        for found in readable:
            received = found.recv(4096)
            if found in lines and received:
                lines[found].ready = True

    def _bury_the_dead(self) -> None:
        for child in self._children:
            if child.process is None or child.process.poll() is None or self._stopping:
                continue
            lived = time.monotonic() - child.started
            child.failures = 1 if lived > _HEALTHY_SECONDS else child.failures + 1
            shortest, longest = _BACKOFF_SECONDS
            delay = min(shortest * 2 ** (child.failures - 1), longest)
            fields = {"number": child.number, "status": child.process.returncode, "restart_in_seconds": delay}
            _LOG.error("a process died", extra=fields)
            mark_process_dead(child.process.pid, self._folder.name)  # type: ignore[no-untyped-call]
            self._forget(child)
            child.due = time.monotonic() + delay

    def _forget(self, child: _Child) -> None:
        if child.line is not None:
            child.line.close()
        child.process, child.line, child.ready = None, None, False

    def _end(self) -> bool:
        """Asks every process to end, and kills what does not."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        patience = time.monotonic() + self._config.shutdown_seconds + _KILL_AFTER_SECONDS
        clean = True
        for process in running:
            try:
                clean &= process.wait(max(0.1, patience - time.monotonic())) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                clean = False
        for child in self._children:
            self._forget(child)
        return clean


def _reserve(listen: str) -> socket.socket:
    """Binds the address without listening, so that port 0 is the same for all, and nobody else takes it."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((host, int(port)))
    return reserved
