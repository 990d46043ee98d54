"""OpenAI's JSON as this service speaks it; its own clients are tested through the gateway (tests/openai)."""

import base64
import json
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import Running, as_user, wait_until
from google.api import httpbody_pb2
from google.rpc import error_details_pb2
from grpc_errors import fails, retry_delay
from grpc_status import rpc_status
from hybrid.ai.v1 import openai_service_pb2 as pb
from hybrid.ai.v1.text_service_pb2 import EmbedRequest
from openai_server import WORDS, OpenAI, settings_for

from hybrid_ai.services.openai_requests import chat_request

EMBEDDER, SMALL = "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"
HELLO = [{"role": "user", "content": "Hello?"}]
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def body(value: Any) -> httpbody_pb2.HttpBody:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return httpbody_pb2.HttpBody(content_type="application/json", data=data)


def embed(service: Running, **request: Any) -> dict[str, Any]:
    return embed_raw(service, {"model": EMBEDDER, **request})


def embed_raw(service: Running, value: Any) -> dict[str, Any]:
    response = service.openai.CreateEmbeddings(pb.CreateEmbeddingsRequest(content=body(value)), metadata=as_user())
    assert response.content.content_type == "application/json"
    return json.loads(response.content.data)


def chat(service: Running, **request: Any) -> Any:
    content = body({"model": SMALL, "messages": HELLO, "max_tokens": 2, **request})
    return service.openai.CreateChatCompletion(pb.CreateChatCompletionRequest(content=content), metadata=as_user())


def whole(service: Running, **request: Any) -> dict[str, Any]:
    (response,) = chat(service, **request)
    assert response.content.content_type == "application/json"
    return json.loads(response.content.data)


def events(call: Any) -> list[Any]:
    pieces = [response.content for response in call]
    assert pieces[0].content_type == "text/event-stream"
    lines = b"".join(piece.data for piece in pieces).decode().split("\n\n")
    assert lines.pop() == ""
    return [line if line == "data: [DONE]" else json.loads(line.removeprefix("data: ")) for line in lines]


def refused(call: Callable[[], Any], code: grpc.StatusCode = INVALID) -> tuple[str | None, str]:
    """The `param` and `code` of the JSON that the failure carries for HTTP."""
    error = fails(call, code)
    status = rpc_status.from_call(error)
    content = httpbody_pb2.HttpBody()
    assert status is not None and status.details[-1].Unpack(content) and content.content_type == "application/json"
    shown = json.loads(content.data)["error"]
    assert shown.keys() == {"message", "type", "param", "code"} and shown["message"] == error.details()
    if code == INVALID:
        assert status.details[0].Unpack(error_details_pb2.BadRequest())
    return shown["param"], shown["code"]


