"""Traces: spans of OpenTelemetry that continue the caller's traceparent, sent by OTLP where an endpoint is configured.

Without an endpoint nothing is imported, recorded or sent: every function here is then a cheap no-op.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class Span:
    """A span that may not exist. No text of a user's is ever put into one."""

    __slots__ = ("_span",)

    def __init__(self, span: OtelSpan | None = None) -> None:
        self._span = span

    def set(self, key: str, value: str | float) -> None:
        if self._span is not None:
            self._span.set_attribute(key, value)

    def fail(self, description: str) -> None:
        """Marks it as failed."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, description))


_NO_SPAN = contextlib.nullcontext(Span())


def configure(endpoint: str) -> None:
    """Sends spans to the endpoint by OTLP over gRPC, in batches, from a thread of the exporter's. Empty: no traces."""
    global _provider, _tracer  # noqa: PLW0603 - one tracer for each process, as OpenTelemetry has it
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _provider = TracerProvider(resource=Resource.create({"service.name": "ai"}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    _tracer = _provider.get_tracer("hybrid_ai")


def shut_down() -> None:
    """Sends what is left, and stops."""
    global _provider, _tracer  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


class ServerSpan:
    """The span of a call that is served, a child of the caller's, and current until its end."""

    def __init__(self, tracer: Tracer, method: str, metadata: Mapping[str, str]) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        service, _, name = method.strip("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        parent = TraceContextTextMapPropagator().extract(metadata)
        self._current = tracer.start_as_current_span(
            method.strip("/"),
            parent,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        )
        self._span = Span(self._current.__enter__())

    def end(self, failure: str) -> None:
        """Ends it; `failure` is the status of a call that failed."""
        if failure:
            self._span.fail(failure)
        self._current.__exit__(None, None, None)


def server_span(method: str, metadata: Mapping[str, str]) -> ServerSpan | None:
    """Begins the span of a call; None where nothing is traced."""
    return None if _tracer is None else ServerSpan(_tracer, method, metadata)


def span(name: str, **attributes: str | int | float) -> contextlib.AbstractContextManager[Span]:
    """A part of the current call; nothing outside of one."""
    return _NO_SPAN if _tracer is None or not _in_a_call() else _span(_tracer, name, attributes)


@contextlib.contextmanager
def _span(tracer: Tracer, name: str, attributes: Mapping[str, str | int | float]) -> Iterator[Span]:
    with tracer.start_as_current_span(name, attributes=attributes, record_exception=False) as current:
        yield Span(current)


def _in_a_call() -> bool:
    from opentelemetry.trace import get_current_span

    return get_current_span().get_span_context().is_valid
