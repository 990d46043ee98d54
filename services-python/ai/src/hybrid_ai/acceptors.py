"""Takes calls from gRPC faster than grpc.aio does by itself: several at once, and without leaving garbage behind.

By itself it takes one call, then asks for the next on its event loop's next turn, so that a flood waits in line to be
refused. What happens to a call that was taken is grpc.aio's own code. This reaches into the private parts of grpcio,
whose version is pinned: where they are not there, calls are taken as grpc.aio does it.
"""

import asyncio
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc's stubs leave it out

# How many calls of a method may be taken on one turn of the event loop: more gain nothing.
_AT_ONCE = 16
_PARTS = ("_find_method_handler", "_handle_rpc", "_HandlerCallDetails", "_MethodResolver", "_schedule_rpc_coro")
AVAILABLE = all(hasattr(cygrpc, part) for part in _PARTS) and hasattr(cygrpc.AioServer, "_request_registered_call")


class Acceptors:
    """Takes the calls of some methods of a server. Services are added to it; `start` comes after the server's.

    For each call of any method gRPC looks at every registered one (asyncio.wait over as many futures). So these methods
    alone are registered, and `apart`: methods whose calls are to wait behind no others.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        methods: Collection[str],
        apart: Collection[str] = (),
    ) -> None:
        self._server = server
        self._interceptors = tuple(interceptors)
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
            resolver = cygrpc._MethodResolver([], self._handlers)
            for method in self._methods:
                for _ in range(_AT_ONCE):
                    self._keep(self._accept(method, resolver))

    async def _accept(self, method: str, resolver: Any) -> None:
        server: Any = self._server._server  # type: ignore[attr-defined]
        loop, name = asyncio.get_running_loop(), method.encode()
        while server.is_running():
            try:
                state = await server._request_registered_call(name)
            except cygrpc._RequestCallError:
                continue
            call = cygrpc._handle_rpc(method, resolver, self._interceptors, state, loop, False)
            self._keep(cygrpc._schedule_rpc_coro(call, state, loop, method))

    def _keep(self, coroutine: Any) -> None:
        """Runs it, and refers to it meanwhile, which an event loop does not."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def _find_method_handler(method: str, metadata: Any, resolver: Any, interceptors: Sequence[Any]) -> Any:
    """As grpc.aio finds it. Its own function leaves a ring of five objects for the garbage collector, for each call."""
    return await _ask(interceptors, resolver, cygrpc._HandlerCallDetails(method, metadata))


async def _ask(interceptors: Sequence[Any], resolver: Any, details: Any) -> Any:
    if not interceptors:
        return resolver.resolve_handler(details)
    return await interceptors[0].intercept_service(functools.partial(_ask, interceptors[1:], resolver), details)