def test_embeddings_are_those_of_the_text_service(service: Running) -> None:
    expected = service.text.Embed(EmbedRequest(texts=["one", "two"]), metadata=as_user())
    answer = embed(service, input=["one", "two"])
    assert [item["index"] for item in answer["data"]] == [0, 1] and answer["model"] == EMBEDDER
    for item, embedding in zip(answer["data"], expected.embeddings, strict=True):
        assert np.allclose(item["embedding"], embedding.values, atol=1e-6)
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    coded = embed(service, input="one", encoding_format="base64")["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(coded), "<f4"), expected.embeddings[0].values, atol=1e-6)
    for dimensions in (1, 64, 384):
        short = np.array(embed(service, input="one", dimensions=dimensions)["data"][0]["embedding"])
        cut = np.array(expected.embeddings[0].values[:dimensions])
        assert np.allclose(short, cut / np.linalg.norm(cut), atol=1e-6)


def test_embeddings_limits_hold_from_both_sides(service: Running) -> None:
    assert len(embed(service, input=["x"] * 256, user="someone")["data"]) == 256
    embed(service, input="x" * 32_768, encoding_format=None)
    most = ["x" * 32_768] * 32
    assert len(embed(service, input=most)["data"]) == 32
    assert refused(lambda: embed(service, input=[*most, "x"]))[0] == "input"
    for wrong in ([], ["x"] * 257, 5, None, [1, 2], [[1, 2]]):
        assert refused(lambda wrong=wrong: embed(service, input=wrong))[0] == "input"
    for wrong in ("", "x" * 32_769):
        assert refused(lambda wrong=wrong: embed(service, input=["a", wrong]))[0] == "input[1]"
    assert refused(lambda: embed(service, input=["a", {}]))[0] == "input[1]"
    for wrong in (0, 385, 1.5, True, "8"):
        assert refused(lambda wrong=wrong: embed(service, input="x", dimensions=wrong))[0] == "dimensions"
    assert refused(lambda: embed(service, input="x", encoding_format="hex"))[0] == "encoding_format"
    assert refused(lambda: embed(service, input="x", inputs="y")) == ("inputs", "unknown_parameter")
    assert refused(lambda: embed_raw(service, {"input": "x"})) == ("model", "missing_required_parameter")
    missing = refused(lambda: embed(service, input="x", model=SMALL), grpc.StatusCode.NOT_FOUND)
    assert missing == (None, "model_not_found")


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'"x"', b"\xff", b"[" * 200_000, b'{"model": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(service: Running, data: bytes) -> None:
    assert refused(lambda: embed_raw(service, data))[0] == "body"


def test_a_stream_says_the_same_as_the_whole(service: Running) -> None:
    complete = whole(service, max_tokens=8, seed=4)
    chunks = events(chat(service, max_tokens=8, seed=4, stream=True, stream_options={"include_usage": True}))
    assert chunks.pop() == "data: [DONE]"
    usage = chunks.pop()
    assert usage["choices"] == [] and usage["usage"] == complete["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == complete["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == complete["choices"][0]["finish_reason"]
    assert "usage" not in events(chat(service, stream=True))[0]


def test_settings_reach_the_generation_and_have_defaults() -> None:
    def taken(**given: Any) -> Any:
        request = {"model": SMALL, "messages": HELLO, **given}
        return chat_request(json.dumps(request).encode()).generation

    plain = taken()
    assert (plain.max_tokens, plain.temperature, plain.seed, plain.stop) == (256, 0.2, None, ())
    given = taken(max_tokens=9, temperature=0, seed=0, stop=["a", "b"])
    assert (given.max_tokens, given.temperature, given.seed, given.stop) == (9, 0.0, 0, ("a", "b"))
    assert taken(max_tokens=9, max_completion_tokens=5).max_tokens == 5


def test_the_small_model_keeps_to_its_settings(service: Running) -> None:
    def write(**settings: Any) -> dict[str, Any]:
        return whole(service, messages=[{"role": "user", "content": "Count from one to twenty."}], **settings)

    def text(**settings: Any) -> str:
        return write(**settings)["choices"][0]["message"]["content"]

    short = write(max_tokens=5, temperature=0)
    assert short["usage"]["completion_tokens"] <= 5 and short["choices"][0]["finish_reason"] == "length"
    first, second, other = (text(max_tokens=24, temperature=1, seed=seed) for seed in (5, 5, 6))
    assert first == second != other
    coldest = text(max_tokens=24, temperature=0)
    word = coldest.split()[3]
    assert text(max_tokens=24, temperature=0, stop=word) == coldest[: coldest.index(word)]


def test_what_changes_nothing_is_taken_and_what_would_is_refused(service: Running) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo?"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    whole(service, messages=messages, n=1, top_p=1.0, presence_penalty=0, user="u", tools=[], stop=None, temperature=2)
    for name, value in (("n", 2), ("top_p", 0.5), ("tools", [{}]), ("logprobs", True), ("response_format", {})):
        given = {name: value}
        assert refused(lambda given=given: whole(service, **given)) == (name, "unsupported_parameter")
    assert refused(lambda: whole(service, best_of=2)) == ("best_of", "unknown_parameter")


def test_chat_s_limits_hold_from_both_sides(service: Running) -> None:
    def wrong(param: str, **request: Any) -> None:
        assert refused(lambda: list(chat(service, **request)))[0] == param, request

    largest = {"model": SMALL, "messages": HELLO * 63 + [{"role": "user", "content": "a" * 16_006}], "max_tokens": 1024}
    taken = chat_request(json.dumps(largest | {"stop": ["s" * 64] * 4, "temperature": 2, "seed": -(2**63)}).encode())
    assert len(taken.generation.messages) == 64 and taken.generation.max_tokens == 1024
    assert chat_request(json.dumps(largest | {"max_completion_tokens": 1}).encode()).generation.max_tokens == 1
    wrong("messages", messages=HELLO * 65)
    wrong("messages", messages=[])
    wrong("messages", messages="Hello?")
    wrong("messages", messages=[{"role": "user", "content": "a" * 16_385}])
    wrong("messages[0].role", messages=[{"role": "tool", "content": "a"}])
    wrong("messages[1].content", messages=[*HELLO, {"role": "user", "content": ""}])
    wrong("messages[0].content", messages=[{"role": "user", "content": [{"type": "image_url"}]}])
    for name in ("max_tokens", "max_completion_tokens"):
        for value in (0, 1025, "9", True):
            wrong(name, **{name: value})
    for value in (-0.1, 2.1, "1", True, float("nan")):
        wrong("temperature", temperature=value)
    for value in ("", ["s"] * 5, "s" * 65, [1], {}):
        wrong("stop", stop=value)
    wrong("seed", seed=1.5)
    wrong("stream", stream="yes")
    wrong("stream_options", stream_options={"include_usage": True})
    wrong("messages", messages=[{"role": "user", "content": "word " * 3000}])
    wrong("messages", messages=[{"role": "user", "content": "word " * 3000}], stream=True)


def test_an_unknown_model_is_not_found(service: Running) -> None:
    for name in ("gpt-4", EMBEDDER):
        found = refused(lambda name=name: list(chat(service, model=name)), grpc.StatusCode.NOT_FOUND)
        assert found == (None, "model_not_found")
    request = pb.GetModelRequest(model="gpt-4")
    refused(lambda: service.openai.GetModel(request, metadata=as_user()), grpc.StatusCode.NOT_FOUND)


def test_who_leaves_stops_the_generation(service: Running) -> None:
    call = chat(service, stream=True, max_tokens=1024, messages=[{"role": "user", "content": "Count to a thousand."}])
    next(call), next(call)
    call.cancel()
    wait_until(lambda: service.metric("ai_generations_active") == 0)


@pytest.fixture(scope="module")
def configured(openai: tuple[OpenAI, str], start: Callable[..., Running]) -> Running:
    return start(**settings_for(openai[1]))


@pytest.fixture
def upstream(openai: tuple[OpenAI, str]) -> OpenAI:
    openai[0].mode = "words"
    return openai[0]


def test_an_upstream_is_a_model_beside_the_small_one(configured: Running, upstream: OpenAI) -> None:
    listed = configured.openai.ListModels(pb.ListModelsRequest(), metadata=as_user()).content.data
    owners = {model["id"]: model["owned_by"] for model in json.loads(listed)["data"]}
    assert owners == {EMBEDDER: "local", SMALL: "small-local", "big-model": "upstream"}
    settings = {"stop": "END", "seed": -1, "temperature": 1.5, "max_tokens": 7}
    big = whole(configured, model="big-model", **settings)
    assert big["choices"][0]["message"]["content"] == "".join(WORDS)
    assert (big["model"], big["system_fingerprint"]) == ("big-model", "upstream")
    assert big["usage"] == {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    sent = upstream.requests[-1]
    assert {name: sent[name] for name in settings} == settings | {"stop": ["END"], "seed": 2**32 - 2}
    assert sent["model"] == "big-model"
    small = whole(configured)
    assert (small["model"], small["system_fingerprint"]) == (SMALL, "small-local")


@pytest.mark.parametrize("mode", ["429", "500", "at once garbage", "mute"])
def test_the_small_model_stands_in_and_is_labelled(configured: Running, upstream: OpenAI, mode: str) -> None:
    upstream.mode = mode
    answer = whole(configured, model="big-model")
    assert (answer["model"], answer["system_fingerprint"]) == (SMALL, "fallback-small-local")
    (first, *_) = events(chat(configured, model="big-model", stream=True))
    assert (first["model"], first["system_fingerprint"]) == (SMALL, "fallback-small-local")


def test_what_the_upstream_refuses_is_told_in_openai_s_form(
    configured: Running, start: Callable[..., Running], openai: tuple[OpenAI, str]
) -> None:
    upstream, openai_url = openai
    upstream.mode = "400"
    assert refused(lambda: whole(configured, model="big-model"))[0] == "messages"
    alone = start(**settings_for(openai_url) | {"AI_OPENAI_FALLBACK": "none"})
    upstream.mode = "429"
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused(lambda: whole(alone, model="big-model"), exhausted) == (None, "rate_limit_exceeded")
    assert retry_delay(fails(lambda: whole(alone, model="big-model"), exhausted)) == 7


@pytest.mark.parametrize("mode", ["broken", "garbage"])
def test_a_stream_that_breaks_off_ends_with_an_error_and_no_done(
    configured: Running, upstream: OpenAI, mode: str
) -> None:
    upstream.mode = mode
    seen = list[Any]()

    def read() -> None:
        for response in chat(configured, model="big-model", stream=True):
            seen.append(response.content.data)

    fails(read, grpc.StatusCode.UNAVAILABLE)
    assert json.loads(seen[-1].removeprefix(b"data: "))["error"]["code"] == "unavailable"
    assert not any(b"[DONE]" in data for data in seen) and b"answer" in b"".join(seen)
    refused(lambda: whole(configured, model="big-model"), grpc.StatusCode.UNAVAILABLE)
