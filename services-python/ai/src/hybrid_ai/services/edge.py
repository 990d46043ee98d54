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
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from hybrid_ai import tracing
from hybrid_ai.errors import DeadlineExceeded, Internal, InvalidArgument, Overloaded, PublicError
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
    Metadata = Mapping[str, Any]


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
# The metadata of a call, which gRPC makes anew whenever asked.
_metadata: ContextVar[Metadata] = ContextVar("metadata")


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
        self.answering = _Answering()

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        _metadata.set(dict(handler_call_details.invocation_metadata or ()))
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

    def unary(self, method: str, handler: Any) -> Unary:
        """How a method with one request and one answer is served, for who takes its calls without the interceptor."""
        return Unary(self, Ends(method), handler.unary_unary, handler.request_deserializer, handler.response_serializer)

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """A single request is taken as a stream of one, and so not before the call is let in."""
        ends = Ends(method)
        parse, write = handler.request_deserializer, {"response_serializer": handler.response_serializer}
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(self.unary(method, handler).serve, **write)
        if handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(self._stream(ends, handler.unary_stream, parse), **write)
        codecs = {"request_deserializer": parse, **write}
        if handler.stream_unary:
            unary = Unary(self, ends, handler.stream_unary, None, handler.response_serializer)
            return grpc.stream_unary_rpc_method_handler(unary.serve, **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(ends, handler.stream_stream, None), **codecs)

    def _stream(self, ends: Ends, inner: Any, parse: Any) -> Any:
        async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:
            async with Served(self, ends, context, _metadata.get(), streams=True) as served:
                first = True
                request = requests if parse is None else await served.only(parse)
                async for response in inner(request, context):
                    if first:
                        await context.send_initial_metadata(_server_timing(current_call()))
                        first = False
                    yield response
                served.code = "OK"

        return stream


class _Answering(AbstractContextManager[None]):
    """Calls with one answer that has not been written yet. Entered for each; not left before the answer is written."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> None:
        self.calls += 1

    def __exit__(self, *_: object) -> None:
        self.calls -= 1


class Unary:
    """A method with one answer. Without `parse` its request is a stream."""

    def __init__(self, edge: Edge, ends: Ends, inner: Any, parse: Any, serializer: Any) -> None:
        self._edge, self._ends, self._inner, self._parse = edge, ends, inner, parse
        self.serializer = serializer
        self.answering = edge.answering

    async def serve(self, requests: Any, context: Context) -> Any:
        """A call from first to last, as gRPC's own server has it served."""
        served = Served(self._edge, self._ends, context, _metadata.get())
        self.answering.__enter__()
        # The task that gRPC serves the call in ends when the answer is written. What the context itself calls then
        # would refer to the context, and both be garbage that only a collection frees.
        if (task := asyncio.current_task()) is not None:
            task.add_done_callback(self.answering.__exit__)
        return await self.answer(served, context, requests)

    def arrive(self, context: Context) -> Served:
        """Looks at a call that came: is it let in? Then comes `answer`, else `Served.refuse`."""
        return Served(self._edge, self._ends, context, dict(context.invocation_metadata() or ()))

    async def answer(self, served: Served, context: Context, requests: Any = None) -> Any:
        """Answers a call that was let in, within `answering`. `requests` is what came where that is a stream."""
        async with served:
            response = await self._inner(requests if self._parse is None else await served.only(self._parse), context)
            # At the end of the answer: in its head it would be sent by itself, for which the answer would wait.
            context.set_trailing_metadata(_server_timing(current_call()))
            served.code = "OK"
            return response


class Served:
    """A call from first to last: identity and admission at once, then its span; status, log and metrics at the end.

    `refused`: why it is not let in; nothing else was begun for it.
    """

    __slots__ = (
        "_bytes", "_context", "_edge", "_ends", "_identity", "_metadata", "_span", "_started", "_streams", "code",
        "refused", "request_id", "trace_id",
    )  # fmt: skip

    def __init__(self, edge: Edge, ends: Ends, context: Context, metadata: Metadata, streams: bool = False) -> None:
        self._edge, self._ends, self._context, self._metadata, self._streams = edge, ends, context, metadata, streams
        self._span: tracing.ServerSpan | None = None
        self._bytes = 0
        self._started = time.perf_counter()
        self.code = "UNKNOWN"
        self.request_id = self.trace_id = ""
        self.refused: Exception | None = None
        edge.under_way.begin()
        try:
            self._admit()
        except PublicError as error:
            # Its traceback refers to this call, which refers to the error: a ring that only a collection frees.
            self.refused = error.with_traceback(None)
        except Exception as error:
            self.refused = error

    def _admit(self) -> None:
        """No more than it takes to refuse: the rest is done when the call is let in."""
        edge = self._edge
        edge.under_way.admit()
        identity = edge.verifier.verify(self._metadata.get(METADATA_KEY))
        remaining = self._context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the deadline passed before the call began")
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        CALLER.set(Caller(identity.subject, deadline))
        if (gate := edge.gates.get(self._ends.method)) is not None:
            gate()
        self._identity = identity

    async def refuse(self) -> None:
        """Ends a call that is not let in."""
        if self.refused is None:
            raise RuntimeError("the call was let in")
        if not isinstance(self.refused, Overloaded):  # these are not told of one by one
            self._read_ids()
        await self._end(self.refused)

    async def __aenter__(self) -> Served:
        if self.refused is not None:
            await self.refuse()
        self._read_ids()
        method = self._ends.method
        self._span = tracing.server_span(method, self._metadata)
        _current.set(Call(method, self._identity, self.request_id, self.trace_id))
        # What came while another call kept the event loop finds that one still here.
        if self._edge.answering.calls == 1 and not self._streams:
            CALLER.set(CALLER.get()._replace(alone=True))
        return self

    def _read_ids(self) -> None:
        metadata = self._metadata
        request_id, trace = metadata.get("x-request-id", ""), _TRACE.fullmatch(metadata.get("traceparent", ""))
        self.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
        self.trace_id = trace[1] if trace else ""

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
