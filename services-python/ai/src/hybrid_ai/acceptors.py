"""Takes calls from gRPC faster than grpc.aio does by itself: several at once, and without leaving garbage behind.

By itself it takes one call, then asks for the next on its event loop's next turn, so that a flood waits in line to be
refused; and it makes two tasks for each and awaits its end before anybody has looked at it. Here a call is looked at
first: what is refused takes one task, and is over when its answer is written. What happens to a call that was let in is
grpc.aio's own code. This reaches into the private parts of grpcio, whose version is pinned: where they are not there,
calls are taken as grpc.aio does it.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc's stubs leave it out

# How many calls of a method may be taken on one turn of the event loop: more gain nothing.
_AT_ONCE = 16
_PARTS = (
    "_find_method_handler", "_finish_handler_with_unary_response", "_HandlerCallDetails", "_schedule_rpc_coro",
    "_RequestCallError", "_ServicerContext", "ExecuteBatchError",
)  # fmt: skip
AVAILABLE = all(hasattr(cygrpc, part) for part in _PARTS) and hasattr(cygrpc.AioServer, "_request_registered_call")


class Arrived(Protocol):
    """A call that was looked at. `refused` says why it is not let in, and `refuse` tells its caller."""

    refused: Exception | None

    async def refuse(self) -> None: ...


class Method(Protocol):
    """A method with one request and one answer, which `serializer` turns into bytes.

    `answering` is entered before `answer`, and left when the answer is written.
    """

    serializer: Any

    @property
    def answering(self) -> AbstractContextManager[None]: ...

    def arrive(self, context: Any) -> Any:
        """Looks at a call, in no time; returns an `Arrived`."""

    async def answer(self, arrived: Any, context: Any) -> Any: ...


class Acceptors:
    """Takes the calls of some methods of a server. Services are added to it; `start` comes after the server's.

    For each call of any method gRPC looks at every registered one (asyncio.wait over as many futures). So these methods
    alone are registered, and `apart`: methods whose calls are to wait behind no others. `served` says how a method is
    served of which gRPC has the handler; it does what the server's interceptors do to the others.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        served: Callable[[str, Any], Method],
        methods: Collection[str],
        apart: Collection[str] = (),
    ) -> None:
        self._server = server
        self._served = served
        self._methods, self._registered = methods, {*methods, *apart}
        self._handlers: dict[str, Any] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Leaves the others to the generic handlers, which have all of them."""
        chosen = {name: one for name, one in handlers.items() if f"/{service}/{name}" in self._registered}
        if chosen:
            self._server.add_registered_method_handlers(service, chosen)
        self._handlers |= {f"/{service}/{name}": one for name, one in chosen.items()}

    def start(self) -> None:
        """They end with the server."""
        if AVAILABLE:
            cygrpc._find_method_handler = _find_method_handler
            for method in self._methods:
                served = self._served(method, self._handlers[method])
                for _ in range(_AT_ONCE):
                    self._keep(self._accept(method, served))

    async def _accept(self, name: str, method: Method) -> None:
        server: Any = self._server._server  # type: ignore[attr-defined]
        loop, key = asyncio.get_running_loop(), name.encode()
        while server.is_running():
            try:
                state = await server._request_registered_call(key)
            except cygrpc._RequestCallError:
                continue
            context = cygrpc._ServicerContext(state, None, None, loop)
            arrived: Arrived = method.arrive(context)
            if arrived.refused is None:
                coroutine = cygrpc._schedule_rpc_coro(_answer(method, arrived, state, context), state, loop, name)
            else:
                coroutine = _refuse(arrived)
            self._keep(coroutine)
            del state, context, arrived, coroutine  # while the next one is awaited

    def _keep(self, coroutine: Any) -> None:
        """Runs it, and refers to it meanwhile, which an event loop does not."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def _answer(method: Method, arrived: Arrived, state: Any, context: Any) -> None:
    loop = asyncio.get_running_loop()
    with method.answering:
        await cygrpc._finish_handler_with_unary_response(
            state, method.answer, arrived, context, method.serializer, loop
        )


async def _refuse(arrived: Arrived) -> None:
    # gRPC ends every call that it aborted by such an error; where the caller is gone already, nothing can be sent.
    with contextlib.suppress(grpc.aio.AbortError, cygrpc.ExecuteBatchError):
        await arrived.refuse()


async def _find_method_handler(method: str, metadata: Any, resolver: Any, interceptors: Sequence[Any]) -> Any:
    """As grpc.aio finds it. Its own function leaves a ring of five objects for the garbage collector, for each call."""
    return await _ask(interceptors, resolver, cygrpc._HandlerCallDetails(method, metadata))


async def _ask(interceptors: Sequence[Any], resolver: Any, details: Any) -> Any:
    if not interceptors:
        return resolver.resolve_handler(details)
    return await interceptors[0].intercept_service(functools.partial(_ask, interceptors[1:], resolver), details)
