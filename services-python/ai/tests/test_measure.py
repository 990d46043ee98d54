"""What the measurements report: each bar is about a figure that is there, so that a benchmark can be held to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import SECRET
from hybrid.ai.v1 import assistant_service_pb2 as pb

from hybrid_ai.measure import answer, search
from hybrid_ai.models.language_model import Usage


def figure(report: dict[str, Any], path: str) -> float:
    """A figure by its path, of which the parts are parted by dots."""
    value: Any = report
    for part in path.split("."):
        value = value[part]
    assert isinstance(value, float | int)
    return value


def holds(report: dict[str, Any], path: str, bar: str) -> bool:
    sign, limit = bar.split()
    return {"<=": figure(report, path) <= float(limit), ">=": figure(report, path) >= float(limit)}[sign]


def test_a_search_s_bars_are_about_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def passages(count: int) -> list[tuple[str, str]]:
        return [
            (f"file{number // 5}", f"Passage {number} of a file about wood{number % 7}.") for number in range(count)
        ]

    monkeypatch.setattr(search, "passages", passages)
    report = search.main(["--passages", "200", "--queries", "10"])
    assert len(report["bars"]) == 4
    assert all(holds(report, path, bar) for path, bar in report["bars"].items()), report


def test_an_answer_s_bars_are_about_its_figures() -> None:
    class Model:
        def generate(self, request: object, emit: Callable[[str], None], cancelled: object) -> Usage:
            for piece in "abc":
                emit(piece)
            return Usage("stop", 9, 3)

    class Stub:
        async def Chat(self, request: object, metadata: object) -> AsyncIterator[pb.ChatResponse]:
            for piece in "abc":
                yield pb.ChatResponse(delta=pb.ChatDelta(text=piece))
            yield pb.ChatResponse(completed=pb.ChatCompleted(prompt_tokens=9, completion_tokens=3))

    config = SimpleNamespace(secret=SECRET.encode())
    service: Any = SimpleNamespace(local=SimpleNamespace(_model=Model), config=config)
    report = asyncio.run(answer._chats(service, Stub(), 1))
    assert len([figure(report, path) for path in answer._CHAT_BARS]) == 2
    assert answer._CITATION_BARS == {"citation after retrieval.p99_ms": "<= 50"}
