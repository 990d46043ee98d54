"""Generation for the services: a stream of text from the model here, or from an OpenAI-compatible upstream.

Both are used the same way: `async for` over pieces of text, then one Usage. Closing the stream stops the generation.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol

from hybrid_ai import telemetry
from hybrid_ai.errors import InvalidArgument, Unavailable
from hybrid_ai.models.language_model import (
    MODEL_NAME,
    NOTICE,
    Generation,
    GenerationFailed,
    LanguageModel,
    PromptTooLong,
    Usage,
)
from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Limits, Worker


class Generator(Protocol):
    """Something that writes text."""

    model: str
    notice: str

    def generate(self, request: Generation) -> AsyncGenerator[str | Usage, None]:
        """Streams the text in pieces, then how it ended."""
        ...


class LocalGenerator:
    """The model here, behind the same kind of queue as the embedder; one generation at a time."""

    model = MODEL_NAME
    notice = NOTICE

    def __init__(self, models_dir: Path, threads: int, context: int, queue: int) -> None:
        self._arguments = (models_dir, threads, context)
        self._loaded: LanguageModel | None = None
        self._loading = threading.Lock()
        limits = Limits(queue, batch_tokens=1, batch_works=1)
        self._worker: Worker[Generation, Usage | None] = Worker("chat", self._run, limits, stage="tokens")

    async def generate(self, request: Generation) -> AsyncGenerator[str | Usage, None]:
        """Raises Overloaded when too many wait, InvalidArgument when the prompt is too long."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        work = asyncio.ensure_future(self._worker.submit([request], [1], pieces.put_nowait))
        work.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            (usage,), _ = await work
        except PromptTooLong as error:
            raise InvalidArgument([("messages", f"have {error}")]) from None
        except GenerationFailed:
            raise Unavailable("the language model failed") from None
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work
        if usage is not None:
            yield usage

    async def load(self) -> None:
        """Loads the model now instead of at its first use."""
        await asyncio.to_thread(self._model)

    def close(self) -> None:
        self._worker.close()
        if self._loaded is not None:
            self._loaded.close()

    def _model(self) -> LanguageModel:
        with self._loading:
            if self._loaded is None:
                self._loaded = LanguageModel(*self._arguments)
            return self._loaded

    def _run(self, batch: Sequence[Work[Generation, Usage | None]]) -> Sequence[Usage | None]:
        (work,) = batch
        model = self._model()
        telemetry.GENERATIONS_ACTIVE.inc()
        started = time.perf_counter()
        try:
            usage = model.generate(work.payload, work.emit, lambda: work.cancelled)
        finally:
            telemetry.GENERATIONS_ACTIVE.dec()
        if usage is not None:
            telemetry.TOKENS.labels(MODEL_NAME, "read").inc(usage.prompt_tokens)
            telemetry.TOKENS.labels(MODEL_NAME, "written").inc(usage.completion_tokens)
            telemetry.TOKENS_PER_SECOND.labels(MODEL_NAME).set(
                usage.completion_tokens / (time.perf_counter() - started)
            )
        return [usage]
