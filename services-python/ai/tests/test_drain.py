"""Start and stop: ready when the models are, not serving before the first call is turned away, calls finish."""

import signal
from pathlib import Path

import grpc
import pytest
from conftest import SERVICES, as_user, wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import assistant_service_pb2_grpc, text_service_pb2, text_service_pb2_grpc
from test_crash import Process

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def chat(service: Process, tokens: int) -> grpc.Call:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Count from one to one thousand.")
    stub = assistant_service_pb2_grpc.AssistantServiceStub(service.channel)
    return stub.Chat(pb.ChatRequest(messages=[message], max_tokens=tokens, seed=3), metadata=as_user())


def turned_away(channel: grpc.Channel) -> bool:
    """Whether a new call is. In no other way may one fail while the service drains."""
    stub = text_service_pb2_grpc.TextServiceStub(channel)
    try:
        stub.Embed(text_service_pb2.EmbedRequest(texts=["a"]), metadata=as_user(), timeout=10)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return True
    return False


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_call_under_way_finishes_after_sigterm_and_new_ones_are_turned_away(tmp_path: Path, processes: str) -> None:
    service = Process(tmp_path, {"AI_SHUTDOWN_SECONDS": "60", "AI_PROCESSES": processes})
    watch = health_pb2_grpc.HealthStub(service.channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == SERVING
    call = chat(service, 250)
    events = [next(call) for _ in range(3)]
    service.process.send_signal(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    with grpc.insecure_channel(f"127.0.0.1:{service.port}", [("grpc.use_local_subchannel_pool", 1)]) as another:
        for channel in (another, service.channel):  # a new connection, and the one of the call
            wait_until(lambda channel=channel: turned_away(channel))
    assert service.metric("ai_generations_active") == 1  # meanwhile the model writes on
    events += list(call)
    assert events[-1].WhichOneof("event") == "completed"
    assert service.process.wait(15) == 0  # the open watch holds nothing up
    service.channel.close()


def test_a_call_that_takes_too_long_is_ended_at_the_limit(tmp_path: Path) -> None:
    service = Process(tmp_path, {"AI_SHUTDOWN_SECONDS": "0"})
    call = chat(service, 1024)
    next(call)
    service.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError):
        list(call)
    assert service.process.wait(15) == 0
    service.channel.close()


def test_a_model_that_is_loaded_at_the_start_is_ready_when_the_service_is(tmp_path: Path) -> None:
    service = Process(tmp_path, {"AI_CHAT_LOAD": "start"})
    assert "smollm2.gguf" in Path(f"/proc/{service.process.pid}/maps").read_text()
    stub = health_pb2_grpc.HealthStub(service.channel)

    def serves() -> bool:
        requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", *SERVICES)]
        return all(stub.Check(request).status == SERVING for request in requests)

    wait_until(serves)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert service.end(signal.SIGTERM) == 0
