"""grpcio's asyncio channel: the same protocol, but with flow and cancellation of its own."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import grpc
from contract import AUTHORIZED, LIMIT, TARGET, methods, sample
from report import check_async


async def failure(call: Awaitable[Any]) -> Any:
    """The error that a call fails with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call should have failed")


async def unary(lab: SimpleNamespace) -> None:
    call = lab.echo(sample("hello", 7), metadata=AUTHORIZED, timeout=LIMIT)
    assert (await call).number == 7
    assert (await call.trailing_metadata())["x-counted"] == "yes"
    refused = await failure(lab.get(sample("refuse"), timeout=LIMIT))
    assert (refused.code(), refused.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "not good")


async def streams(lab: SimpleNamespace) -> None:
    assert [it.number async for it in lab.watch(sample("t", 500), timeout=LIMIT)] == list(range(500))
    gather = lab.gather(timeout=LIMIT)
    for text in "abc":
        await gather.write(sample(text))
    await gather.done_writing()
    assert list((await gather).list) == ["a", "b", "c"]


async def duplex(lab: SimpleNamespace) -> None:
    call = lab.converse(timeout=LIMIT)
    for number in range(5):
        await call.write(sample("x", number))
        assert (await call.read()).number == number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def deadlines(lab: SimpleNamespace) -> None:
    late = await failure(lab.get(sample("hang"), timeout=0.15))
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def leaving(lab: SimpleNamespace) -> None:
    call = lab.watch(sample("endless", 1), timeout=LIMIT)
    await call.read()
    assert call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED


async def at_once(lab: SimpleNamespace) -> None:
    answers = await asyncio.gather(*(lab.get(sample("t", number), timeout=LIMIT) for number in range(500)))
    assert [answer.number for answer in answers] == list(range(500))


async def run() -> None:
    """Every case on one channel."""
    async with grpc.aio.insecure_channel(TARGET) as channel:
        lab = methods(channel)
        for case in (unary, streams, duplex, deadlines, leaving, at_once):
            name = f"grpcio, asyncio: {case.__name__.replace('_', ' ')}"
            await check_async(name, lambda case=case: case(lab))
