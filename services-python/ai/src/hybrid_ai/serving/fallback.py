"""Several generators in order of preference: the first that begins to write does it."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from hybrid_ai.errors import Overloaded, Unavailable
from hybrid_ai.models.language_model import Generation, Usage
from hybrid_ai.serving.generation import Generator

_LOG = logging.getLogger("hybrid_ai.generation")


@dataclass(frozen=True)
class Begun:
    """A generation that has begun: its pieces, who writes, and whether the model here stands in. To be closed."""

    writer: Generator
    fallback: bool
    first: str | Usage | None
    rest: AsyncGenerator[str | Usage, None]

    async def __aiter__(self) -> AsyncIterator[str | Usage]:
        if self.first is not None:
            yield self.first
        async for piece in self.rest:
            yield piece

    async def aclose(self) -> None:
        await self.rest.aclose()


async def begin(writers: Sequence[Generator], request: Generation) -> Begun:
    """Waits for the first piece of the first writer that is available. Raises what the last one raises.

    An overloaded writer is not available, too. One that refuses the request is not passed over: the caller has to know.
    """
    for position, writer in enumerate(writers):
        stream = writer.generate(request)
        try:
            first = await anext(stream, None)
        except (Overloaded, Unavailable) as error:
            await stream.aclose()
            if position + 1 == len(writers):
                raise
            _LOG.warning("a generator is not available", extra={"model": writer.model, "reason": error.message})
        except BaseException:
            await stream.aclose()
            raise
        else:
            return Begun(writer, position > 0 and writer.notice != "", first, stream)
    raise AssertionError("there is at least one writer")
