"""Errors of every method: a google.rpc.Status with an ErrorInfo; overload is told at once, with when to come back."""

import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import SERVICES, Running, as_user, wait_until
from google.api import httpbody_pb2
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_errors import fails, fields, invalid, reason, retry_delay
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from hybrid.ai.v1 import text_service_pb2

import hybrid_ai
from hybrid_ai.serving.work import Job

SENTENCE = "An event loop waits for many sockets at once, and a batch gathers requests. "
LONG = SENTENCE * 6
METHODS = [method for service in SERVICES.values() for method in service.methods]
# What may be asked for without saying more (a series' first value is 0); and a model without a name, which is nowhere.
EMPTY_IS_FINE, EMPTY_IS_NOWHERE = {"ListModels", "ListItems", "Recommend", "DetectAnomalies"}, {"GetModel"}


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
def test_every_method_answers_an_empty_request_or_says_what_is_wrong(service: Running, method: Any) -> None:
    if method.name in EMPTY_IS_FINE:
        answer = call(service, method, as_user())
        assert all(one.ByteSize() > 0 for one in (answer if method.server_streaming else [answer]))
    elif method.name in EMPTY_IS_NOWHERE:
        assert reasons(fails(lambda: call(service, method, as_user()), grpc.StatusCode.NOT_FOUND)) == ["NOT_FOUND"]
    else:
        error = fails(lambda: call(service, method, as_user()), grpc.StatusCode.INVALID_ARGUMENT)
        assert reasons(error) == ["INVALID_FIELDS"] and fields(error)


def reasons(error: grpc.RpcError) -> list[str]:
    """Of every ErrorInfo among the details: errors of OpenAI's methods end with another detail."""
    found, info = list[str](), error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    for detail in status.details:
        if detail.Unpack(info):
            assert info.domain == "ai.hybrid"
            found.append(info.reason)
    return found


@pytest.mark.parametrize("path", ["TextService/Embed", "AssistantService/Chat"])
@pytest.mark.parametrize("messages", [[], [b"\xff"]], ids=["none", "of another type"])
def test_a_request_that_is_no_message_of_its_type_is_named(service: Running, path: str, messages: list[bytes]) -> None:
    raw = service.channel.stream_stream(f"/hybrid.ai.v1.{path}")
    assert invalid(lambda: raw(iter(messages), metadata=as_user())) == ["request"]


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


@pytest.fixture(scope="module")
def small(start: Callable[..., Running]) -> Running:
    """A service whose queue is soon full."""
    return start(AI_EMBED_QUEUE="256")


def drained(service: Running) -> Running:
    """What an earlier test has cancelled is gone."""
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') == 0)
    return service


