"""Streams of requests of which each is answered, in order, while more of them may still come."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def answer_each(
    requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[A]], at_once: int
) -> AsyncGenerator[A, None]:
    """Works on up to `at_once` requests together, begun in their order; an answer waits for none but those before it.

    Requests are read by a task of their own: a caller may await an answer before it sends more. The first that fails
    ends the stream, and what is under way then is cancelled. To be closed.
    """
    begun: asyncio.Queue[asyncio.Future[A] | None] = asyncio.Queue()
    room = asyncio.Semaphore(at_once)

    async def read() -> None:
        try:
            async for request in requests:
                await room.acquire()
                begun.put_nowait(asyncio.ensure_future(answer(request)))
        finally:
            begun.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await begun.get()) is not None:
            yield await task
            room.release()
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        left = [task for task in (begun.get_nowait() for _ in range(begun.qsize())) if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
