"""What all calls together may hold is bounded, whatever they ask for: past it they are refused, with when to return."""

import grpc
import pytest
from conftest import Running, as_user, wait_until
from grpc_errors import fails, reason, retry_delay
from hybrid.ai.v1 import assistant_service_pb2 as assistant_pb
from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai.services import under_way

REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_hold_no_more_bytes_than_the_bound(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    request = pb.ModerateRequest(texts=["word " * 6_000] * 4)
    size = request.ByteSize()
    monkeypatch.setattr(under_way, "MOST_BYTES", size)
    for _ in range(3):  # what ended holds nothing any more
        service.text.Moderate(request, metadata=as_user())
    monkeypatch.setattr(under_way, "MOST_BYTES", size - 1)
    error = fails(lambda: service.text.Moderate(request, metadata=as_user()), REFUSED)
    assert reason(error) == "QUEUE_FULL" and retry_delay(error) == 1.0
    assert "bytes" in str(error.details())
    assert service.text.Moderate(pb.ModerateRequest(texts=["fine"]), metadata=as_user()).moderations
    wait_until(lambda: service.service._edge.under_way.bytes == 0)


def test_no_more_calls_are_under_way_than_the_bound(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_way, "MOST_CALLS", 2)
    message = assistant_pb.ChatMessage(role=assistant_pb.CHAT_ROLE_USER, content="Count from one to one thousand.")
    chats = [
        service.assistant.Chat(assistant_pb.ChatRequest(messages=[message], max_tokens=500), metadata=as_user())
        for _ in range(2)
    ]
    wait_until(lambda: service.service._edge.under_way.calls == 2)
    error = fails(lambda: service.text.Embed(pb.EmbedRequest(texts=["one"]), metadata=as_user()), REFUSED)
    assert reason(error) == "QUEUE_FULL" and retry_delay(error) == 1.0
    assert "calls" in str(error.details())
    for chat in chats:
        chat.cancel()
    wait_until(lambda: service.service._edge.under_way.calls == 0)
    assert service.text.Embed(pb.EmbedRequest(texts=["one"]), metadata=as_user()).embeddings
