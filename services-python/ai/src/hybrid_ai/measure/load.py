"""A client that loads the service: python -m hybrid_ai.measure.load ADDRESS TOKEN LOAD (JSON in, JSON out).

With a rate, calls begin at that rate whatever becomes of them (open loop); without, each of `concurrency` callers
begins its next call when its last one has ended.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvloop
from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai.measure.common import percentiles

_SENTENCE = "The gateway keeps a client's socket open all day."  # 13 tokens
_WORDS = "kettle water gateway socket vector answer cursor museum planet river engine garden letter winter".split()
_CHANNELS = 4
MIXED = 64


@dataclass(frozen=True)
class Load:
    """`what`: embed, mixed (texts of 5 to 250 tokens), moderate or health. `texts` in each call of the first two."""

    what: str
    seconds: float
    concurrency: int = 1
    rate: float = 0.0
    texts: int = 1
    timeout: float = 30.0


@dataclass
class Measured:
    """Calls by outcome, with their times in milliseconds."""

    times: dict[str, list[float]] = field(default_factory=dict)

    def add(self, code: str, started: float) -> None:
        self.times.setdefault(code, []).append((time.perf_counter() - started) * 1000)

    def report(self, seconds: float, texts: int) -> dict[str, Any]:
        done = self.times.get("OK", [])
        outcomes = {code: {"calls": len(times), **percentiles(times)} for code, times in self.times.items()}
        total = len(done) * texts
        return {"texts": total, "texts_per_second": total / seconds, "outcomes": outcomes}


def mixed_texts(count: int) -> list[str]:
    """Texts of 5 to 250 tokens, the same ones each time."""
    chance = random.Random(5)
    return [" ".join(chance.choices(_WORDS, k=chance.randint(3, 248))) for _ in range(count)]


def short_texts(count: int) -> list[str]:
    """Texts of 13 tokens."""
    return [_SENTENCE] * count


async def run(address: str, token: str, load: Load) -> dict[str, Any]:
    """Loads the service and reports."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 << 20)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(_CHANNELS if load.rate or load.concurrency > 1 else 1)]
    calls = itertools.cycle([_call(channel, token, load) for channel in channels])
    await next(calls)()
    measured = Measured()

    async def one() -> None:
        started = time.perf_counter()
        try:
            await next(calls)()
            measured.add("OK", started)
        except grpc.aio.AioRpcError as error:
            measured.add(error.code().name, started)

    started = time.perf_counter()
    await (_open_loop(one, load) if load.rate else _closed_loop(one, load))
    report = measured.report(time.perf_counter() - started, load.texts)
    for channel in channels:
        await channel.close()
    return report


async def _closed_loop(one: Callable[[], Coroutine[Any, Any, None]], load: Load) -> None:
    end = time.perf_counter() + load.seconds

    async def caller() -> None:
        while time.perf_counter() < end:
            await one()

    await asyncio.gather(*(caller() for _ in range(load.concurrency)))


async def _open_loop(one: Callable[[], Coroutine[Any, Any, None]], load: Load) -> None:
    started, running = time.perf_counter(), set[asyncio.Task[None]]()
    for number in itertools.count():
        due = started + number / load.rate
        if due > started + load.seconds:
            break
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)


def _call(channel: grpc.aio.Channel, token: str, load: Load) -> Callable[[], Any]:
    """A call with requests that are bytes already, whose response is not parsed: the client shares the cores."""
    method, requests = _requests(load)
    call, metadata = channel.unary_unary(method), (("x-hybrid-identity", token),)
    return lambda: call(next(requests), metadata=metadata, timeout=load.timeout)


def _requests(load: Load) -> tuple[str, Iterator[bytes]]:
    if load.what == "health":
        return "/grpc.health.v1.Health/Check", itertools.repeat(b"")
    if load.what == "moderate":
        moderation = pb.ModerateRequest(texts=["You are a complete idiot."])
        return "/hybrid.ai.v1.TextService/Moderate", itertools.repeat(moderation.SerializeToString())
    texts = mixed_texts(MIXED) if load.what == "mixed" else short_texts(MIXED)
    groups = [texts[at : at + load.texts] for at in range(0, len(texts) - load.texts + 1, load.texts)]
    requests = [pb.EmbedRequest(texts=group).SerializeToString() for group in groups]
    return "/hybrid.ai.v1.TextService/Embed", itertools.cycle(requests)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], sys.argv[2], Load(**json.loads(sys.argv[3]))))))
