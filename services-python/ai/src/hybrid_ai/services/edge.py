"""The edge of every call: identity, public errors, timings, one log line and metrics. Services see none of it.

A deadline or a client that went away cancels the handler's task (CancelledError); `context.cancelled()` does not tell.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from hybrid_ai import telemetry
from hybrid_ai.errors import Internal, PublicError
from hybrid_ai.identity import METADATA_KEY, Identity, Verifier

_LOG = logging.getLogger("hybrid_ai.calls")
_EXEMPT = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Call:
    """One call: who makes it, how to find it in the logs, and its timings in seconds by name."""

    method: str
    identity: Identity
    request_id: str
    trace_id: str
    started: float = field(default_factory=time.perf_counter)
    timings: dict[str, float] = field(default_factory=dict)

    def add_timing(self, name: str, seconds: float) -> None:
        """Adds to what the caller is told in `server-timing`."""
        self.timings[name] = self.timings.get(name, 0.0) + seconds


_current: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """The call that this task serves."""
    return _current.get()


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every handler once, and remembers the wrapped ones by method."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_EXEMPT):
            return handler
        wrapped = self._wrap(method, handler)
        self._wrapped[method] = wrapped
        return wrapped

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), **codecs)
        if handler.stream_stream:  # the request is then the stream of them
            return grpc.stream_stream_rpc_method_handler(self._stream(method, handler.stream_stream), **codecs)
        raise NotImplementedError(f"{method}: a stream from clients with one answer is not served")

    def _unary(self, method: str, inner: Any) -> Any:
        async def unary(request: Any, context: Context) -> Any:
            outcome = _Outcome(method)
            try:
                call = self._begin(method, context, outcome)
                response = await inner(request, context)
                await context.send_initial_metadata(_server_timing(call))
                outcome.code = "OK"
                return response
            except asyncio.CancelledError:
                outcome.code = "CANCELLED"
                raise
            except Exception as error:
                await _abort(context, error, outcome)
            finally:
                outcome.record()

        return unary

    def _stream(self, method: str, inner: Any) -> Any:
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            outcome = _Outcome(method)
            try:
                call = self._begin(method, context, outcome)
                first = True
                async for response in inner(request, context):
                    if first:
                        await context.send_initial_metadata(_server_timing(call))
                        first = False
                    yield response
                outcome.code = "OK"
            except (asyncio.CancelledError, GeneratorExit):
                outcome.code = "CANCELLED"
                raise
            except Exception as error:
                await _abort(context, error, outcome)
            finally:
                outcome.record()

        return stream

    def _begin(self, method: str, context: Context, outcome: _Outcome) -> Call:
        metadata = _metadata(context)
        request_id, trace = metadata.get("x-request-id", ""), _TRACE.fullmatch(metadata.get("traceparent", ""))
        outcome.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
        outcome.trace_id = trace[1] if trace else ""
        identity = self._verifier.verify(metadata.get(METADATA_KEY))
        call = Call(method, identity, outcome.request_id, outcome.trace_id)
        _current.set(call)
        return call


def _metadata(context: Context) -> Mapping[str, str]:
    pairs = context.invocation_metadata() or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _server_timing(call: Call) -> tuple[tuple[str, str], ...]:
    entries = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in call.timings.items()]
    return (("server-timing", ", ".join(entries)),) if entries else ()


async def _abort(context: Context, error: Exception, outcome: _Outcome) -> NoReturn:
    """Ends the call with the error's status; a fault of ours is logged here, once."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, PublicError):
        _LOG.error("call failed", exc_info=error, extra={"method": outcome.method, "request_id": outcome.request_id})
        error = Internal("internal error")
    outcome.code = error.code.name
    await context.abort(error.code, error.message, error.trailing_metadata())


class _Outcome:
    """What is logged and counted about a call at its end."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.code = "UNKNOWN"
        self.request_id = ""
        self.trace_id = ""
        self._started = time.perf_counter()

    def record(self) -> None:
        seconds = time.perf_counter() - self._started
        telemetry.CALLS.labels(self.method, self.code).inc()
        telemetry.CALL_SECONDS.labels(self.method).observe(seconds)
        level = logging.INFO if self.code in ("OK", "CANCELLED") else logging.WARNING
        if _LOG.isEnabledFor(level):
            fields = {"method": self.method, "code": self.code, "ms": round(seconds * 1000, 2)}
            _LOG.log(level, "call", extra=fields | {"request_id": self.request_id, "trace_id": self.trace_id})
