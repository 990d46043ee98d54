"""Embeddings for every part of the service: tokens first, then batches on the model's worker."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hybrid_ai import telemetry
from hybrid_ai.models.embedder import MODEL_NAME, WINDOW, Embedder, Encoding, TextTokenizer, Vectors
from hybrid_ai.serving.caller import Priority
from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Alone, Limits, Timing, Worker

# Up to this many characters are tokenized on the event loop: about 0.1 ms, less than a thread's hop costs under load.
_INLINE_CHARACTERS = 1024
# More texts than this at once are bulk work, unless the caller says otherwise.
_INTERACTIVE_TEXTS = 16
# A single text of up to so many tokens is embedded on the event loop where nobody else wants the model: 2 to 4 ms.
_ALONE_TOKENS = 16
# How far the model gives way to the event loop, where both want the same core.
_NICENESS = 9


@dataclass(frozen=True)
class Embedded:
    """Vectors (n, 384), how each text was read, and where the time went."""

    vectors: Vectors
    encodings: Sequence[Encoding]
    timing: Timing


class EmbeddingModel:
    """The embedder behind its queue."""

    def __init__(self, embedder: Embedder, tokenizer: TextTokenizer, limits: Limits, threads: int) -> None:
        """`threads` run batches of their own at the same time."""
        self.tokenizer = tokenizer
        self._embedder = embedder
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._tokens = telemetry.TOKENS.labels(MODEL_NAME, "read")
        self._tokens_per_second = telemetry.TOKENS_PER_SECOND.labels(MODEL_NAME)
        self._worker: Worker[Encoding, Vectors] = Worker(
            "embed",
            self._run,
            limits,
            stage="kernel",
            threads=threads,
            niceness=_NICENESS,
            alone=Alone(_ALONE_TOKENS, self._run_alone),
        )

    def admit(self) -> None:
        """Raises Overloaded where even one text would be refused."""
        self._worker.admit(1)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embeds the texts. Raises Overloaded when too much waits."""
        priority = Priority.INTERACTIVE if len(texts) <= _INTERACTIVE_TEXTS else Priority.BULK
        if len(texts) > 1:  # for one it was asked at the edge, and is again when it is queued
            self._worker.admit(len(texts), priority)
        encodings = await self.encode(texts)
        costs = [len(encoding.ids) for encoding in encodings]
        rows, timing = await self._worker.submit(encodings, costs, priority=priority)
        vectors = rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)
        return Embedded(vectors, encodings, timing)

    async def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenizes; long texts in a thread."""
        if sum(map(len, texts)) <= _INLINE_CHARACTERS:
            return self.tokenizer.encode(texts)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.tokenizer.encode, texts)

    async def warm_up(self) -> None:
        """Runs the model once at its shortest and longest, so that the first call finds it ready."""
        embedded = await self.embed(["ready", "ready " * WINDOW])
        self._run_alone(embedded.encodings[0])

    def close(self) -> None:
        self._worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, batch: Sequence[Work[Encoding, Vectors]]) -> Sequence[Vectors]:
        encodings = [work.payload for work in batch]
        started = time.perf_counter()
        vectors = list(self._embedder.embed(encodings))
        self._count(sum(len(encoding.ids) for encoding in encodings), started)
        return vectors

    def _run_alone(self, encoding: Encoding) -> Vectors:
        started = time.perf_counter()
        vector = self._embedder.embed_alone(encoding)
        self._count(len(encoding.ids), started)
        return vector

    def _count(self, tokens: int, started: float) -> None:
        self._tokens.inc(tokens)
        self._tokens_per_second.set(tokens / (time.perf_counter() - started))
