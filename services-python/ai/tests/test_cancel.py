"""Cancellation: when a caller goes or a deadline passes, waiting work is dropped and token loops stop within 50 ms."""

import itertools
import json
import time
from collections.abc import Callable

import grpc
import pytest
from conftest import Running, as_user, wait_until
from google.api import httpbody_pb2
from grpc_errors import fails, retry_delay
from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import assistant_service_pb2_grpc, openai_service_pb2, openai_service_pb2_grpc
from hybrid.ai.v1.text_service_pb2 import EmbedRequest

LONG = "An event loop waits for many sockets at once, and a batch gathers requests. " * 20
ACTIVE, WAITING_CHATS = "ai_generations_active", 'ai_queued_items{model="chat"}'
WAITING_TEXTS = 'ai_queued_items{model="embed"}'
PROMISE, ROUNDS = 0.05, 3


def chat(service: Running, tokens: int = 1024, timeout: float | None = None) -> grpc.Call:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Count from one to one thousand, every number.")
    request = pb.ChatRequest(messages=[message], max_tokens=tokens, seed=3)
    return service.assistant.Chat(request, metadata=as_user(), timeout=timeout)


def read_some(call: grpc.Call) -> None:
    for _ in range(3):
        next(call)


def cancelled(service: Running, stage: str) -> float:
    return service.metric(f'ai_cancelled_total{{stage="{stage}"}}')


@pytest.fixture(scope="module")
def warm(service: Running) -> Running:
    list(chat(service, tokens=1))
    return service


def stops(service: Running, attempt: Callable[[], float]) -> None:
    """Runs the attempt a few times; it returns how long stopping took. One of them must keep the promise.

    The promise is 50 ms on a machine that has time for it. What this one takes now for two tokens and for two looks
    at the metrics, which is how stopping is seen, comes on top: the cores may be shared with other work.
    """
    call, moments = chat(service), list[float]()
    for _ in range(10):
        next(call)
        moments.append(time.perf_counter())
    call.cancel()
    token = max(after - before for before, after in itertools.pairwise(moments))
    look = max(timed(lambda: service.metric(ACTIVE)) for _ in range(5))
    wait_until(lambda: service.metric(ACTIVE) == 0)
    times = [attempt() for _ in range(ROUNDS)]
    assert min(times) < PROMISE + 2 * token + 2 * look, (times, token, look)
    assert max(times) < 2.0, times  # a share of what the work itself would take


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def test_a_generation_stops_when_its_caller_goes(warm: Running) -> None:
    def attempt() -> float:
        before = cancelled(warm, "tokens")
        call = chat(warm)
        read_some(call)
        assert warm.metric(ACTIVE) == 1
        call.cancel()
        seconds = wait_until(lambda: warm.metric(ACTIVE) == 0)
        assert cancelled(warm, "tokens") == before + 1
        return seconds

    stops(warm, attempt)


def test_a_generation_stops_when_the_connection_breaks(warm: Running) -> None:
    def attempt() -> float:
        channel = grpc.insecure_channel(f"127.0.0.1:{warm.service.port}", [("grpc.use_local_subchannel_pool", 1)])
        other = assistant_service_pb2_grpc.AssistantServiceStub(channel)
        message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Count from one to one thousand.")
        call = other.Chat(pb.ChatRequest(messages=[message], max_tokens=1024), metadata=as_user())
        read_some(call)
        channel.close()
        return wait_until(lambda: warm.metric(ACTIVE) == 0)

    stops(warm, attempt)


def completion(channel: grpc.Channel) -> grpc.Call:
    message = {"role": "user", "content": "Count from one to one thousand."}
    body = {"model": "SmolLM2-135M-Instruct", "messages": [message], "max_tokens": 1024, "stream": True}
    content = httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())
    request = openai_service_pb2.CreateChatCompletionRequest(content=content)
    return openai_service_pb2_grpc.OpenAIServiceStub(channel).CreateChatCompletion(request, metadata=as_user())


