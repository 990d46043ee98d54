"""The service as a process of its own, beside what the engine alone does: its pace, its health, overload, memory."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from hybrid.ai.v1 import assistant_service_pb2 as assistant_pb
from hybrid.ai.v1 import assistant_service_pb2_grpc, search_service_pb2_grpc, text_service_pb2_grpc
from hybrid.ai.v1 import search_service_pb2 as search_pb
from hybrid.ai.v1 import text_service_pb2 as text_pb

from hybrid_ai import config
from hybrid_ai.measure.bare import Bare
from hybrid_ai.measure.load import MIXED, Load, mixed_texts, short_texts
from hybrid_ai.measure.running import SECRET, Client, Service, identity
from hybrid_ai.measure.search import fill_for_memory

Report = dict[str, Any]
_ROUNDS = 3
_PASSAGES = 10_000
_MEMORY_BARS = {"resident_mb": "<= 450"}
_BATCHES = 'ai_batch_items_{}{{model="embed"}}'


def embed(seconds: float) -> Report:
    """The service against bare onnxruntime, in turns: one text a call by 32 callers and by one, and mixed lengths."""
    bare = Bare(config.load({"SERVICE_SECRET": SECRET}))
    with Service() as service:
        rounds = [_embed_round(service, bare, seconds) for _ in range(_ROUNDS)]
    report: Report = {name: round(statistics.median(one[name] for one in rounds), 2) for name in rounds[0]}
    return report | {
        "ratio_c32": _ratio(rounds, "c32_texts_per_second", "bare_texts_per_second"),
        "ratio_c32_by_cpu": _ratio(rounds, "bare_cpu_ms", "c32_cpu_ms"),
        "c1_over_bare_ms": round(report["c1_p50_ms"] - report["bare_c1_p50_ms"], 2),
        "ratio_mixed": _ratio(rounds, "mixed_texts_per_second", "bare_sorted_texts_per_second"),
        "ratio_mixed_by_cpu": _ratio(rounds, "bare_sorted_cpu_ms", "mixed_cpu_ms"),
        "bars": {"ratio_c32": ">= 0.70", "c1_over_bare_ms": "<= 1", "ratio_mixed": ">= 0.85"},
    }


def _embed_round(service: Service, bare: Bare, seconds: float) -> dict[str, float]:
    """One turn of each. `bare` runs batches as large as the service's were on average."""
    batches, items = (service.metric(_BATCHES.format(name)) for name in ("count", "sum"))
    many, many_cpu = _load(service, Load("embed", seconds, concurrency=32))
    batches = service.metric(_BATCHES.format("count")) - batches
    batch = max(1, round((service.metric(_BATCHES.format("sum")) - items) / batches))
    same = bare.rate(short_texts(batch), batch, seconds)
    alone, _ = _load(service, Load("embed", seconds))
    mixed, mixed_cpu = _load(service, Load("mixed", seconds, concurrency=8, texts=8, timeout=120.0))
    like = bare.sorted_rate(mixed_texts(MIXED), seconds)
    return {
        "c32_texts_per_second": many["texts_per_second"],
        "c32_cpu_ms": many_cpu,
        "c32_p99_ms": many["outcomes"]["OK"]["p99_ms"],
        "mean_batch": batch,
        "bare_texts_per_second": same.texts_per_second,
        "bare_cpu_ms": same.cpu_ms,
        "c1_p50_ms": alone["outcomes"]["OK"]["p50_ms"],
        "bare_c1_p50_ms": bare.median_ms(short_texts(1)[0], seconds),
        "mixed_texts_per_second": mixed["texts_per_second"],
        "mixed_cpu_ms": mixed_cpu,
        "bare_sorted_texts_per_second": like.texts_per_second,
        "bare_sorted_cpu_ms": like.cpu_ms,
    }


def _load(service: Service, load: Load) -> tuple[dict[str, Any], float]:
    """Loads the service; returns what the client saw, and what a text cost the service in milliseconds of a core."""
    before = service.cpu_seconds()
    measured = Client(service, load).result()
    texts = measured["texts"]
    return measured, (service.cpu_seconds() - before) * 1000 / max(1, texts)


def health(seconds: float) -> Report:
    """Health checks and moderation while 32 callers embed as fast as they can."""
    with Service() as service:
        saturation = Client(service, Load("embed", seconds + 3, concurrency=32))
        time.sleep(1.5)  # until the client has started and the queue is full
        checks = Client(service, Load("health", seconds, rate=50))
        moderation = Client(service, Load("moderate", seconds, rate=50)).result()
        checked = checks.result()
        rate = saturation.result()["texts_per_second"]
    return {
        "embed_texts_per_second": round(rate, 1),
        "health": checked["outcomes"]["OK"],
        "moderate": moderation["outcomes"]["OK"],
        "bars": {"health.p99_ms": "<= 15", "moderate.p99_ms": "<= 150"},
    }


