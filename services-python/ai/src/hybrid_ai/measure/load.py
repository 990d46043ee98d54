"""A client that loads the service: python -m hybrid_ai.measure.load ADDRESS TOKEN LOAD (JSON in, JSON out).

With a rate, calls begin at that rate whatever becomes of them (open loop); without, each of `concurrency` callers
begins its next call when its last one has ended.
"""

import asyncio
import gc
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop
from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai.measure.common import percentiles
from hybrid_ai.measure.http2 import Connection, header_block

_SENTENCE = "The gateway keeps a client's socket open all day."  # 13 tokens
_WORDS = "kettle water gateway socket vector answer cursor museum planet river engine garden letter winter".split()
_CONNECTIONS = 4
# How long after its deadline a call may still be answered.
_PATIENCE = 5.0
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

    def add(self, code: str, milliseconds: float) -> None:
        self.times.setdefault(code, []).append(milliseconds)

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


class _Client:
    """Begins calls on its connections in turn, and keeps what became of them."""

    def __init__(self, connections: Sequence[Connection], token: str, load: Load) -> None:
        method, self._requests = _requests(load)
        self._headers = header_block(method, {"x-hybrid-identity": token}, load.timeout)
        self._connections = itertools.cycle(connections)
        self._running = 0
        self._idle = asyncio.Event()
        self.measured = Measured()

    def begin(self, then: Callable[[], None] | None = None) -> None:
        """Begins a call; `then` comes when it has ended."""

        def ended(code: str, milliseconds: float) -> None:
            self.measured.add(code, milliseconds)
            self._running -= 1
            if then is not None:
                then()
            if not self._running:
                self._idle.set()

        self._running += 1
        self._idle.clear()
        next(self._connections).send(self._headers, next(self._requests), ended)

    async def idle(self, patience: float) -> None:
        """Returns when every call has ended; those that do not are counted as such."""
        try:
            await asyncio.wait_for(self._idle.wait(), patience)
        except TimeoutError:
            self.measured.add("NO_ANSWER", patience * 1000)


async def run(address: str, token: str, load: Load) -> dict[str, Any]:
    """Loads the service and reports."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    number = _CONNECTIONS if load.rate or load.concurrency > 1 else 1
    connections = [(await loop.create_connection(Connection, host, int(port)))[1] for _ in range(number)]
    client = _Client(connections, token, load)
    client.begin()
    await client.idle(load.timeout)
    client.measured = Measured()
    started = time.perf_counter()
    if load.rate:
        await _open_loop(client, load)
    else:
        _closed_loop(client, load)
    await client.idle(load.seconds + load.timeout + _PATIENCE)
    report = client.measured.report(time.perf_counter() - started, load.texts)
    for connection in connections:
        connection.transport.close()
    return report


def _closed_loop(client: _Client, load: Load) -> None:
    end = time.perf_counter() + load.seconds

    def again() -> None:
        if time.perf_counter() < end:
            client.begin(again)

    for _ in range(load.concurrency):
        again()


async def _open_loop(client: _Client, load: Load) -> None:
    started = time.perf_counter()
    for number in itertools.count():
        due = started + number / load.rate
        if due > started + load.seconds:
            break
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        client.begin()


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
    gc.disable()  # a pause of the client's would be taken for one of the service
    print(json.dumps(uvloop.run(run(sys.argv[1], sys.argv[2], Load(**json.loads(sys.argv[3]))))))
