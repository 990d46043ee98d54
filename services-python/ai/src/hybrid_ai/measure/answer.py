"""Chat and Answer over gRPC beside the engine alone: what the service adds to the first token, takes of the speed, and
how soon citations come.

    python -m hybrid_ai.measure answer [--json FILE] [--rounds N]

Service, caller and engine share this process and its cores, and take turns. The prompt has just under 400 tokens.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import assistant_service_pb2_grpc

from hybrid_ai.config import Config
from hybrid_ai.evaluate import FOLDER
from hybrid_ai.measure.common import environment, percentiles, say, settings
from hybrid_ai.measure.running import identity
from hybrid_ai.models.language_model import Generation, Usage
from hybrid_ai.server import Service
from hybrid_ai.store import project
from hybrid_ai.store.access import Access
from hybrid_ai.store.index import Query

_TOKENS, _SEED = 96, 3
_PROMPT = "Tell a long story about a lighthouse. " + "The keeper lights the lamp at dusk and counts the ships. " * 28
_EVERYBODY = Access((frozenset(("*",)),))
_CHAT_BARS = {"chat first token over engine ms": "<= 50", "chat speed over engine": ">= 0.85"}
_CITATION_BARS = {"citation after retrieval.p99_ms": "<= 50"}


@dataclass(frozen=True)
class _Run:
    """One generation: seconds to the first text, tokens read, and tokens a second after the first."""

    first: float
    prompt: int
    speed: float


def main(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="hybrid_ai.measure answer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="of chats; 0: citations alone")
    return asyncio.run(_measure(parser.parse_args(arguments).rounds))


async def _measure(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        listen = {"AI_LISTEN": "127.0.0.1:0", "AI_METRICS_LISTEN": "127.0.0.1:0", "AI_OPENAI_BASE_URL": ""}
        config = settings(AI_DATA_DIR=folder, AI_SHUTDOWN_SECONDS="1", **listen)
        service = Service(config)
        await service.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{service.port}")
        stub = assistant_service_pb2_grpc.AssistantServiceStub(channel)
        try:
            chats = await _chats(service, stub, rounds) if rounds else {}
            bars = (_CHAT_BARS if chats else {}) | _CITATION_BARS
            return chats | await _citations(service, stub) | environment() | {"bars": bars}
        finally:
            await channel.close()
            await service.stop()


async def _chats(service: Service, stub: Any, rounds: int) -> dict[str, Any]:
    model = service.local._model()  # the service's own engine, past its queue
    request = Generation([("user", _PROMPT)], _TOKENS, 0.0, _SEED)
    engine, served = list[_Run](), list[_Run]()
    for number in range(rounds + 1):
        say(f"chat {number} of {rounds}")
        alone = await asyncio.to_thread(_timed, lambda emit: model.generate(request, emit, lambda: False))
        through = await _chat(service.config, stub)
        if number:  # the first round only warms up
            engine.append(alone)
            served.append(through)
    added = statistics.median(through.first - alone.first for through, alone in zip(served, engine, strict=True))
    shares = [through.speed / alone.speed for through, alone in zip(served, engine, strict=True)]
    return {
        "chat prompt tokens": engine[0].prompt,
        "engine first token ms": round(statistics.median(run.first for run in engine) * 1000, 1),
        "chat first token ms": round(statistics.median(run.first for run in served) * 1000, 1),
        "chat first token over engine ms": round(added * 1000, 1),
        "engine tokens/s": round(statistics.median(run.speed for run in engine), 1),
        "chat tokens/s": round(statistics.median(run.speed for run in served), 1),
        "chat speed over engine": round(statistics.median(shares), 3),
    }


def _timed(generate: Callable[[Callable[[str], None]], Usage | None]) -> _Run:
    moments = [time.perf_counter()]
    usage = generate(lambda _: moments.append(time.perf_counter()))
    assert usage is not None
    return _run(moments, usage.prompt_tokens, usage.completion_tokens)


async def _chat(config: Config, stub: Any) -> _Run:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content=_PROMPT)
    request = pb.ChatRequest(messages=[message], max_tokens=_TOKENS, temperature=0.0, seed=_SEED)
    moments, completed = [time.perf_counter()], pb.ChatCompleted()
    async for event in stub.Chat(request, metadata=_metadata(config)):
        if event.WhichOneof("event") == "delta":
            moments.append(time.perf_counter())
        completed = event.completed
    return _run(moments, completed.prompt_tokens, completed.completion_tokens)


def _run(moments: list[float], prompt: int, written: int) -> _Run:
    return _Run(moments[1] - moments[0], prompt, (written - 1) / (moments[-1] - moments[1]))


async def _citations(service: Service, stub: Any) -> dict[str, Any]:
    """The time from a search for the question to the first citation that arrives."""
    root = service.config.documents_dir
    assert root is not None, "AI_DOCUMENTS_DIR is empty: there is nothing to answer from"
    await project.fill(service.index, root)
    questions = [one["question"] for one in json.loads((FOLDER / "questions.json").read_text())["questions"]]
    after = list[float]()
    for question in questions[:3] + questions:
        begun = time.perf_counter()
        await service.index.search(Query(question, _EVERYBODY, 3))
        searched = time.perf_counter() - begun
        begun = time.perf_counter()
        call = stub.Answer(pb.AnswerRequest(question=question), metadata=_metadata(service.config))
        event = await call.read()
        taken = time.perf_counter() - begun
        call.cancel()
        if event is not grpc.aio.EOF and event.WhichOneof("event") == "citation":
            after.append(max(0.0, taken - searched) * 1000)
    return {"answers with citations": len(after), "citation after retrieval": percentiles(after[3:], (50, 95, 99))}


def _metadata(config: Config) -> tuple[tuple[str, str], ...]:
    return (("x-hybrid-identity", identity(config.secret)),)
