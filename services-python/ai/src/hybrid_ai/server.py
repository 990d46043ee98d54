"""Composes the service: the only module that knows all others. Building it and listening are separate steps."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from hybrid.ai.v1 import (
    assistant_service_pb2_grpc,
    forecast_service_pb2_grpc,
    openai_service_pb2_grpc,
    recommend_service_pb2_grpc,
    search_service_pb2_grpc,
    text_service_pb2_grpc,
)
from prometheus_client import start_http_server

from hybrid_ai import telemetry
from hybrid_ai.acceptors import Acceptors
from hybrid_ai.config import Config
from hybrid_ai.errors import PublicError
from hybrid_ai.identity import Verifier
from hybrid_ai.models.embedder import Embedder, TextTokenizer
from hybrid_ai.models.toxicity import ToxicityModel
from hybrid_ai.recommend.recommender import Recommender
from hybrid_ai.services.assistant import AssistantService
from hybrid_ai.services.edge import Edge
from hybrid_ai.services.forecast import ForecastService
from hybrid_ai.services.openai import OpenAIService, Writers
from hybrid_ai.services.openai_errors import shaped
from hybrid_ai.services.recommend import RecommendService
from hybrid_ai.services.search import SearchService
from hybrid_ai.services.text import TextService
from hybrid_ai.services.text_checks import MAX_HTML
from hybrid_ai.serving import memory
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.fetch import Fetcher
from hybrid_ai.serving.generation import LocalGenerator
from hybrid_ai.serving.moderation import ModerationModel
from hybrid_ai.serving.numeric import NumericWorker
from hybrid_ai.serving.pool import PoolLimits, ProcessPool
from hybrid_ai.serving.upstream import UpstreamGenerator
from hybrid_ai.serving.worker import Limits
from hybrid_ai.store import project
from hybrid_ai.store.answer import Extractor
from hybrid_ai.store.index import DocumentIndex
from hybrid_ai.store.reindex import identity_of

_LOG = logging.getLogger("hybrid_ai")
TEXT, SEARCH, ASSISTANT, OPENAI, RECOMMEND, FORECAST = _NAMES = tuple(
    f"hybrid.ai.v1.{name}Service" for name in ("Text", "Search", "Assistant", "OpenAI", "Recommend", "Forecast")
)
_RECEIVE_LIMIT = 8 * 1024 * 1024
_BATCH_WORKS = 16
_FETCH_SECONDS = 10.0
_FORECAST_QUEUE = 256
_OPTIONS = [
    ("grpc.max_receive_message_length", _RECEIVE_LIMIT),
    ("grpc.max_send_message_length", _RECEIVE_LIMIT),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # gRPC itself answers CANCELLED to some of more than 1,000 calls that were not taken yet (a pause, then a flood).
    # Here they are all taken, and refused with a reason.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 50_000),
]


class Service:
    """The whole service. `start` returns when it listens and its models are warm."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.port = 0
        self.metrics_port = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._supervised = config.supervisor >= 0
        memory.share_heaps()
        embedder = Embedder(config.models_dir, cores=config.embed_threads)
        tokenizer = TextTokenizer(config.models_dir)
        limits = Limits(config.embed_queue, config.embed_batch_tokens, _BATCH_WORKS)
        self.embedding = EmbeddingModel(embedder, tokenizer, limits, config.embed_threads)
        self.moderation = ModerationModel(ToxicityModel(config.models_dir))
        self.pages = ProcessPool("extract", "hybrid_ai.models.page:extract", _pool_limits(config))
        self.index = DocumentIndex(config.data_dir, self.embedding, identity_of(config.models_dir))
        self.recommender = Recommender(config.models_dir, config.data_dir)
        self.forecasting = NumericWorker("forecast", _FORECAST_QUEUE)
        self.local = LocalGenerator(config.models_dir, config.chat_threads, config.chat_context, config.chat_queue)
        self.upstreams = [UpstreamGenerator(upstream) for upstream in config.upstreams]
        self.health = health.aio.HealthServicer()
        gates = self._gates()
        self._edge = Edge(Verifier(config.secret), gates)
        self._server = grpc.aio.server(
            interceptors=[self._edge], options=[*_OPTIONS, ("grpc.so_reuseport", int(self._supervised))]
        )
        # What may be refused at once is what floods hit; a check of health waits behind none of it. Each method here
        # makes all calls dearer: OpenAI's are refused as well, but taken as gRPC takes them.
        flooded = [method for method in gates if method.startswith(f"/{TEXT}/")]
        self._acceptors = Acceptors(self._server, self._edge.unary, flooded, apart=[f"/{health.SERVICE_NAME}/Check"])
        self._add_services()

    def _gates(self) -> dict[str, Callable[[], None]]:
        """What is refused before it is read, by method: where all work is one model's."""
        gates = dict.fromkeys((f"/{TEXT}/{name}" for name in ("Embed", "Classify", "Summarize")), self.embedding.admit)
        openai = _in_openais_form(self.embedding.admit)
        return gates | {f"/{TEXT}/Moderate": self.moderation.admit, f"/{OPENAI}/CreateEmbeddings": openai}

    def _add_services(self) -> None:
        server: Any = self._acceptors
        fallback, first = self.config.fallback, self.upstreams[0].model if self.upstreams else self.local.model
        writers = Writers(self.local, self.upstreams, fallback)
        assistant = AssistantService(
            self.index,
            Extractor(self.embedding),
            chat=writers.of(first),
            writers=[upstream for upstream in self.upstreams if upstream.model == first],
            fallback=fallback,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        fetcher = (
            Fetcher(self.config.extract_fetch_allow, MAX_HTML, _FETCH_SECONDS) if self.config.extract_fetch else None
        )
        text = TextService(self.embedding, self.moderation, self.pages, fetcher)
        text_service_pb2_grpc.add_TextServiceServicer_to_server(text, server)
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchService(self.index), server)
        assistant_service_pb2_grpc.add_AssistantServiceServicer_to_server(assistant, server)
        openai_service_pb2_grpc.add_OpenAIServiceServicer_to_server(OpenAIService(self.embedding, writers), server)
        recommend_service_pb2_grpc.add_RecommendServiceServicer_to_server(RecommendService(self.recommender), server)
        forecast_service_pb2_grpc.add_ForecastServiceServicer_to_server(ForecastService(self.forecasting), server)
        reflection.enable_server_reflection((*_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    async def start(self) -> None:
        """Listens, warms the models, and says so by the health service."""
        for name in ("", *_NAMES):
            await self._set_health(name, False)
        if not self._supervised:  # else the supervisor shows every process's metrics as one
            host, _, port = self.config.metrics_listen.rpartition(":")
            self._metrics, _ = start_http_server(int(port), host)
            self.metrics_port = self._metrics.server_port
        self.port = self._server.add_insecure_port(self.config.listen)
        await self._server.start()
        self._acceptors.start()
        self._run_beside("watching the event loop", _watch_loop())
        await self.embedding.warm_up()
        await self.moderation.score(["ready"])
        if self.config.chat_load == "start" and not self.upstreams:
            await self.local.load()
        for name in ("", *(name for name in _NAMES if name != SEARCH)):  # that one when the index is filled
            await self._set_health(name, True)
        self._run_beside("filling the index", self._fill_index())
        if self.config.chat_load == "background" and not self.upstreams:
            self._run_beside("loading the chat model", self.local.load())
        host = self.config.listen.rpartition(":")[0]
        _LOG.info("ready", extra={"listen": f"{host}:{self.port}", "metrics_port": self.metrics_port})

    async def stop(self) -> None:
        """Stops accepting, lets calls finish within the configured bound, and ends every thread."""
        await self.health.enter_graceful_shutdown()
        await self._drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await asyncio.gather(*(upstream.close() for upstream in self.upstreams))
        finally:
            await asyncio.to_thread(self._close)

    async def _drain(self) -> None:
        """Accepts nothing new, and waits for the calls under way, but not for those who watch the health."""
        closed = asyncio.create_task(self._server.stop(self.config.shutdown_seconds))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._edge.under_way.idle(), self.config.shutdown_seconds)
        await asyncio.sleep(0)  # the last answer is written before the connections are closed
        await self._server.stop(0.1)
        await closed

    def _run_beside(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs it beside the calls until the stop. Nobody waits for it, so that its failure is logged as it happens."""

        async def run() -> None:
            try:
                await work
            except Exception:
                _LOG.exception("failed while calls go on", extra={"what": what})

        self._tasks.append(asyncio.create_task(run()))

    async def _fill_index(self) -> None:
        """Indexes the project's documents after the start; then search is ready.

        The first of several processes does it alone, and embeds anew what another model did: the others follow it.
        """
        try:
            if self.config.documents_dir is not None and self.config.process == 0:
                await project.fill(self.index, self.config.documents_dir)
        except Exception:
            _LOG.exception("the project's documents could not be indexed")
        await self._set_health(SEARCH, True)
        await asyncio.to_thread(memory.give_back)  # what loading the models and the index left over
        if self.config.process == 0 and (refreshed := await self.index.refresh()):
            _LOG.info("documents embedded anew, with another model", extra={"documents": refreshed})

    def _close(self) -> None:
        """Closes everything, whatever fails on the way, in this order."""
        parts = (
            self.local, self.pages, self.moderation, self.recommender, self.forecasting, self.embedding, self.index,
        )  # fmt: skip
        with contextlib.ExitStack() as last_first:
            if not self._supervised:
                last_first.callback(self._metrics.server_close)
                last_first.callback(self._metrics.shutdown)
            for part in reversed(parts):
                last_first.callback(part.close)

    async def _set_health(self, name: str, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set(name, status)


def _in_openais_form(admit: Callable[[], None]) -> Callable[[], None]:
    """Refuses as OpenAI's clients know it."""

    def ask() -> None:
        try:
            admit()
        except PublicError as error:
            raise shaped(error) from None

    return ask


def _pool_limits(config: Config) -> PoolLimits:
    return PoolLimits(
        processes=config.extract_processes,
        queue=config.extract_queue,
        megabytes=config.extract_megabytes,
        seconds=config.extract_seconds,
    )


async def _watch_loop() -> None:
    """Measures how late the event loop runs: what blocks it shows here."""
    interval = 0.25
    while True:
        before = time.perf_counter()
        await asyncio.sleep(interval)
        telemetry.LOOP_LAG_SECONDS.observe(max(0.0, time.perf_counter() - before - interval))