def overload(seconds: float) -> Report:
    """Twice as many calls as the service can answer: what it still does, how fast it refuses, what it holds.

    What it can do is measured before and after: a machine's speed drifts within a minute.
    """
    with Service() as service:
        full = Load("embed", min(seconds, 10), concurrency=64)
        first = Client(service, full).result()["texts_per_second"]
        before = service.memory()
        flood = Client(service, Load("embed", seconds, rate=2 * first, timeout=1.0))
        time.sleep(seconds / 2)
        halfway = service.memory()
        flooded = flood.result()
        after = service.memory()
        last = Client(service, full).result()["texts_per_second"]
    outcomes, saturation = flooded["outcomes"], (first + last) / 2
    return {
        "saturation": round(saturation, 1),
        "saturation_before": round(first, 1),
        "saturation_after": round(last, 1),
        "goodput": round(flooded["texts_per_second"], 1),
        "ratio": round(flooded["texts_per_second"] / saturation, 3),
        "outcomes": outcomes,
        "memory_mb": {"before": round(before), "halfway": round(halfway), "after": round(after)},
        "bars": {"ratio": ">= 0.75", "outcomes.RESOURCE_EXHAUSTED.p99_ms": "<= 20"},
    }


def memory(_: float) -> Report:
    """What each model adds to the service, in megabytes (PSS), after its largest work, over 10,000 passages."""
    steps: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        fill_for_memory(Path(folder), _PASSAGES)
        settings = {"AI_EXTRACT_PROCESSES": "1", "AI_DATA_DIR": folder}
        with Service(settings) as service, grpc.insecure_channel(service.address) as channel:
            steps[f"ready: embed and moderate loaded, {_PASSAGES} passages"] = service.memory()
            for name, call in _largest_calls(channel):
                call()
                steps[name] = service.memory()
            resident = service.resident()
    totals = list(steps.values())
    added = {name: round(total - before) for (name, total), before in zip(steps.items(), [0.0, *totals], strict=False)}
    return {"added_mb": added, "total_mb": round(totals[-1]), "resident_mb": round(resident), "bars": _MEMORY_BARS}


def _largest_calls(channel: grpc.Channel) -> list[tuple[str, Callable[[], object]]]:
    text, metadata = text_service_pb2_grpc.TextServiceStub(channel), (("x-hybrid-identity", identity()),)
    search = search_service_pb2_grpc.SearchServiceStub(channel)
    chat = assistant_service_pb2_grpc.AssistantServiceStub(channel)
    message = assistant_pb.ChatMessage(role=assistant_pb.CHAT_ROLE_USER, content="word " * 1500)
    embedded = text_pb.EmbedRequest(texts=["word " * 255] * 256)
    moderated = text_pb.ModerateRequest(texts=["word " * 6553] * 32)
    page = text_pb.ExtractRequest(html=b"<p>a word and another one</p>\n" * 69_905)
    chatted = assistant_pb.ChatRequest(messages=[message], max_tokens=64)
    found = search_pb.SearchRequest(query="the most frequent words of the documents", limit=50)
    return [
        ("search, 50 passages", lambda: search.Search(found, metadata=metadata)),
        ("embed, 256 texts of 256 tokens", lambda: text.Embed(embedded, metadata=metadata)),
        ("moderate, 32 texts of 32,768 characters", lambda: text.Moderate(moderated, metadata=metadata)),
        ("extract, a page of 2 MiB", lambda: text.Extract(page, metadata=metadata)),
        ("chat, 1,500 tokens read", lambda: list(chat.Chat(chatted, metadata=metadata))),
    ]


MEASURES: dict[str, Callable[[float], Report]] = {m.__name__: m for m in (embed, health, overload, memory)}


def main(name: str, arguments: list[str]) -> Report:
    """Runs one of `MEASURES`."""
    parser = argparse.ArgumentParser(prog=f"hybrid_ai.measure {name}", description=MEASURES[name].__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each part")
    return MEASURES[name](parser.parse_args(arguments).seconds)


def _ratio(rounds: list[dict[str, float]], ours: str, theirs: str) -> float:
    """The median of the rounds' ratios: both sides of each were measured within the same seconds."""
    return round(statistics.median(one[ours] / one[theirs] for one in rounds), 3)