@pytest.mark.parametrize("leave", ["the call", "the connection"])
def test_a_streamed_completion_stops_when_its_caller_ends(warm: Running, leave: str) -> None:
    def attempt() -> float:
        channel = grpc.insecure_channel(f"127.0.0.1:{warm.service.port}", [("grpc.use_local_subchannel_pool", 1)])
        call = completion(channel)
        read_some(call)
        assert warm.metric(ACTIVE) == 1
        call.cancel() if leave == "the call" else channel.close()
        seconds = wait_until(lambda: warm.metric(ACTIVE) == 0)
        channel.close()
        return seconds

    stops(warm, attempt)


def test_a_generation_stops_at_its_deadline(warm: Running) -> None:
    def attempt() -> float:
        before = cancelled(warm, "tokens")
        call = chat(warm, timeout=1.0)
        wait_until(lambda: warm.metric(ACTIVE) == 1)
        fails(lambda: call, grpc.StatusCode.DEADLINE_EXCEEDED)
        seconds = wait_until(lambda: warm.metric(ACTIVE) == 0)
        assert cancelled(warm, "tokens") == before + 1
        return seconds

    stops(warm, attempt)


def test_chats_that_wait_are_dropped(warm: Running) -> None:
    def attempt() -> float:
        before = cancelled(warm, "queued")
        running = chat(warm)
        read_some(running)
        waiting = [chat(warm) for _ in range(5)]
        wait_until(lambda: warm.metric(WAITING_CHATS) == 5)
        for call in waiting:
            call.cancel()
        seconds = wait_until(lambda: warm.metric(WAITING_CHATS) == 0)
        assert cancelled(warm, "queued") == before + 5
        assert warm.metric(ACTIVE) == 1
        running.cancel()
        wait_until(lambda: warm.metric(ACTIVE) == 0)
        return seconds

    stops(warm, attempt)


def test_texts_that_wait_are_dropped(warm: Running) -> None:
    def attempt() -> float:
        before = cancelled(warm, "queued") + cancelled(warm, "kernel")
        call = warm.text.Embed.future(EmbedRequest(texts=[LONG] * 256), metadata=as_user())
        wait_until(lambda: 0 < warm.metric(WAITING_TEXTS) < 256)
        call.cancel()
        seconds = wait_until(lambda: warm.metric(WAITING_TEXTS) == 0)
        wait_until(lambda: 1 < cancelled(warm, "queued") + cancelled(warm, "kernel") - before <= 256)
        return seconds

    stops(warm, attempt)


def test_a_large_request_does_not_hold_up_a_small_one(warm: Running) -> None:
    large = warm.text.Embed.future(EmbedRequest(texts=[LONG] * 256), metadata=as_user())
    wait_until(lambda: 0 < warm.metric(WAITING_TEXTS) < 256)
    warm.text.Embed(EmbedRequest(texts=["short"]), metadata=as_user())
    assert not large.done()
    large.cancel()


def test_a_full_queue_refuses_and_says_when_to_come_back(start: Callable[..., Running]) -> None:
    small = start(AI_CHAT_QUEUE="1", AI_EMBED_QUEUE="256")
    running = chat(small)
    read_some(running)
    waiting = chat(small)
    wait_until(lambda: small.metric(WAITING_CHATS) == 1)
    error = fails(lambda: chat(small), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert 0.05 <= retry_delay(error) <= 60
    assert small.metric('ai_rejected_total{model="chat",reason="full"}') >= 1
    waiting.cancel()
    running.cancel()
    calls = [small.text.Embed.future(EmbedRequest(texts=[LONG] * 200), metadata=as_user()) for _ in range(3)]
    wait_until(lambda: sum(call.done() for call in calls) == 2)
    refused = [call for call in calls if call.done()]
    assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for call in calls:
        call.cancel()
