"""Embed: limits from both sides, vectors that do not depend on their batch, and health under load."""

import threading
import time

import numpy as np
from conftest import Running, as_user, wait_until
from grpc_errors import invalid
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hybrid.ai.v1.text_service_pb2 import EmbedRequest

TEXTS = ["Hello, world!", "x", "Batches are formed when a worker is free. " * 30, "Vectors and words.", "Ünïcode 🙂"]


def embed(service: Running, *texts: str) -> np.ndarray:
    response = service.text.Embed(EmbedRequest(texts=texts), metadata=as_user())
    return np.array([embedding.values for embedding in response.embeddings], np.float32)


def test_a_text_becomes_a_unit_vector_of_384_components(service: Running) -> None:
    response = service.text.Embed(EmbedRequest(texts=["Hello, world!"]), metadata=as_user())
    assert response.model == "all-MiniLM-L6-v2"
    (embedding,) = response.embeddings
    assert len(embedding.values) == 384 and embedding.tokens == 6 and not embedding.truncated
    assert abs(np.linalg.norm(embedding.values) - 1) < 1e-5


def test_similar_texts_are_nearer_than_others(service: Running) -> None:
    cat, kitten, invoice = embed(service, "A cat sleeps.", "A kitten is asleep.", "The invoice is due on Monday.")
    assert cat @ kitten > 0.6
    assert cat @ invoice < 0.3


def test_the_limits_hold_from_both_sides(service: Running) -> None:
    assert len(embed(service, *["a"] * 256)) == 256
    assert len(embed(service, "a" * 32_768)) == 1
    assert invalid(lambda: embed(service)) == ["texts"]
    assert invalid(lambda: embed(service, *["a"] * 257)) == ["texts"]
    assert invalid(lambda: embed(service, "a", "a", "a", "")) == ["texts[3]"]
    assert invalid(lambda: embed(service, "", "a", "b" * 32_769)) == ["texts[0]", "texts[2]"]


def test_what_exceeds_the_window_is_reported_as_truncated(service: Running) -> None:
    request = EmbedRequest(texts=["word " * 254, "word " * 255])
    fits, cut = service.text.Embed(request, metadata=as_user()).embeddings
    assert (fits.tokens, fits.truncated) == (256, False)
    assert (cut.tokens, cut.truncated) == (256, True)
    assert np.allclose(fits.values, cut.values, atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(service: Running) -> None:
    alone = [embed(service, text)[0] for text in TEXTS]
    for count in (1, 7, 40):
        together = embed(service, *(TEXTS * count))
        assert np.abs(together - np.stack(alone * count)).max() < 1e-3


def test_concurrent_calls_share_batches_and_get_their_own_results(service: Running) -> None:
    alone = {text: embed(service, text)[0] for text in TEXTS}
    before = service.metric('ai_batch_items_count{model="embed"}')
    calls = [
        (text, service.text.Embed.future(EmbedRequest(texts=[text]), metadata=as_user()))
        for text in [TEXTS[1]] * 60 + TEXTS * 4
    ]
    for text, call in calls:
        assert np.abs(np.array(call.result().embeddings[0].values) - alone[text]).max() < 1e-3
    assert service.metric('ai_batch_items_count{model="embed"}') - before < len(calls) / 2


def test_the_response_says_how_long_it_waited_and_ran(service: Running) -> None:
    _, call = service.text.Embed.with_call(EmbedRequest(texts=["a"]), metadata=as_user())
    timing = dict(call.trailing_metadata())["server-timing"]
    assert timing.startswith("queue;dur=") and ", inference;dur=" in timing


def test_health_answers_while_embeddings_are_computed(service: Running) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            embed(service, *["An event loop waits for many sockets at once. " * 12] * 32)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    health = health_pb2_grpc.HealthStub(service.channel)
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 0)
    times: list[float] = []
    for _ in range(60):
        begun = time.perf_counter()
        health.Check(health_pb2.HealthCheckRequest(service=""))
        times.append(time.perf_counter() - begun)
    stop.set()
    for thread in threads:
        thread.join()
    # Each batch of the load runs for longer than this: were it on the event loop, no answer could be faster.
    assert sorted(times)[len(times) // 2] < 0.05, sorted(times)[-5:]
