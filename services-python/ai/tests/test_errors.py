"""Errors of every method: a google.rpc.Status with an ErrorInfo; overload is told at once, with when to come back."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from conftest import Running, as_user, wait_until
from google.protobuf import message_factory
from grpc_errors import fails, fields, invalid, reason, retry_delay
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hybrid.ai.v1 import assistant_service_pb2, search_service_pb2, text_service_pb2

SENTENCE = "An event loop waits for many sockets at once, and a batch gathers requests. "
LONG = SENTENCE * 6
METHODS = [
    method
    for file in (text_service_pb2, search_service_pb2, assistant_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def call(service: Running, method: Any, metadata: Any) -> Any:
    """Calls a method with an empty message, whatever its kind."""
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    path = f"/{method.containing_service.full_name}/{method.name}"
    stub = getattr(service.channel, kind)(path, request.SerializeToString, response.FromString)
    return stub(iter([request()]) if method.client_streaming else request(), metadata=metadata)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_asks_for_an_identity(service: Running, method: Any) -> None:
    error = fails(lambda: call(service, method, ()), grpc.StatusCode.UNAUTHENTICATED)
    assert reason(error) == "INVALID_IDENTITY"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_names_what_is_wrong_with_an_empty_request(service: Running, method: Any) -> None:
    error = fails(lambda: call(service, method, as_user()), grpc.StatusCode.INVALID_ARGUMENT)
    assert reason(error) == "INVALID_FIELDS" and fields(error)


@pytest.mark.parametrize("path", ["TextService/Embed", "AssistantService/Chat"])
@pytest.mark.parametrize("messages", [[], [b"\xff"]], ids=["none", "of another type"])
def test_a_request_that_is_no_message_of_its_type_is_named(service: Running, path: str, messages: list[bytes]) -> None:
    raw = service.channel.stream_stream(f"/hybrid.ai.v1.{path}")
    assert invalid(lambda: raw(iter(messages), metadata=as_user())) == ["request"]


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def test_overload_is_answered_at_once_with_when_to_come_back(start: Callable[..., Running]) -> None:
    service = start(AI_EMBED_QUEUE="256")
    request = text_service_pb2.EmbedRequest(texts=[LONG] * 256)
    running = [service.text.Embed.future(request, metadata=as_user()) for _ in range(2)]
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 100)
    health = health_pb2_grpc.HealthStub(service.channel)

    def refused() -> None:
        error = fails(lambda: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert reason(error) == "QUEUE_FULL" and 0.05 <= retry_delay(error) <= 60

    times = [(timed(refused), timed(lambda: health.Check(health_pb2.HealthCheckRequest()))) for _ in range(10)]
    # 20 ms are promised on a machine that has time for it; what this one takes now for any answer comes on top.
    assert min(answer - look for answer, look in times) < 0.02, times
    for one in running:
        one.cancel()


def test_the_time_to_come_back_is_told(start: Callable[..., Running]) -> None:
    service = start(AI_EMBED_QUEUE="256")
    service.text.Embed(text_service_pb2.EmbedRequest(texts=[SENTENCE] * 16), metadata=as_user())  # the speed is known
    request = text_service_pb2.EmbedRequest(texts=[SENTENCE] * 256)
    running = service.text.Embed.future(request, metadata=as_user())
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 100)
    error = fails(lambda: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.RESOURCE_EXHAUSTED)
    running.result()
    # How it comes of what waits is tested with the queue; the speed of a busy machine is anybody's guess.
    assert 0 < retry_delay(error) < 120
    assert len(service.text.Embed(request, metadata=as_user()).embeddings) == 256


def test_a_call_without_the_time_to_wait_is_refused_not_kept(start: Callable[..., Running]) -> None:
    service = start()
    many = text_service_pb2.EmbedRequest(texts=[LONG] * 256)
    service.text.Embed(text_service_pb2.EmbedRequest(texts=[LONG] * 16), metadata=as_user())
    running = [service.text.Embed.future(many, metadata=as_user("bob")) for _ in range(6)]
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 1024)
    error = fails(lambda: service.text.Embed(many, metadata=as_user(), timeout=1.0), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert reason(error) == "QUEUE_DEADLINE" and retry_delay(error) > 1.0
    for one in running:
        one.cancel()


def test_overload_is_answered_before_the_request_has_come(start: Callable[..., Running]) -> None:
    service = start()
    several = text_service_pb2.EmbedRequest(texts=[LONG] * 16)
    service.text.Embed(several, metadata=as_user())  # the speed is known
    running = [service.text.Embed.future(several, metadata=as_user("bob")) for _ in range(100)]
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 1024)
    enough = threading.Event()

    def late() -> Iterator[bytes]:
        enough.wait(30)
        yield several.SerializeToString()

    raw = service.channel.stream_unary("/hybrid.ai.v1.TextService/Embed")
    error = fails(lambda: raw(late(), metadata=as_user(), timeout=1.0), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert reason(error) == "QUEUE_DEADLINE"
    enough.set()
    for one in running:
        one.cancel()
