"""Waiting for room in a model's queue: what a stream does, whose caller sent work that should not be lost half-way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hybrid_ai.errors import Overloaded

T = TypeVar("T")


async def when_there_is_room(work: Callable[[], Awaitable[T]]) -> T:
    """Does the work, again and again while its queue refuses it, and each time as late as the refusal says.

    The call's deadline ends it.
    """
    while True:
        try:
            return await work()
        except Overloaded as error:
            await asyncio.sleep(error.retry_seconds)
