"""The calls under way: how many there are, what their requests hold, and the bounds of both."""

import asyncio

from hybrid_ai.errors import Overloaded

# What all calls together may hold: so many may be under way, with so many bytes of requests. A stream's messages do not
# count: it holds one at a time.
MOST_CALLS = 8192
MOST_BYTES = 64 * 1024 * 1024
_RETRY_SECONDS = 1.0


class UnderWay:
    """Counts calls from their first moment to their last; health checks and reflection are not among them."""

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Returns when there is none."""
        await self._idle.wait()

    def begin(self) -> None:
        self.calls += 1
        self._idle.clear()

    def end(self, size: int) -> None:
        """A call ended whose request held so many bytes."""
        self.calls -= 1
        self.bytes -= size
        if self.calls == 0:
            self._idle.set()

    def admit(self) -> None:
        """Raises Overloaded for a call that began and is one too many."""
        if self.calls > MOST_CALLS:
            raise Overloaded("too many calls are under way", _RETRY_SECONDS, "QUEUE_FULL")

    def hold(self, size: int) -> None:
        """A request was read that holds so many bytes. Raises Overloaded where all together would hold too many."""
        if self.bytes + size > MOST_BYTES:
            raise Overloaded("the requests under way hold too many bytes", _RETRY_SECONDS, "QUEUE_FULL")
        self.bytes += size
