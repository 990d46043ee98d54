"""The edge of every call: identity, admission, public errors, timings, a log line, metrics. Services see none of it.

What a queue refuses is refused here, before the request is read, traced or logged: saying no must cost little.
A deadline or a client that went away cancels the handler's task (CancelledError); `context.cancelled()` does not tell.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from hybrid_ai import tracing
from hybrid_ai.errors import DeadlineExceeded, Internal, InvalidArgument, PublicError
from hybrid_ai.identity import METADATA_KEY, Identity, Verifier
from hybrid_ai.services.ends import Ends
from hybrid_ai.services.under_way import UnderWay
from hybrid_ai.serving.caller import CALLER, Caller

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


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A call as it came: its metadata, which gRPC makes anew whenever asked, and whether no other was under way."""

    metadata: Mapping[str, Any]
    alone: bool


_current: ContextVar[Call] = ContextVar("call")
_arrived: ContextVar[_Arrival] = ContextVar("arrival")


def current_call() -> Call:
    """The call that this task serves."""
    return _current.get()


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every handler once, and remembers the wrapped ones by method.

    `gates` are asked, by method, before a request is read: they raise Overloaded where its work would be refused.
    """

    def __init__(self, verifier: Verifier, gates: Mapping[str, Callable[[], None]]) -> None:
        self.verifier = verifier
        self.gates = gates
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self.under_way = UnderWay()
        # Calls with one answer that has not been written yet.
        self._answering = 0

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        # Asked at its arrival: what came while another call kept the event loop finds that one still here.
        _arrived.set(_Arrival(dict(handler_call_details.invocation_metadata or ()), self._answering == 0))
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
        """A single request is taken as a stream of one, and so not before the call is let in."""
        ends = Ends(method)
        parse, write = handler.request_deserializer, {"response_serializer": handler.response_serializer}
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(self._unary(ends, handler.unary_unary, parse), **write)
        if handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(self._stream(ends, handler.unary_stream, parse), **write)
        codecs = {"request_deserializer": parse, **write}
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._unary(ends, handler.stream_unary, None), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(ends, handler.stream_stream, None), **codecs)

    def _unary(self, ends: Ends, inner: Any, parse: Any) -> Any:
        async def unary(requests: Any, context: Context) -> Any:
            self._answering += 1
            # The task that gRPC serves the call in ends when the answer is written. What the context itself calls then
            # would refer to the context, and both be garbage that only a collection frees.
            if (task := asyncio.current_task()) is not None:
                task.add_done_callback(self._answered)
            async with _Served(self, ends, context) as served:
                response = await inner(requests if parse is None else await served.only(parse), context)
                # At the end of the answer: in its head it would be sent by itself, for which the answer would wait.
                context.set_trailing_metadata(_server_timing(current_call()))
                served.code = "OK"
                return response

        return unary

    def _answered(self, task: object) -> None:
        self._answering -= 1

    def _stream(self, ends: Ends, inner: Any, parse: Any) -> Any:
        async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:
            async with _Served(self, ends, context, streams=True) as served:
                first = True
                request = requests if parse is None else await served.only(parse)
                async for response in inner(request, context):
                    if first:
                        await context.send_initial_metadata(_server_timing(current_call()))
                        first = False
                    yield response
                served.code = "OK"

        return stream


class _Served:
    """A call from first to last: identity, admission and span at the start; status, log and metrics at the end."""

    __slots__ = (
        "_bytes", "_context", "_edge", "_ends", "_span", "_started", "_streams", "code", "request_id", "trace_id",
    )  # fmt: skip

    def __init__(self, edge: Edge, ends: Ends, context: Context, streams: bool = False) -> None:
        self._edge, self._ends, self._context, self._streams = edge, ends, context, streams
        self._span: tracing.ServerSpan | None = None
        self._bytes = 0
        self._started = time.perf_counter()
        self.code = "UNKNOWN"
        self.request_id = self.trace_id = ""

    async def __aenter__(self) -> _Served:
        self._edge.under_way.begin()
        try:
            self._begin()
        except Exception as error:
            await self._end(error)
        return self

    async def only(self, parse: Any) -> Any:
        """The only message of a request that is not a stream."""
        message = await self._context.read()
        if message is grpc.aio.EOF:
            await asyncio.sleep(0)  # a caller that went away is told by a cancellation
            raise InvalidArgument([("request", "has no message; one is expected")])
        self._edge.under_way.hold(len(message))
        self._bytes = len(message)
        try:
            return parse(message)
        except DecodeError:
            raise InvalidArgument([("request", "is not a message of the method's type")]) from None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._end(error)

    def _begin(self) -> None:
        """What a caller who is refused costs comes first; the rest when the call is let in."""
        arrival = _arrived.get()
        metadata = arrival.metadata
        request_id, trace = metadata.get("x-request-id", ""), _TRACE.fullmatch(metadata.get("traceparent", ""))
        self.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
        self.trace_id = trace[1] if trace else ""
        method = self._ends.method
        self._edge.under_way.admit()
        identity = self._edge.verifier.verify(metadata.get(METADATA_KEY))
        remaining = self._context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the deadline passed before the call began")
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        CALLER.set(Caller(identity.subject, deadline, alone=arrival.alone and not self._streams))
        if (gate := self._edge.gates.get(method)) is not None:
            gate()
        self._span = tracing.server_span(method, metadata)
        _current.set(Call(method, identity, self.request_id, self.trace_id))

    async def _end(self, error: BaseException | None) -> None:
        try:
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                self.code = "CANCELLED"
            elif isinstance(error, Exception):
                await self._abort(error)
        finally:
            self._edge.under_way.end(self._bytes)
            if self._span is not None:
                self._span.end("" if self.code == "OK" else self.code)
            seconds = time.perf_counter() - self._started
            # After the answer was written, which nobody should wait longer for.
            loop, ends = asyncio.get_running_loop(), self._ends
            loop.call_soon(ends.record, self.code, seconds, self.request_id, self.trace_id)

    async def _abort(self, error: Exception) -> NoReturn:
        """Ends the call with the error's status; a fault of ours is logged here, once."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, PublicError):
            _LOG.error(
                "call failed", exc_info=error, extra={"method": self._ends.method, "request_id": self.request_id}
            )
            error = Internal("internal error")
        self.code = error.code.name
        try:
            await self._context.abort(error.code, error.message, error.trailing_metadata())
        except grpc.aio.AbortError as aborted:
            # gRPC keeps it with the call, its traceback keeps the call's frames: a ring that only a collection frees.
            asyncio.get_running_loop().call_soon(_untie, aborted)
            raise


def _untie(error: BaseException) -> None:
    error.__traceback__ = error.__context__ = None


def _server_timing(call: Call) -> tuple[tuple[str, str], ...]:
    entries = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in call.timings.items()]
    return (("server-timing", ", ".join(entries)),) if entries else ()
