"""Each metric moves with what it counts, as /metrics shows it; what a queue refuses is in test_queue."""

import re
import time
from pathlib import Path

import pytest
from conftest import Loop, Running, as_service, as_user, wait_until
from hybrid.ai.v1 import assistant_service_pb2 as chat_pb
from hybrid.ai.v1 import search_service_pb2 as search_pb
from hybrid.ai.v1.text_service_pb2 import EmbedRequest
from prometheus_client import REGISTRY

import hybrid_ai

EMBED = 'method="/hybrid.ai.v1.TextService/Embed"'
EMBEDDER, WRITER = "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"


class Moved:
    """How far samples are from where they were."""

    def __init__(self, service: Running) -> None:
        self.service = service
        self.before: dict[str, float] = {}

    def since(self, *samples: str) -> None:
        self.before = {sample: self.service.metric(sample) for sample in samples}

    def by(self, sample: str) -> float:
        return self.service.metric(sample) - self.before[sample]


@pytest.fixture
def moved(service: Running) -> Moved:
    return Moved(service)


def test_an_embedding_moves_the_metrics_of_calls_queues_and_tokens(service: Running, moved: Moved) -> None:
    calls, took = f'ai_calls_total{{code="OK",{EMBED}}}', f"ai_call_seconds_count{{{EMBED}}}"
    waited, runs = 'ai_queue_seconds_count{model="embed"}', 'ai_inference_seconds_count{model="embed"}'
    items, read = 'ai_batch_items_sum{model="embed"}', 'ai_tokens_total{direction="read",model="all-MiniLM-L6-v2"}'
    moved.since(calls, took, waited, runs, items, read)
    answer = service.text.Embed(EmbedRequest(texts=["one", "two words"]), metadata=as_user())
    wait_until(lambda: moved.by(calls) == moved.by(took) == 1 and moved.by(waited) == moved.by(items) == 2)
    assert 1 <= moved.by(runs) <= 2
    assert moved.by(read) == sum(embedding.tokens for embedding in answer.embeddings) == 7
    assert 1 < service.metric(f'ai_tokens_per_second{{model="{EMBEDDER}"}}') < 1_000_000


def test_a_chat_moves_the_metrics_of_tokens_and_generations(service: Running, moved: Moved) -> None:
    read, written = (f'ai_tokens_total{{direction="{way}",model="{WRITER}"}}' for way in ("read", "written"))
    moved.since(read, written)
    message = chat_pb.ChatMessage(role=chat_pb.CHAT_ROLE_USER, content="Count from one to one thousand, every number.")
    call = service.assistant.Chat(chat_pb.ChatRequest(messages=[message], max_tokens=60, seed=3), metadata=as_user())
    next(call), next(call)
    assert service.metric("ai_generations_active") == 1
    *_, last = call
    wait_until(lambda: service.metric("ai_generations_active") == 0)
    assert moved.by(read) == last.completed.prompt_tokens > 0
    assert moved.by(written) == last.completed.completion_tokens > 5
    assert 1 < service.metric(f'ai_tokens_per_second{{model="{WRITER}"}}') < 10_000


def test_the_index_s_metrics_are_what_is_in_it(service: Running) -> None:
    def held() -> tuple[float, float]:
        return service.metric("ai_index_documents"), service.metric("ai_index_passages")

    for key, text in (("short", "A walrus."), ("long", "A walrus has tusks and whiskers. " * 200)):
        document = search_pb.Document(id=key, revision=1, text=text, owner="alice")
        service.search.Index(search_pb.IndexRequest(document=document), metadata=as_service())
    documents, passages = held()
    assert documents == 2 and passages > 4
    service.search.Delete(search_pb.DeleteRequest(document_id="long", revision=2), metadata=as_service())
    assert held() == (1, 1)


def test_the_event_loop_s_lag_shows_what_blocks_it(loop: Loop, service: Running, moved: Moved) -> None:
    every, short = "ai_event_loop_lag_seconds_count", 'ai_event_loop_lag_seconds_bucket{le="0.1"}'
    moved.since(every, short)
    wait_until(lambda: moved.by(every) >= 1)
    loop.loop.call_soon_threadsafe(time.sleep, 0.4)
    wait_until(lambda: moved.by(every) - moved.by(short) >= 1)


def test_the_readme_lists_every_metric() -> None:
    written = (Path(hybrid_ai.__file__).parent.parent.parent / "README.md").read_text()
    (paragraph,) = re.findall(r"^Metrics: .*?\n\n", written, re.DOTALL | re.MULTILINE)
    families = {family.name: family.type for family in REGISTRY.collect() if family.name.startswith("ai_")}
    there = {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}
    of_the_supervisor = {"ai_processes", "ai_process_restarts_total"}
    assert set(re.findall(r"`(ai_\w+)", paragraph)) == there | of_the_supervisor