def test_overload_is_answered_at_once_with_when_to_come_back(small: Running) -> None:
    service = drained(small)
    request = text_service_pb2.EmbedRequest(texts=[LONG * 3] * 256)
    running = [service.text.Embed.future(request, metadata=as_user()) for _ in range(2)]
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 100)
    health = health_pb2_grpc.HealthStub(service.channel)

    def refused() -> None:
        error = fails(lambda: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert reason(error) == "QUEUE_FULL" and 0.05 <= retry_delay(error) <= 60

    times = [(timed(refused), timed(lambda: health.Check(health_pb2.HealthCheckRequest()))) for _ in range(50)]
    # 20 ms are promised on a machine that has time for it; what this one takes now for any answer comes on top.
    assert statistics.median(answer - look for answer, look in times) < 0.02, times
    for one in running:
        one.cancel()


def test_the_time_to_come_back_is_that_of_the_queue(small: Running) -> None:
    service = drained(small)
    service.text.Embed(
        text_service_pb2.EmbedRequest(texts=[SENTENCE * 3] * 64), metadata=as_user()
    )  # the speed is known
    request = text_service_pb2.EmbedRequest(texts=[SENTENCE * 3] * 256)
    running = service.text.Embed.future(request, metadata=as_user())
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 200)
    error = fails(lambda: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.RESOURCE_EXHAUSTED)
    true = timed(running.result)
    assert true / 3 < retry_delay(error) < true * 3, (retry_delay(error), true)
    again = text_service_pb2.EmbedRequest(texts=[SENTENCE] * 16)
    assert len(service.text.Embed(again, metadata=as_user()).embeddings) == 16


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

    for method in ("TextService/Embed", "OpenAIService/CreateEmbeddings"):
        raw = service.channel.stream_unary(f"/hybrid.ai.v1.{method}")
        error = fails(lambda raw=raw: raw(late(), metadata=as_user(), timeout=1.0), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert reasons(error) == ["QUEUE_DEADLINE"]
    shown = openai_error(error)  # as its clients know it, although nothing of the request was read
    assert (shown["type"], shown["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    enough.set()
    for one in running:
        one.cancel()


def openai_error(error: grpc.RpcError) -> dict[str, Any]:
    status, content = rpc_status.from_call(error), httpbody_pb2.HttpBody()
    assert status is not None and status.details[-1].Unpack(content)
    return json.loads(content.data)["error"]


@pytest.fixture
def standing(small: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """The service with an embedder whose batches do not come to an end: what waits goes on waiting."""
    go, engine = threading.Event(), small.service.embedding._embedder
    embed = engine.embed

    def wait(batch: Any) -> Any:
        go.wait(20)
        return embed(batch)

    monkeypatch.setattr(engine, "embed", wait)
    yield small
    go.set()


def test_whoever_has_many_texts_in_a_full_queue_makes_room_for_others(standing: Running) -> None:
    def embed(subject: str) -> Any:
        request = text_service_pb2.EmbedRequest(texts=[LONG] * 16)
        return standing.text.Embed.future(request, metadata=as_user(subject))

    drained(standing)
    alice = [embed("alice") for _ in range(16)]
    wait_until(lambda: standing.metric('ai_queued_items{model="embed"}') > 240)
    bob = embed("bob")
    wait_until(lambda: any(one.done() for one in alice))
    (lost,) = (one for one in alice if one.done())
    assert lost.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and not bob.done()
    assert reason(lost) == "QUEUE_DISPLACED" and retry_delay(lost) >= 0.05
    for one in (bob, *alice):
        one.cancel()


def test_a_fault_of_this_service_is_logged_once_and_not_told(
    service: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(texts: object) -> None:
        raise ZeroDivisionError("the seventh text of alice")

    monkeypatch.setattr(service.service.embedding, "embed", broken)
    request = text_service_pb2.EmbedRequest(texts=["a"])
    error = fails(lambda: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.INTERNAL)
    assert reason(error) == "INTERNAL" and error.details() == "internal error"
    assert "seventh" not in str(error.trailing_metadata())
    (told,) = caplog.records
    assert told.levelname == "ERROR" and "the seventh text of alice" in caplog.text
    assert vars(told)["method"] == "/hybrid.ai.v1.TextService/Embed"


def test_what_is_too_late_in_the_queue_is_told_so(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC ends a call at its deadline by itself; here the work alone is too late, so that the reason is seen."""
    monkeypatch.setattr(Job, "expired", True)
    for text in ("alone", LONG):
        request = text_service_pb2.EmbedRequest(texts=[text])
        error = fails(
            lambda request=request: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.DEADLINE_EXCEEDED
        )
        assert reason(error) == "DEADLINE_EXCEEDED"


def test_a_model_that_is_being_closed_takes_nothing_more(start: Callable[..., Running]) -> None:
    service = start()
    service.service.embedding._worker.close()
    request = text_service_pb2.EmbedRequest(texts=[LONG])
    error = fails(lambda: service.text.Embed(request, metadata=as_user()), grpc.StatusCode.UNAVAILABLE)
    assert reason(error) == "SHUTTING_DOWN"


def test_the_readme_lists_the_reasons_that_are_sent() -> None:
    folder = Path(hybrid_ai.__file__).parent
    code = "\n".join(file.read_text() for file in folder.rglob("*.py"))
    sent = set(re.findall(r"""reason ?= ?"([A-Z_]+)\"""", code))
    sent |= {f"QUEUE_{why.upper()}" for why in re.findall(r"""_refusal\([^"]*"([a-z]+)",""", code)}
    listed = re.search(r"\*\*Errors\*\* are .*?\n- ", (folder.parent.parent / "README.md").read_text(), re.DOTALL)
    assert listed is not None and set(re.findall(r"`([A-Z_]+)`", listed[0])) == sent
