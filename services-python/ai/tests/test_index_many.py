"""IndexMany: an answer for each document as soon as it is stored, in order, and patience where the queue is full."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from conftest import Running, as_service
from grpc_errors import fails, reason
from hybrid.ai.v1 import search_service_pb2 as pb

from hybrid_ai.errors import Overloaded
from hybrid_ai.serving.caller import CALLER, Priority

Before = Callable[[Sequence[str]], Any]


def document(key: str, revision: int = 1, text: str = "A heron.") -> pb.Document:
    return pb.Document(id=key, revision=revision, text=text, owner="hal", collection="many")


def index_many(service: Running, requests: Iterator[pb.Document], timeout: float = 20) -> Any:
    messages = (pb.IndexManyRequest(document=one) for one in requests)
    return service.search.IndexMany(messages, metadata=as_service(), timeout=timeout)


@pytest.fixture
def before_embedding(service: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[Before], None]:
    """Has something done before texts are embedded."""
    embed = service.service.embedding.embed

    def insert(before: Before) -> None:
        async def embed_after(texts: Sequence[str]) -> Any:
            await before(texts)
            return await embed(texts)

        monkeypatch.setattr(service.service.embedding, "embed", embed_after)

    return insert


def test_a_document_is_answered_while_the_request_goes_on(service: Running) -> None:
    answered = threading.Event()

    def documents() -> Iterator[pb.Document]:
        for number in range(3):
            answered.clear()
            yield document(f"one/{number}")
            assert answered.wait(20)

    keys = []
    for answer in index_many(service, documents()):
        keys.append(answer.document_id)
        answered.set()
    assert keys == ["one/0", "one/1", "one/2"]


def test_revisions_of_a_document_are_stored_in_the_order_they_were_sent(
    service: Running, before_embedding: Callable[[Before], None]
) -> None:
    async def first_revisions_are_slow(texts: Sequence[str]) -> None:
        await asyncio.sleep(0.3 if "slow" in texts[0] else 0)

    before_embedding(first_revisions_are_slow)
    sent = [
        document("turns/1", 1, "A slow heron."),
        document("turns/1", 2),
        document("turns/2"),
        document("turns/1", 2),
    ]
    answers = list(index_many(service, iter(sent)))
    assert [(answer.document_id, answer.revision, answer.outcome) for answer in answers] == [
        ("turns/1", 1, pb.INDEX_OUTCOME_INDEXED),
        ("turns/1", 2, pb.INDEX_OUTCOME_INDEXED),
        ("turns/2", 1, pb.INDEX_OUTCOME_INDEXED),
        ("turns/1", 2, pb.INDEX_OUTCOME_STALE),
    ]


def test_a_full_queue_makes_many_wait_and_refuses_one(
    service: Running, before_embedding: Callable[[Before], None]
) -> None:
    refusals, priorities = [], set()

    async def full_for_a_while(texts: Sequence[str]) -> None:
        priorities.add(CALLER.get().priority)
        if len(refusals) < 3:
            refusals.append(texts)
            raise Overloaded("the embed queue is full", 0.02, "QUEUE_FULL")

    before_embedding(full_for_a_while)
    answers = list(index_many(service, (document(f"full/{number}") for number in range(2))))
    assert [answer.outcome for answer in answers] == [pb.INDEX_OUTCOME_INDEXED] * 2 and len(refusals) == 3
    assert priorities == {Priority.BULK}
    refusals.clear()
    request = pb.IndexRequest(document=document("full/3"))
    error = fails(lambda: service.search.Index(request, metadata=as_service()), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert reason(error) == "QUEUE_FULL"


def test_no_more_than_eight_documents_are_under_way_and_none_after_the_caller_has_gone(
    service: Running, before_embedding: Callable[[Before], None]
) -> None:
    under_way, most, full = set[str](), list[int](), threading.Event()

    async def never(texts: Sequence[str]) -> None:
        under_way.add(texts[0])
        most.append(len(under_way))
        if len(under_way) == 8:
            full.set()
        try:
            await asyncio.Event().wait()
        finally:
            under_way.discard(texts[0])
            if not under_way:
                gone.set()

    gone = threading.Event()
    before_embedding(never)
    call = index_many(service, (document(f"gone/{number}", text=f"Heron {number}.") for number in range(20)))
    assert full.wait(10)
    call.cancel()
    assert gone.wait(10) and max(most) == 8
