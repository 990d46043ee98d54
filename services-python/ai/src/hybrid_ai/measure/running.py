"""The measured processes: the service as it is run in production, and clients that load it."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import jwt

from hybrid_ai.identity import AUDIENCE, ISSUER
from hybrid_ai.measure.load import Load

SECRET = "a secret for a service that only these measurements call"
_START_SECONDS = 120


class Service:
    """The service on free ports with a folder of its own, from entering to leaving."""

    def __init__(self, overrides: Mapping[str, str] | None = None) -> None:
        self._overrides = overrides or {}
        self.address, self.metrics_port, self.pid = "", 0, 0

    def __enter__(self) -> "Service":
        self._folder = tempfile.TemporaryDirectory()
        environment = {**os.environ} | {
            "SERVICE_SECRET": SECRET, "AI_LISTEN": "127.0.0.1:0", "AI_METRICS_LISTEN": "127.0.0.1:0",
            "AI_DATA_DIR": self._folder.name, "AI_DOCUMENTS_DIR": "", "LOG_FORMAT": "json", "LOG_LEVEL": "info",
        } | dict(self._overrides)  # fmt: skip
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "hybrid_ai"], env=environment, stderr=log)
        self.pid = self._process.pid
        ready = self._wait_until_ready()
        self.address, self.metrics_port = ready["listen"], ready["metrics_port"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()

    def metric(self, sample: str) -> float:
        """A sample of /metrics; 0 where it is not there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as response:
            lines = response.read().decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample + " ")), 0.0)

    def cpu_seconds(self) -> float:
        """What the service and its processes have used of the cores."""
        return sum(_cpu_seconds(pid) for pid in [self.pid, *_children(self.pid)])

    def memory(self) -> float:
        """Megabytes that the service and its processes hold, shared pages counted once (PSS)."""
        return sum(_rollup(pid, "Pss:") for pid in [self.pid, *_children(self.pid)])

    def resident(self) -> float:
        """Megabytes that the service and its processes hold, shared pages counted in each (RSS)."""
        return sum(_rollup(pid, "Rss:") for pid in [self.pid, *_children(self.pid)])

    def _wait_until_ready(self) -> dict[str, Any]:
        patience = time.monotonic() + _START_SECONDS
        while time.monotonic() < patience and self._process.poll() is None:
            for line in self._log.read_text().splitlines():
                if '"ready"' in line:
                    entry: dict[str, Any] = json.loads(line)
                    return entry
            time.sleep(0.05)
        raise RuntimeError(f"the service did not start:\n{self._log.read_text()[-2000:]}")


class Client:
    """A client in a process of its own; `result` waits for what it measured."""

    def __init__(self, service: Service, load: Load) -> None:
        wanted = json.dumps(asdict(load))
        command = [sys.executable, "-m", "hybrid_ai.measure.load", service.address, identity(), wanted]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self) -> dict[str, Any]:
        out, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise RuntimeError("the client failed")
        measured: dict[str, Any] = json.loads(out)
        return measured


def identity(secret: str | bytes = SECRET) -> str:
    """A user's identity, as the gateway would sign it."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "kind": "user", "scope": "", "iat": now}
    return jwt.encode(claims | {"exp": now + 3600}, secret, "HS256")


def _rollup(pid: int, field: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
