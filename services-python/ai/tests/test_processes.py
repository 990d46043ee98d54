"""Several processes on one port: they share the index and the metrics, and a dead one is replaced."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest import as_service, as_user, wait_until
from hybrid.ai.v1 import search_service_pb2 as pb
from hybrid.ai.v1 import search_service_pb2_grpc, text_service_pb2, text_service_pb2_grpc
from prometheus_client.mmap_dict import MmapedDict
from test_crash import Process

CHANNELS = 12
EMBED = "/hybrid.ai.v1.TextService/Embed"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    running = Process(tmp_path_factory.mktemp("data"), {"AI_PROCESSES": "2", "AI_SHUTDOWN_SECONDS": "1"})
    yield running
    assert running.end(signal.SIGTERM) == 0


def channels(service: Process) -> list[grpc.Channel]:
    """Connections of their own, which the kernel spreads over the processes."""
    return [
        grpc.insecure_channel(f"127.0.0.1:{service.port}", [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]


def processes(service: Process) -> list[int]:
    tasks = Path(f"/proc/{service.process.pid}/task").iterdir()
    pids = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in pids if b"hybrid_ai" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def found(channel: grpc.Channel, query: str) -> set[str]:
    stub = search_service_pb2_grpc.SearchServiceStub(channel)
    request = pb.SearchRequest(query=query, mode=pb.SEARCH_MODE_VECTOR)
    return {result.document_id for result in stub.Search(request, metadata=as_user("alice")).results}


def test_every_process_finds_what_any_of_them_was_given(service: Process) -> None:
    connections = channels(service)
    for number, channel in enumerate(connections):
        document = pb.Document(id=f"d{number}", revision=1, text=f"Walrus number {number}.", owner="alice")
        search_service_pb2_grpc.SearchServiceStub(channel).Index(
            pb.IndexRequest(document=document), metadata=as_service()
        )
        for other in connections:
            assert found(other, "walrus") >= {f"d{earlier}" for earlier in range(max(0, number - 8), number + 1)}
        if number >= 3:
            break
    request = pb.DeleteRequest(document_id="d0", revision=2)
    search_service_pb2_grpc.SearchServiceStub(connections[0]).Delete(request, metadata=as_service())
    assert not any("d0" in found(channel, "walrus") for channel in connections)
    for channel in connections:
        channel.close()


def test_the_metrics_are_those_of_all_processes(service: Process) -> None:
    sample = f'ai_calls_total{{code="OK",method="{EMBED}"}}'
    before = service.metric(sample)
    connections = channels(service)
    for channel in connections:
        request = text_service_pb2.EmbedRequest(texts=["a"])
        text_service_pb2_grpc.TextServiceStub(channel).Embed(request, metadata=as_user())
        channel.close()
    wait_until(lambda: service.metric(sample) == before + CHANNELS)


def answered_by(service: Process) -> dict[int, float]:
    """How many calls of Embed each process has answered. Each writes its metrics to files of its own."""
    answered = dict[int, float]()
    for pid in processes(service):
        pairs = (pair.partition(b"=") for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
        (folder,) = (value for name, _, value in pairs if name == b"PROMETHEUS_MULTIPROC_DIR")
        file = Path(os.fsdecode(folder)) / f"counter_{pid}.db"
        values = MmapedDict.read_all_values_from_file(str(file)) if file.exists() else ()
        answered[pid] = sum(value for key, value, *_ in values if "ai_calls_total" in key and EMBED in key)
    return answered


def test_connections_are_spread_over_the_processes(service: Process) -> None:
    before = answered_by(service)
    connections = channels(service) + channels(service)
    for channel in connections:
        request = text_service_pb2.EmbedRequest(texts=["a"])
        text_service_pb2_grpc.TextServiceStub(channel).Embed(request, metadata=as_user())

    def new() -> list[float]:
        return [calls - before[pid] for pid, calls in answered_by(service).items()]

    wait_until(lambda: sum(new()) == len(connections))
    assert len(new()) == 2 and min(new()) > 0, new()  # by chance alone, once in eight million runs
    for channel in connections:
        channel.close()


def test_a_dead_process_is_replaced(service: Process) -> None:
    wait_until(lambda: service.metric("ai_processes") == 2)
    before = processes(service)
    assert len(before) == 2
    restarts = service.metric("ai_process_restarts_total")
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: service.metric("ai_process_restarts_total") == restarts + 1)
    assert before[1] not in processes(service)
    for channel in channels(service):
        grpc.channel_ready_future(channel).result(timeout=30)
        assert "d1" in found(channel, "walrus")
        channel.close()


def test_no_process_outlives_its_supervisor(tmp_path: Path) -> None:
    running = Process(tmp_path, {"AI_PROCESSES": "2", "AI_SHUTDOWN_SECONDS": "1"})
    pids = processes(running)
    assert len(pids) == 2
    running.end(signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids), timeout=30)
