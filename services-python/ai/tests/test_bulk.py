"""Bulk and interactive texts on the real service, whose embedder is held back by hand: who goes first, who waits."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from conftest import Running, as_user, wait_until
from grpc_errors import fails, reason
from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai.models.embedder import Embedder, Encoding, Vectors

WAITING, FULL = 'ai_queued_items{model="embed"}', 'ai_rejected_total{model="embed",reason="full"}'


class Held:
    """An embedder that works while `open` is set, and remembers of each text how many tokens it had."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.open = threading.Event()
        self.started = False
        self.tokens: list[int] = []

    def embed(self, batch: Sequence[Encoding]) -> Vectors:
        self.started = True
        assert self.open.wait(20)
        self.tokens += [len(encoding.ids) for encoding in batch]
        return self._embedder.embed(batch)


@pytest.fixture
def held(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Running, Held]]:
    """A service of one thread and room for 256 texts, whose embedder is busy with one."""
    service = start(AI_EMBED_QUEUE="256", AI_EMBED_THREADS="1")
    embedder = Held(service.service.embedding._embedder)
    monkeypatch.setattr(service.service.embedding, "_embedder", embedder)
    busy = embed(service, "carol", 2)
    wait_until(lambda: embedder.started and service.metric(WAITING) == 0)
    yield service, embedder
    embedder.open.set()
    assert len(busy.result(20).embeddings) == 2


def embed(service: Running, person: str, texts: int, text: str = "a") -> Any:
    """The call, under way."""
    return service.text.Embed.future(pb.EmbedRequest(texts=[text] * texts), metadata=as_user(person))


def test_sixteen_texts_are_interactive_and_seventeen_are_bulk(held: tuple[Running, Held]) -> None:
    """Two interactive requests, or two bulk ones, would take turns, text by text."""
    service, embedder = held
    bulk = embed(service, "alice", 17, "a b")
    wait_until(lambda: service.metric(WAITING) == 17)
    interactive = embed(service, "bob", 16)
    wait_until(lambda: service.metric(WAITING) == 33)
    embedder.open.set()
    assert len(interactive.result(20).embeddings) == 16 and len(bulk.result(20).embeddings) == 17
    assert embedder.tokens[2:] == [3] * 16 + [4] * 17


def test_a_stream_is_bulk_however_few_its_texts_are(held: tuple[Running, Held]) -> None:
    service, embedder = held
    stream = service.text.EmbedStream(iter([pb.EmbedStreamRequest(texts=["a b"] * 16)]), metadata=as_user("alice"))
    wait_until(lambda: service.metric(WAITING) == 16)
    interactive = embed(service, "bob", 16)
    wait_until(lambda: service.metric(WAITING) == 32)
    embedder.open.set()
    assert len(interactive.result(20).embeddings) == 16 and len(list(stream)) == 1
    assert embedder.tokens[2:] == [3] * 16 + [4] * 16


def test_a_stream_waits_while_the_queue_is_full_and_goes_on(held: tuple[Running, Held]) -> None:
    service, embedder = held
    others = [embed(service, "bob", 16) for _ in range(16)]
    wait_until(lambda: service.metric(WAITING) == 256)
    before = service.metric(FULL)
    error = fails(lambda: embed(service, "alice", 17).result(), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert reason(error) == "QUEUE_FULL" and service.metric(FULL) == before + 1
    answers: list[pb.EmbedStreamResponse] = []
    messages = [pb.EmbedStreamRequest(texts=["a b"] * 100) for _ in range(5)]
    stream = threading.Thread(
        target=lambda: answers.extend(service.text.EmbedStream(iter(messages), metadata=as_user("alice")))
    )
    stream.start()
    wait_until(lambda: service.metric(FULL) >= before + 3)  # it was refused, and came back to be refused again
    assert stream.is_alive() and answers == []
    embedder.open.set()
    stream.join(20)
    assert [len(answer.embeddings) for answer in answers] == [100] * 5
    assert all(len(other.result(20).embeddings) == 16 for other in others)


def test_moderation_does_not_wait_for_embeddings(held: tuple[Running, Held]) -> None:
    service, _ = held
    waiting = [embed(service, "alice", 100) for _ in range(2)]
    wait_until(lambda: service.metric(WAITING) == 200)
    request = pb.ModerateRequest(texts=["You are a complete idiot."] * 64)
    assert len(service.text.Moderate(request, metadata=as_user("alice"), timeout=10).moderations) == 64
    assert service.metric(WAITING) == 200 and not any(call.done() for call in waiting)
