"""Chat with the model here: its label, its settings and its limits."""

import grpc
import pytest
from conftest import Running, as_user
from grpc_errors import invalid
from hybrid.ai.v1 import assistant_service_pb2 as pb

USER, MODEL, SYSTEM = pb.CHAT_ROLE_USER, pb.CHAT_ROLE_ASSISTANT, pb.CHAT_ROLE_SYSTEM


def chat(service: Running, *contents: str, role: int = USER, **settings: object) -> list[pb.ChatResponse]:
    messages = [pb.ChatMessage(role=role, content=content) for content in contents]
    request = pb.ChatRequest(messages=messages, **settings)
    return list(service.assistant.Chat(request, metadata=as_user()))


def text(events: list[pb.ChatResponse]) -> str:
    return "".join(event.delta.text for event in events)


def test_a_chat_names_its_model_then_streams_then_completes(service: Running) -> None:
    events = chat(service, "Say hello.", max_tokens=12, seed=1)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started" and kinds[-1] == "completed" and set(kinds[1:-1]) == {"delta"}
    assert events[0].started.model == "SmolLM2-135M-Instruct"
    assert "demonstration" in events[0].started.notice
    assert len(kinds) > 5 and text(events).strip()
    completed = events[-1].completed
    assert completed.prompt_tokens > 10 and 0 < completed.completion_tokens <= 12


def test_the_reason_of_the_end_is_told(service: Running) -> None:
    assert chat(service, "Tell me a story.", max_tokens=3)[-1].completed.finish_reason == pb.FINISH_REASON_LENGTH
    brief = chat(service, "Say: yes", max_tokens=200, temperature=0.0)[-1].completed
    assert brief.finish_reason == pb.FINISH_REASON_STOP and brief.completion_tokens < 200


def test_the_same_seed_gives_the_same_text(service: Running) -> None:
    first, second, other = (
        text(chat(service, "Write about the sea.", max_tokens=24, temperature=1.0, seed=seed)) for seed in (5, 5, 6)
    )
    assert first == second != other


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, -(2**63), 2**63 - 1])
def test_no_seed_is_taken_for_a_random_one(service: Running, seed: int) -> None:
    first, second = (
        text(chat(service, "Write about the sea.", max_tokens=12, temperature=1.5, seed=seed)) for _ in range(2)
    )
    assert first == second


def test_the_limits_hold_from_both_sides(service: Running) -> None:
    chat(service, *["a"] * 64, max_tokens=1, temperature=2.0)
    chat(service, "a", max_tokens=1, temperature=0.0)
    assert invalid(lambda: chat(service)) == ["messages"]
    assert invalid(lambda: chat(service, *["a"] * 65)) == ["messages"]
    assert invalid(lambda: chat(service, "a" * 8192, "b" * 8193)) == ["messages"]
    assert invalid(lambda: chat(service, "a", "")) == ["messages[1].content"]
    assert invalid(lambda: chat(service, "a", role=MODEL)) == ["messages[0].role"]
    assert invalid(lambda: chat(service, "a", role=9)) == ["messages[0].role", "messages[0].role"]
    assert invalid(lambda: chat(service, "a", max_tokens=1025)) == ["max_tokens"]
    assert invalid(lambda: chat(service, "a", max_tokens=-1)) == ["max_tokens"]
    assert invalid(lambda: chat(service, "a", temperature=2.1)) == ["temperature"]
    assert invalid(lambda: chat(service, "a", temperature=-0.1)) == ["temperature"]


def test_a_prompt_beyond_the_model_s_context_is_refused_before_anything_is_streamed(service: Running) -> None:
    assert invalid(lambda: chat(service, "word " * 3000)) == ["messages"]


def test_an_unknown_method_is_unimplemented(service: Running) -> None:
    call = service.channel.unary_unary("/hybrid.ai.v1.AssistantService/Sing")
    try:
        call(b"", metadata=as_user())
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    else:
        raise AssertionError("an unknown method was answered")
