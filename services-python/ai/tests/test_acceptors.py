"""Calls that are taken several at a time are answered as gRPC's own server answers them, and end with the server."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from conftest import Loop, Running, as_user, sign, wait_until
from grpc_errors import fails, fields, reason
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai import acceptors

CANCELLED = 'ai_calls_total{code="CANCELLED",method="/hybrid.ai.v1.TextService/Embed"}'


@pytest.fixture(scope="module", params=[True, False], ids=["several at once", "as grpc.aio does"])
def either(request: pytest.FixtureRequest, start: Callable[..., Running]) -> Iterator[Running]:
    assert acceptors.AVAILABLE, "grpcio's private parts have changed: see acceptors.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceptors, "AVAILABLE", request.param)
        service = start()
    assert bool(service.service._acceptors._running) is request.param
    yield service


def embed(service: Running, text: str = "one", **options: Any) -> Any:
    return service.text.Embed.future(pb.EmbedRequest(texts=[text]), **{"metadata": as_user(), **options})


def test_a_crowd_of_calls_is_answered(either: Running) -> None:
    answers = [embed(either, f"text {number}") for number in range(200)]
    first = answers[0].result().embeddings[0].values
    others = [answer.result().embeddings[0].values for answer in answers[1:]]
    assert len(first) == 384 and all(len(other) == 384 and other != first for other in others)


def test_refusals_have_their_reasons(either: Running) -> None:
    error = fails(lambda: embed(either, metadata=()).result(), grpc.StatusCode.UNAUTHENTICATED)
    assert reason(error) == "INVALID_IDENTITY"
    forged = (("x-hybrid-identity", sign(secret="another secret, of at least 32 bytes")),)
    fails(lambda: embed(either, metadata=forged).result(), grpc.StatusCode.UNAUTHENTICATED)
    error = fails(lambda: embed(either, "").result(), grpc.StatusCode.INVALID_ARGUMENT)
    assert fields(error) == ["texts[0]"]


def test_a_refusal_comes_through_while_the_request_is_still_being_sent(either: Running) -> None:
    text = "word " * 200_000  # more than a stream may send before it is read
    for _ in range(20):
        error = fails(lambda: embed(either, text, metadata=()).result(), grpc.StatusCode.UNAUTHENTICATED)
        assert reason(error) == "INVALID_IDENTITY"


def test_callers_that_go_away_before_they_are_refused_leave_nothing_behind(
    either: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(200):
        embed(either, metadata=()).cancel()
    assert embed(either).result().embeddings
    wait_until(lambda: either.service._edge.under_way.calls == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_method_that_is_none_is_unimplemented(either: Running) -> None:
    for path in ("/hybrid.ai.v1.TextService/Embe", "/hybrid.ai.v1.TextService/Embed2", "/hybrid.ai.v1.None/Embed"):
        call = either.channel.unary_unary(path)
        fails(lambda call=call: call(b"", metadata=as_user()), grpc.StatusCode.UNIMPLEMENTED)


def test_deadlines_and_cancellations_reach_the_call(either: Running) -> None:
    dropped = either.metric(CANCELLED)
    late = [embed(either, "word " * 200, timeout=0.02) for _ in range(64)]
    left = [embed(either, "word " * 200) for _ in range(64)]
    for call in left:
        call.cancel()
    codes = {call.code() for call in late}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    wait_until(lambda: either.metric(CANCELLED) > dropped)
    wait_until(lambda: either.metric('ai_queued_items{model="embed"}') == 0)
    assert embed(either).result().embeddings


def test_health_is_answered_beside(either: Running) -> None:
    health = health_pb2_grpc.HealthStub(either.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_they_end_with_the_server(loop: Loop, start: Callable[..., Running]) -> None:
    service = start()
    running = service.service._acceptors._running
    assert len(running) >= 64
    loop.run(service.service._server.stop(0))
    wait_until(lambda: not running)
