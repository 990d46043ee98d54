"""grpcio's blocking channel, which passes through the gateway as native gRPC."""

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
from contract import AUTHORIZED, LIMIT, PROBES, TARGET, methods, sample
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from report import check


def failure(call: Callable[[], Any]) -> Any:
    """The error that a call fails with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call should have failed")


def numbers(stream: Iterable[Any], into: list[int] | None = None) -> list[int]:
    """The numbers that come until the stream ends; those before a failure stay in `into`."""
    found = into if into is not None else []
    for message in stream:
        found.append(message.number)
    return found


def unary(lab: SimpleNamespace) -> None:
    answer, call = lab.echo.with_call(sample("hello", 7), metadata=AUTHORIZED + PROBES, timeout=LIMIT)
    assert (answer.text, answer.number) == ("hello", 7)
    assert call.code() == grpc.StatusCode.OK
    assert dict(call.initial_metadata())["server-timing"].endswith("inference;dur=1.5")
    assert dict(call.trailing_metadata())["x-counted"] == "yes"


def errors(lab: SimpleNamespace) -> None:
    refused = failure(lambda: lab.get(sample("refuse"), timeout=LIMIT))
    assert (refused.code(), refused.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "not good")
    status = rpc_status.from_call(refused)
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    assert [status.details[0].Unpack(bad), status.details[1].Unpack(retry)] == [True, True]
    assert (bad.field_violations[0].field, retry.retry_delay.ToMilliseconds()) == ("list[0]", 2500)
    assert failure(lambda: lab.echo(sample("x"), timeout=LIMIT)).code() == grpc.StatusCode.UNAUTHENTICATED
    assert failure(lambda: numbers(lab.mine(sample("x"), timeout=LIMIT))).code() == grpc.StatusCode.UNAUTHENTICATED
    large = failure(lambda: lab.get(sample("x" * 20_000), timeout=LIMIT))
    assert large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def hidden(lab: SimpleNamespace) -> None:
    for method in (lab.inner, lab.unruled):
        error = failure(lambda method=method: method(sample("x"), timeout=LIMIT))
        assert error.code() == grpc.StatusCode.NOT_FOUND, error


def server_stream(lab: SimpleNamespace) -> None:
    call = lab.watch(sample("t", 500), timeout=LIMIT)
    assert numbers(call) == list(range(500))
    assert dict(call.trailing_metadata())["x-counted"] == "yes"
    before: list[int] = []
    error = failure(lambda: numbers(lab.watch(sample("fail", 3), timeout=LIMIT), before))
    assert (before, error.code()) == ([0, 1, 2], grpc.StatusCode.UNAVAILABLE)
    first = failure(lambda: numbers(lab.watch(sample("refuse"), timeout=LIMIT)))
    assert (first.code(), len(rpc_status.from_call(first).details)) == (grpc.StatusCode.INVALID_ARGUMENT, 2)


def client_stream(lab: SimpleNamespace) -> None:
    answer = lab.gather(iter([sample(text) for text in "abc"]), timeout=LIMIT)
    assert (answer.number, list(answer.list)) == (3, ["a", "b", "c"])


def duplex(lab: SimpleNamespace) -> None:
    """Each request is sent only after the answer to the one before."""
    requests: queue.Queue[Any] = queue.Queue()
    requests.put(sample("x", 1))

    def sent() -> Iterator[Any]:
        while (message := requests.get()) is not None:
            yield message

    seen = []
    for answer in lab.converse(sent(), timeout=LIMIT):
        seen.append(answer.number)
        requests.put(sample("x", len(seen) + 1) if len(seen) < 5 else None)
    assert seen == [1, 2, 3, 4, 5]


def half_duplex(lab: SimpleNamespace) -> None:
    answers = lab.converse(iter([sample("x"), sample("y")]), timeout=LIMIT)
    assert [answer.text for answer in answers] == ["x", "y"]


def deadlines(lab: SimpleNamespace) -> None:
    late = failure(lambda: lab.get(sample("hang"), timeout=0.15))
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    before: list[int] = []
    late = failure(lambda: numbers(lab.watch(sample("silent", 2), timeout=0.3), before))
    assert (before, late.code()) == ([0, 1], grpc.StatusCode.DEADLINE_EXCEEDED)


def leaving(lab: SimpleNamespace) -> None:
    call = lab.watch(sample("endless", 1), timeout=LIMIT)

    def read() -> None:
        for seen, _ in enumerate(call):
            if seen == 3:
                call.cancel()

    assert failure(read).code() == grpc.StatusCode.CANCELLED
    waiting = lab.get.future(sample("hang"), timeout=LIMIT)
    assert waiting.cancel() and waiting.cancelled()


def at_once(lab: SimpleNamespace) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda number: lab.get(sample("t", number), timeout=LIMIT).number, range(200))
        assert list(answers) == list(range(200))


def run() -> None:
    """Every case on one channel."""
    cases = (unary, errors, hidden, server_stream, client_stream, duplex, half_duplex, deadlines, leaving, at_once)
    with grpc.insecure_channel(TARGET) as channel:
        lab = methods(channel)
        for case in cases:
            check(f"grpcio: {case.__name__.replace('_', ' ')}", lambda case=case: case(lab))
