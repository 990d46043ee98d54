"""Waiting for room in a queue, where a caller would rather wait than be refused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hybrid_ai.errors import Overloaded

T = TypeVar("T")


async def when_there_is_room(work: Callable[[], Awaitable[T]]) -> T:
    """Tries again, as late as each refusal asks for, until the work is let in. A call's deadline ends it."""
    while True:
        try:
            return await work()
        except Overloaded as error:
            await asyncio.sleep(error.retry_seconds)
