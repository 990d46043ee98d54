"""Answer and Chat with a configured upstream, which works, fails, falls silent or is not there."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from conftest import Running, as_service, as_user, wait_until
from grpc_errors import fails, invalid, retry_delay
from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import search_service_pb2 as search_pb
from openai_server import WORDS, OpenAI, settings_for


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


def chat(service: Running) -> Any:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Hello?")
    request = pb.ChatRequest(messages=[message], max_tokens=9, temperature=0.5, seed=4)
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
    assert events[-1].completed.model == "big-model" and events[-1].completed.found
    prompt = upstream.requests[-1]["messages"][-1]["content"]
    assert "[1] The answer is forty-two." in prompt and "What is the answer?" in prompt


def test_an_answer_without_passages_asks_no_upstream(configured: Running, upstream: OpenAI) -> None:
    asked = len(upstream.requests)
    request = pb.AnswerRequest(question="What is the answer?")
    events = list(configured.assistant.Answer(request, metadata=as_user("nobody")))
    assert events[-1].completed.found is False and len(upstream.requests) == asked


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


@pytest.mark.parametrize("mode", ["broken", "garbage"])
def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(configured: Running, upstream: OpenAI, mode: str) -> None:
    upstream.mode = mode
    fails(lambda: chat(configured), grpc.StatusCode.UNAVAILABLE)


def test_an_overloaded_upstream_says_when_to_come_back(configured: Running, upstream: OpenAI) -> None:
    upstream.mode = "429"
    assert retry_delay(fails(lambda: chat(configured), grpc.StatusCode.RESOURCE_EXHAUSTED)) == 7


def test_a_refused_prompt_is_the_caller_s_error(configured: Running, upstream: OpenAI) -> None:
    upstream.mode = "400"
    assert invalid(lambda: chat(configured)) == ["messages"]


def test_an_upstream_that_is_not_there_is_unavailable(start: Callable[..., Running]) -> None:
    service = start(AI_OPENAI_BASE_URL="http://127.0.0.1:9/v1", AI_OPENAI_MODEL="big-model", AI_OPENAI_FALLBACK="none")
    error = fails(lambda: chat(service), grpc.StatusCode.UNAVAILABLE)
    assert "127.0.0.1" not in error.details()


FAILING = ["500", "401", "at once garbage", "mute"]


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


def test_citations_do_not_wait_for_the_upstream(falling_back: Running, upstream: OpenAI) -> None:
    upstream.mode = "mute"
    request = pb.AnswerRequest(question="What is the answer?")
    call = falling_back.assistant.Answer(request, metadata=as_user())
    asked = len(upstream.requests)
    assert next(call).citation.number == 1
    assert len(upstream.requests) - asked <= 1
    call.cancel()
    wait_until(lambda: falling_back.metric("ai_generations_active") == 0)


def answer(service: Running) -> list[pb.AnswerResponse]:
    request = pb.AnswerRequest(question="What is the answer?")
    return list(service.assistant.Answer(request, metadata=as_user()))
