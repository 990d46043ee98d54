"""Answer and Chat with a configured upstream, which works, fails, falls silent or is not there."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from conftest import Loop, Running, as_service, as_user, wait_until
from google.api import httpbody_pb2
from grpc_errors import fails, invalid, reason, retry_delay
from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import openai_service_pb2 as openai_pb
from hybrid.ai.v1 import search_service_pb2 as search_pb
from openai_server import WORDS, OpenAI, settings_for

FAILING = ["429", "500", "401", "at once garbage", "mute"]
REFUSING = ["400", "413", "422"]


@pytest.fixture(scope="module")
def configured(openai: tuple[OpenAI, str], start: Callable[..., Running]) -> Running:
    return with_document(start(AI_OPENAI_FALLBACK="none", **settings_for(openai[1])))


@pytest.fixture(scope="module")
def falling_back(openai: tuple[OpenAI, str], start: Callable[..., Running]) -> Running:
    return with_document(start(**settings_for(openai[1])))


def with_document(service: Running) -> Running:
    document = search_pb.Document(id="d", revision=1, text="The answer is forty-two.", title="Deep", owner="alice")
    service.search.Index(search_pb.IndexRequest(document=document), metadata=as_service())
    return service


@pytest.fixture
def upstream(openai: tuple[OpenAI, str]) -> OpenAI:
    openai[0].mode = "words"
    return openai[0]


def chat(service: Running, seed: int = 4) -> Any:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Hello?")
    request = pb.ChatRequest(messages=[message], max_tokens=9, temperature=0.5, seed=seed)
    return service.assistant.Chat(request, metadata=as_user())


def test_chat_uses_the_upstream_and_passes_the_settings_on(configured: Running, upstream: OpenAI) -> None:
    events = list(chat(configured))
    assert events[0].started.model == "big-model"
    assert [event.delta.text for event in events[1:-1]] == WORDS
    completed = events[-1].completed
    assert (completed.finish_reason, completed.prompt_tokens, completed.completion_tokens) == (1, 11, 5)
    assert upstream.authorization == "Bearer key-1"
    sent = upstream.requests[-1]
    assert (sent["model"], sent["max_tokens"], sent["temperature"], sent["seed"]) == ("big-model", 9, 0.5, 4)
    assert sent["messages"] == [{"role": "user", "content": "Hello?"}] and sent["stream"] is True


def test_answer_gives_the_upstream_the_passages_and_cites_them(configured: Running, upstream: OpenAI) -> None:
    request = pb.AnswerRequest(question="What is the answer?")
    events = list(configured.assistant.Answer(request, metadata=as_user()))
    assert [event.WhichOneof("event") for event in events] == ["citation"] + ["delta"] * 5 + ["completed"]
    assert events[0].citation.passage == "The answer is forty-two."
    assert all(not event.delta.citations for event in events)
    assert events[-1].completed.model == "big-model" and events[-1].completed.found
    prompt = upstream.requests[-1]["messages"][-1]["content"]
    assert "[1] The answer is forty-two." in prompt and "What is the answer?" in prompt


def test_an_answer_without_passages_asks_no_upstream(configured: Running, upstream: OpenAI) -> None:
    asked = len(upstream.requests)
    request = pb.AnswerRequest(question="What is the answer?")
    events = list(configured.assistant.Answer(request, metadata=as_user("nobody")))
    assert events[-1].completed.found is False and len(upstream.requests) == asked


def test_a_seed_that_engines_take_for_a_random_one_is_another(configured: Running, upstream: OpenAI) -> None:
    for seed, sent in ((-1, 2**32 - 2), (2**32 - 1, 0), (7, 7)):
        list(chat(configured, seed=seed))
        assert upstream.requests[-1]["seed"] == sent


def test_a_chat_s_settings_have_defaults(configured: Running, upstream: OpenAI) -> None:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Hello?")
    list(configured.assistant.Chat(pb.ChatRequest(messages=[message]), metadata=as_user()))
    sent = upstream.requests[-1]
    assert (sent["max_tokens"], sent["temperature"]) == (256, 0.2) and "seed" not in sent


def test_the_characters_of_a_chat_are_bounded_together(configured: Running, upstream: OpenAI) -> None:
    def send(*lengths: int) -> None:
        messages = [pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="🙂" * length) for length in lengths]
        list(configured.assistant.Chat(pb.ChatRequest(messages=messages), metadata=as_user()))

    send(8192, 8192)
    assert sum(len(message["content"]) for message in upstream.requests[-1]["messages"]) == 16_384
    assert invalid(lambda: send(8192, 8193)) == ["messages"]


def test_a_caller_who_goes_stops_the_upstream(configured: Running, upstream: OpenAI) -> None:
    upstream.mode, left = "endless", upstream.left
    call = chat(configured)
    next(call), next(call)
    call.cancel()
    wait_until(lambda: upstream.left == left + 1)
    wait_until(lambda: configured.metric("ai_generations_active") == 0)


@pytest.mark.parametrize("mode", ["500", "404", "401"])
def test_a_refusing_upstream_is_unavailable(configured: Running, upstream: OpenAI, mode: str) -> None:
    upstream.mode = mode
    error = fails(lambda: chat(configured), grpc.StatusCode.UNAVAILABLE)
    assert error.details() == f"the configured upstream answered HTTP {mode}"
    assert reason(error) == "UNAVAILABLE"


@pytest.mark.parametrize("mode", ["broken", "garbage"])
def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(configured: Running, upstream: OpenAI, mode: str) -> None:
    upstream.mode = mode
    for call in (chat, answer):
        assert reason(fails(lambda call=call: call(configured), grpc.StatusCode.UNAVAILABLE)) == "UNAVAILABLE"


def test_an_overloaded_upstream_says_when_to_come_back(configured: Running, upstream: OpenAI) -> None:
    upstream.mode = "429"
    for call in (chat, answer):
        error = fails(lambda call=call: call(configured), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert (reason(error), retry_delay(error)) == ("OVERLOADED", 7)


@pytest.mark.parametrize("mode", REFUSING)
def test_what_the_upstream_refuses_is_the_caller_s_error(configured: Running, upstream: OpenAI, mode: str) -> None:
    upstream.mode = mode
    assert invalid(lambda: chat(configured)) == ["messages"]
    assert invalid(lambda: answer(configured)) == ["question"]


@pytest.mark.parametrize("mode", REFUSING)
def test_a_refused_prompt_is_told_in_a_chat_and_replaced_in_an_answer(
    falling_back: Running, upstream: OpenAI, mode: str
) -> None:
    upstream.mode = mode
    assert invalid(lambda: chat(falling_back)) == ["messages"]
    events = answer(falling_back)
    assert [event.WhichOneof("event") for event in events] == ["citation", "delta", "completed"]
    completed = events[-1].completed
    assert (completed.model, completed.found) == ("extractive", True) and "did not take" in completed.notice


def test_an_upstream_that_is_not_there_is_unavailable(start: Callable[..., Running]) -> None:
    service = start(AI_OPENAI_BASE_URL="http://127.0.0.1:9/v1", AI_OPENAI_MODEL="big-model", AI_OPENAI_FALLBACK="none")
    error = fails(lambda: chat(service), grpc.StatusCode.UNAVAILABLE)
    assert "127.0.0.1" not in error.details() and reason(error) == "UNAVAILABLE"


@pytest.mark.parametrize("mode", FAILING)
def test_the_model_here_chats_in_place_of_an_upstream_that_fails_and_says_so(
    falling_back: Running, upstream: OpenAI, mode: str
) -> None:
    upstream.mode = mode
    events = list(chat(falling_back))
    started = events[0].started
    assert started.model == "SmolLM2-135M-Instruct"
    assert "not available" in started.notice and "demonstration" in started.notice
    assert events[-1].completed.completion_tokens > 0


@pytest.mark.parametrize("mode", FAILING)
def test_an_answer_is_extracted_when_the_upstream_fails_and_says_so(
    falling_back: Running, upstream: OpenAI, mode: str
) -> None:
    upstream.mode = mode
    events = answer(falling_back)
    assert [event.WhichOneof("event") for event in events] == ["citation", "delta", "completed"]
    assert events[1].delta.text == "The answer is forty-two." and list(events[1].delta.citations) == [1]
    completed = events[-1].completed
    assert (completed.model, completed.found) == ("extractive", True) and "not available" in completed.notice


def test_what_the_upstream_began_is_not_continued_by_another(falling_back: Running, upstream: OpenAI) -> None:
    upstream.mode = "broken"
    fails(lambda: chat(falling_back), grpc.StatusCode.UNAVAILABLE)
    fails(lambda: answer(falling_back), grpc.StatusCode.UNAVAILABLE)


@pytest.fixture(scope="module")
def others(loop: Loop) -> Iterator[list[tuple[OpenAI, str]]]:
    """Two more upstreams."""
    servers = [OpenAI(), OpenAI()]
    listening = [loop.run(server.listen()) for server in servers]
    yield [(server, url) for server, (_, url) in zip(servers, listening, strict=True)]
    for runner, _ in listening:
        loop.run(runner.cleanup())


@pytest.fixture(scope="module")
def several(openai: tuple[OpenAI, str], others: list[tuple[OpenAI, str]], start: Callable[..., Running]) -> Running:
    """big-model on two servers, and another one on a third."""
    settings = settings_for(openai[1]) | settings_for(others[0][1], "2_") | settings_for(others[1][1], "3_", "other")
    return with_document(start(**settings))


@pytest.mark.parametrize("mode", FAILING)
def test_another_server_with_the_same_model_takes_over_and_is_no_fallback(
    several: Running, upstream: OpenAI, others: list[tuple[OpenAI, str]], mode: str
) -> None:
    upstream.mode = mode
    asked = len(others[0][0].requests)
    events = list(chat(several))
    assert (events[0].started.model, events[0].started.notice) == ("big-model", "")
    assert [event.delta.text for event in events[1:-1]] == WORDS
    assert others[0][0].authorization == "Bearer key-2_"
    written = answer(several)
    assert "".join(event.delta.text for event in written) == "".join(WORDS)
    assert (written[-1].completed.model, written[-1].completed.notice) == ("big-model", "")
    assert len(others[0][0].requests) == asked + 2 and not others[1][0].requests


def test_the_model_here_comes_after_all_servers_of_a_model(
    several: Running, upstream: OpenAI, others: list[tuple[OpenAI, str]]
) -> None:
    upstream.mode = others[0][0].mode = "500"
    try:
        first, *_ = chat(several)
    finally:
        others[0][0].mode = "words"
    assert first.started.model == "SmolLM2-135M-Instruct" and "not available" in first.started.notice


def test_the_model_here_says_that_it_stands_in_for_one_of_its_own_name(
    start: Callable[..., Running], openai: tuple[OpenAI, str]
) -> None:
    upstream, url = openai
    service = start(**settings_for(url, model="SmolLM2-135M-Instruct"))
    upstream.mode = "500"
    first, *_ = chat(service)
    assert "not available" in first.started.notice and "demonstration" in first.started.notice


def test_each_model_is_found_by_its_name(several: Running, upstream: OpenAI, others: list[tuple[OpenAI, str]]) -> None:
    listed = json.loads(several.openai.ListModels(openai_pb.ListModelsRequest(), metadata=as_user()).content.data)
    owners = {model["id"]: model["owned_by"] for model in listed["data"]}
    assert owners["big-model"] == owners["other"] == "upstream"
    body = {"model": "other", "messages": [{"role": "user", "content": "Hello?"}]}
    content = httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())
    request, asked = openai_pb.CreateChatCompletionRequest(content=content), len(upstream.requests)
    (response,) = several.openai.CreateChatCompletion(request, metadata=as_user())
    completion = json.loads(response.content.data)
    assert (completion["model"], completion["system_fingerprint"]) == ("other", "upstream")
    assert others[1][0].requests[-1]["model"] == "other" and len(upstream.requests) == asked


def test_citations_do_not_wait_for_the_upstream(start: Callable[..., Running], openai: tuple[OpenAI, str]) -> None:
    upstream, url = openai
    service = with_document(start(**settings_for(url) | {"AI_OPENAI_SILENCE_SECONDS": "30"}))
    upstream.mode, asked = "held", len(upstream.requests)
    upstream.released.clear()
    request = pb.AnswerRequest(question="What is the answer?")
    call = service.assistant.Answer(request, metadata=as_user(), timeout=10)
    try:
        assert next(call).citation.number == 1
        wait_until(lambda: len(upstream.requests) == asked + 1)
    finally:
        upstream.released.set()
    events = list(call)
    assert "".join(event.delta.text for event in events) == "".join(WORDS)
    assert events[-1].completed.model == "big-model"


def answer(service: Running) -> list[pb.AnswerResponse]:
    request = pb.AnswerRequest(question="What is the answer?")
    return list(service.assistant.Answer(request, metadata=as_user()))
