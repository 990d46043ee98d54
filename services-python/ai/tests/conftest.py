"""Fixtures: a service with the real models on free ports, an event loop in a thread for it, and signed identities."""

import asyncio
import contextlib
import importlib
import logging
import pkgutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import hybrid.ai.v1
import jwt
import pytest
from hybrid.ai.v1 import (
    assistant_service_pb2_grpc,
    forecast_service_pb2_grpc,
    openai_service_pb2_grpc,
    recommend_service_pb2_grpc,
    search_service_pb2_grpc,
    text_service_pb2_grpc,
)
from openai_server import OpenAI

from hybrid_ai import config, event_loop
from hybrid_ai.server import Service

logging.getLogger("hybrid_ai.calls").setLevel(logging.ERROR)  # hundreds of lines that no test reads
SECRET = "the secret that only the gateway and ai know"
Metadata = tuple[tuple[str, str], ...]
# Every service of the contracts, whichever are there, by its full name.
SERVICES = {
    service.full_name: service
    for module in pkgutil.iter_modules(hybrid.ai.v1.__path__, "hybrid.ai.v1.")
    if module.name.endswith("_service_pb2")
    for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()
}


def sign(subject: str = "alice", kind: str = "user", secret: str = SECRET, **claims: Any) -> str:
    """An identity as the gateway signs it; a claim that is None is left out."""
    now = int(time.time())
    all_claims = {
        "iss": "hybrid-gateway", "aud": "ai", "sub": subject, "kind": kind, "scope": "", "iat": now, "exp": now + 60,
    } | claims  # fmt: skip
    return jwt.encode({key: value for key, value in all_claims.items() if value is not None}, secret, "HS256")


def as_user(subject: str = "alice") -> Metadata:
    return (("x-hybrid-identity", sign(subject)),)


def as_service(name: str = "realtime") -> Metadata:
    return (("x-hybrid-identity", sign(f"service:{name}", "service")),)


def as_anonymous() -> Metadata:
    return (("x-hybrid-identity", sign("anonymous", "anonymous")),)


class Loop:
    """An event loop in a thread, for services and test servers. gRPC allows one for each process."""

    def __init__(self) -> None:
        self.loop = event_loop.Loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any, timeout: float = 30) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


class Running:
    """A started service with a channel to it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{service.port}", options)
        self.text = text_service_pb2_grpc.TextServiceStub(self.channel)
        self.search = search_service_pb2_grpc.SearchServiceStub(self.channel)
        self.openai = openai_service_pb2_grpc.OpenAIServiceStub(self.channel)
        self.assistant = assistant_service_pb2_grpc.AssistantServiceStub(self.channel)
        self.recommend = recommend_service_pb2_grpc.RecommendServiceStub(self.channel)
        self.forecast = forecast_service_pb2_grpc.ForecastServiceStub(self.channel)

    def metric(self, sample: str) -> float:
        return metric(self.service.metrics_port, sample)


def metric(port: int, sample: str) -> float:
    """A sample's value as /metrics shows it, 0 where it is not there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample + " ")), 0.0)


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> float:
    """Waits for the condition and returns how long that took; fails after the timeout."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > timeout:
            pytest.fail(f"did not happen within {timeout} s")
        time.sleep(0.002)
    return time.perf_counter() - started


def settings(folder: Path, **overrides: str) -> config.Config:
    environment = {
        "SERVICE_SECRET": SECRET,
        "AI_LISTEN": "127.0.0.1:0",
        "AI_METRICS_LISTEN": "127.0.0.1:0",
        "AI_DATA_DIR": str(folder),
        "AI_DOCUMENTS_DIR": "",
        "AI_SHUTDOWN_SECONDS": "1",
    }
    return config.load(environment | overrides)


@contextlib.contextmanager
def serving(loop: Loop, configured: config.Config) -> Iterator[Running]:
    """A started service, which is stopped at the end."""

    async def build() -> Service:  # gRPC takes the running loop for its own
        service = Service(configured)
        await service.start()
        return service

    running = Running(loop.run(build()))
    try:
        yield running
    finally:
        running.channel.close()
        loop.run(running.service.stop())


def held(loop: Loop, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Callable[[], object]:
    """Lets nothing of a coroutine function happen until what is returned is called."""
    inner, go = getattr(owner, name), asyncio.Event()

    async def wait(*args: Any) -> Any:
        await go.wait()
        return await inner(*args)

    monkeypatch.setattr(owner, name, wait)
    return lambda: loop.loop.call_soon_threadsafe(go.set)


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def start(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts services, each with its own data folder, and stops them after the module."""
    with contextlib.ExitStack() as started:

        def begin(**overrides: str) -> Running:
            configured = settings(tmp_path_factory.mktemp("data"), **overrides)
            return started.enter_context(serving(loop, configured))

        yield begin


@pytest.fixture(scope="module")
def openai(loop: Loop) -> Iterator[tuple[OpenAI, str]]:
    """A server for generation, and its base URL."""
    server = OpenAI()
    runner, url = loop.run(server.listen())
    yield server, url
    loop.run(runner.cleanup())


@pytest.fixture(scope="module")
def service(start: Callable[..., Running]) -> Running:
    return start()
