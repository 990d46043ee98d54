"""Traces: a call's span continues the caller's trace, and its work is a part of it; sent by OTLP to a collector."""

import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import as_user
from hybrid.ai.v1 import (
    assistant_service_pb2,
    assistant_service_pb2_grpc,
    search_service_pb2,
    text_service_pb2_grpc,
)
from hybrid.ai.v1 import text_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from test_crash import Process

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: queue.Queue[Any] = queue.Queue()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put(span)
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def test_a_call_continues_its_callers_trace(collector: Collector, tmp_path: Path) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    service = Process(tmp_path, endpoint | {"OTEL_BSP_SCHEDULE_DELAY": "50"})
    text = text_service_pb2_grpc.TextServiceStub(service.channel)
    sampled = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    text.Embed(pb.EmbedRequest(texts=["secret words"]), metadata=(*as_user(), sampled))
    not_sampled = ("traceparent", f"00-{TRACE[::-1]}-{PARENT}-00")
    text.Embed(pb.EmbedRequest(texts=["secret words"]), metadata=(*as_user(), not_sampled))
    with pytest.raises(grpc.RpcError):
        text.Embed(pb.EmbedRequest(), metadata=(*as_user(), sampled))
    received = {}
    while len(received) < 3:
        span = collector.spans.get(timeout=20)
        received[span.name, span.status.code] = span
    assert service.end(signal.SIGTERM) == 0
    call = received["hybrid.ai.v1.TextService/Embed", 0]
    work = received["model embed", 0]
    failed = received["hybrid.ai.v1.TextService/Embed", 2]
    assert {span.trace_id.hex() for span in received.values()} == {TRACE}
    assert call.parent_span_id.hex() == PARENT and failed.parent_span_id.hex() == PARENT
    assert work.parent_span_id == call.span_id
    assert failed.status.message == "INVALID_ARGUMENT"
    assert "secret" not in str(received)


def test_streams_and_searches_continue_their_callers_traces(collector: Collector, tmp_path: Path) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    service = Process(tmp_path, endpoint | {"OTEL_BSP_SCHEDULE_DELAY": "50"})
    callers = {"SearchService/Search": ("a" * 32, "1" * 16), "AssistantService/Chat": ("b" * 32, "2" * 16)}

    def metadata(method: str) -> Any:
        trace, parent = callers[method]
        return (*as_user(), ("traceparent", f"00-{trace}-{parent}-01"))

    request = search_service_pb2.SearchRequest(query="secret words")
    service.search.Search(request, metadata=metadata("SearchService/Search"))
    message = assistant_service_pb2.ChatMessage(role=assistant_service_pb2.CHAT_ROLE_USER, content="secret words")
    chat = assistant_service_pb2.ChatRequest(messages=[message], max_tokens=3)
    assistant = assistant_service_pb2_grpc.AssistantServiceStub(service.channel)
    assert list(assistant.Chat(chat, metadata=metadata("AssistantService/Chat")))
    spans = {span.name: span for span in (collector.spans.get(timeout=20) for _ in range(4))}
    assert service.end(signal.SIGTERM) == 0
    for (method, (trace, parent)), work in zip(callers.items(), ("model embed", "model chat"), strict=True):
        call = spans[f"hybrid.ai.v1.{method}"]
        assert (call.trace_id.hex(), call.parent_span_id.hex()) == (trace, parent)
        assert (spans[work].trace_id.hex(), spans[work].parent_span_id) == (trace, call.span_id)
    assert "secret" not in str(spans)


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    code = (
        "import sys; from hybrid_ai import server, tracing; tracing.configure('')\n"
        "assert tracing.server_span('/a/b', {}) is None\n"
        "with tracing.span('c'): pass\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
