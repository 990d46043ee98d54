"""Composes the service: the only module that knows all others. Building it and listening are separate steps."""

import asyncio
import contextlib
import logging
import time
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from hybrid.ai.v1 import text_service_pb2_grpc
from prometheus_client import start_http_server

from hybrid_ai import telemetry
from hybrid_ai.config import Config
from hybrid_ai.identity import Verifier
from hybrid_ai.models.embedder import Embedder, TextTokenizer
from hybrid_ai.services.edge import Edge
from hybrid_ai.services.text import TextService
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.worker import Limits

_LOG = logging.getLogger("hybrid_ai")
TEXT, SEARCH, ASSISTANT = (f"hybrid.ai.v1.{name}Service" for name in ("Text", "Search", "Assistant"))
_RECEIVE_LIMIT = 8 * 1024 * 1024
_BATCH_WORKS = 64
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _RECEIVE_LIMIT),
    ("grpc.max_send_message_length", _RECEIVE_LIMIT),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class Service:
    """The whole service. `start` returns when it listens and its models are warm."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.port = 0
        self.metrics_port = 0
        self._tasks: list[asyncio.Task[Any]] = []
        embedder = Embedder(config.models_dir, config.threads)
        tokenizer = TextTokenizer(config.models_dir)
        limits = Limits(config.embed_queue, config.embed_batch_tokens, _BATCH_WORKS)
        self.embedding = EmbeddingModel(embedder, tokenizer, limits)
        self.health = health.aio.HealthServicer()
        self._server = grpc.aio.server(interceptors=[Edge(Verifier(config.secret))], options=_OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        text_service_pb2_grpc.add_TextServiceServicer_to_server(TextService(self.embedding), self._server)
        names = (TEXT, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Listens, warms the models, and says so by the health service."""
        for name in ("", TEXT, SEARCH, ASSISTANT):
            await self._set_health(name, False)
        host, _, port = self.config.metrics_listen.rpartition(":")
        self._metrics, self._metrics_thread = start_http_server(int(port), host)
        self.metrics_port = self._metrics.server_port
        self.port = self._server.add_insecure_port(self.config.listen)
        await self._server.start()
        self._tasks.append(asyncio.create_task(_watch_loop()))
        await self.embedding.warm_up()
        for name in ("", TEXT):
            await self._set_health(name, True)
        host = self.config.listen.rpartition(":")[0]
        _LOG.info("ready", extra={"listen": f"{host}:{self.port}", "metrics_port": self.metrics_port})

    async def stop(self) -> None:
        """Stops accepting, lets calls finish within the configured bound, and ends every thread."""
        await self.health.enter_graceful_shutdown()
        await self._server.stop(self.config.shutdown_seconds)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.embedding.close()
        self._metrics.shutdown()
        self._metrics.server_close()

    async def _set_health(self, name: str, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set(name, status)


async def _watch_loop() -> None:
    """Measures how late the event loop runs: what blocks it shows here."""
    interval = 0.25
    while True:
        before = time.perf_counter()
        await asyncio.sleep(interval)
        telemetry.LOOP_LAG_SECONDS.observe(max(0.0, time.perf_counter() - before - interval))
