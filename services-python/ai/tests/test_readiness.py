"""Ready only when warm, and closed whatever failed: the real service, of which one part is held or broken."""

import asyncio
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import SERVICES, Loop, as_user, held, serving, settings, wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hybrid.ai.v1.search_service_pb2 import SearchRequest
from hybrid.ai.v1.search_service_pb2_grpc import SearchServiceStub

from hybrid_ai.server import SEARCH, Service
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.generation import LocalGenerator
from hybrid_ai.store import project
from hybrid_ai.store.index import DocumentIndex

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ("", *SERVICES)


class Starting:
    """A service whose start may not have come to its end."""

    def __init__(self, loop: Loop, folder: Path, **overrides: str) -> None:
        async def build() -> Service:
            return Service(settings(folder, **overrides))

        self.loop = loop
        self.service = loop.run(build())
        self.started = asyncio.run_coroutine_threadsafe(self.service.start(), loop.loop)
        wait_until(lambda: self.service.port != 0)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.service.port}")
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def status(self, name: str) -> int:
        request = health_pb2.HealthCheckRequest(service=name)
        return self.health.Check(request, wait_for_ready=True, timeout=10).status

    def statuses(self) -> dict[str, int]:
        return {name: self.status(name) for name in NAMES}


@pytest.fixture
def starting(loop: Loop, tmp_path: Path) -> Iterator[Any]:
    begun: list[Starting] = []

    def begin(**overrides: str) -> Starting:
        begun.append(Starting(loop, tmp_path / "data", **overrides))
        return begun[-1]

    yield begin
    for one in begun:
        one.channel.close()
        loop.run(one.service.stop())


def test_nothing_is_ready_before_the_models_are_warm(
    loop: Loop, starting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = held(loop, monkeypatch, EmbeddingModel, "warm_up")
    service = starting()
    assert len(NAMES) == 7 and service.statuses() == dict.fromkeys(NAMES, NOT_SERVING)
    assert not service.started.done()
    go()
    service.started.result(30)
    wait_until(lambda: service.statuses() == dict.fromkeys(NAMES, SERVING))


def test_search_alone_is_not_ready_while_its_index_is_filled(
    loop: Loop, starting: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "README.md").write_text("# Walrus\nA walrus has tusks.")
    go = held(loop, monkeypatch, project, "fill")
    service = starting(AI_DOCUMENTS_DIR=str(documents))
    service.started.result(30)
    assert service.statuses() == dict.fromkeys(NAMES, SERVING) | {SEARCH: NOT_SERVING}
    go()
    wait_until(lambda: service.status(SEARCH) == SERVING)
    search = SearchServiceStub(service.channel)
    assert [found.title for found in search.Search(SearchRequest(query="tusks"), metadata=as_user()).results] == [
        "Walrus"
    ]


def is_closed(service: Service) -> bool:
    """Whether the last parts that a stop closes are: the index, then the metrics."""
    with pytest.raises(sqlite3.ProgrammingError):
        service.index._writer.execute("SELECT 1")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=5)
    return True


@pytest.mark.parametrize(
    ("owner", "name", "what"),
    [(DocumentIndex, "refresh", "filling the index"), (LocalGenerator, "load", "loading the chat model")],
    ids=["the index", "the chat model"],
)
def test_what_fails_beside_the_calls_is_logged_then_and_everything_is_closed_at_the_stop(
    loop: Loop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    name: str,
    what: str,
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(owner, name, broken)
    with serving(loop, settings(tmp_path, AI_CHAT_LOAD="background")) as running:
        wait_until(lambda: "the disk is gone" in caplog.text)
        (told,) = caplog.records
        assert (vars(told)["what"], told.levelname) == (what, "ERROR")
    assert is_closed(running.service)


def test_a_part_that_cannot_be_closed_keeps_no_other_open(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("does not close")

    with pytest.raises(RuntimeError, match="does not close"), serving(loop, settings(tmp_path)) as running:
        close = running.service.pages.close
        monkeypatch.setattr(running.service.pages, "close", broken)
    close()
    assert is_closed(running.service)
