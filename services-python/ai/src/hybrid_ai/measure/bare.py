"""What the engine does alone, on texts that are tokens already: the better of two ways to run it on all cores.

As the service does, a batch on each of its threads; and as onnxruntime does by itself, each batch on all cores.
"""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ai.config import Config
from hybrid_ai.models.embedder import Embedder, Encoding, TextTokenizer


@dataclass(frozen=True)
class Speed:
    """Texts a second, and what a text costs in milliseconds of a core: the latter holds on a busy machine, too."""

    texts_per_second: float
    cpu_ms: float


class Bare:
    """The embedder without a service around it."""

    def __init__(self, settings: Config) -> None:
        own = Embedder(settings.models_dir, engines_own_settings=True)
        self._ways = ((Embedder(settings.models_dir), settings.embed_threads), (own, 1))
        self._tokenizer = TextTokenizer(settings.models_dir)
        self._budget = settings.embed_batch_tokens

    def rate(self, texts: Sequence[str], batch: int, seconds: float) -> Speed:
        """In batches of that many."""
        encodings = self._tokenizer.encode(texts)
        return self._best([encodings[at : at + batch] for at in range(0, len(encodings), batch)], seconds)

    def sorted_rate(self, texts: Sequence[str], seconds: float) -> Speed:
        """In batches of like length, as full as the service's budget of tokens lets them be."""
        batches: list[list[Encoding]] = [[]]
        for encoding in sorted(self._tokenizer.encode(texts), key=lambda encoding: len(encoding.ids)):
            if len(encoding.ids) * (len(batches[-1]) + 1) > self._budget:
                batches.append([])
            batches[-1].append(encoding)
        return self._best(batches, seconds)

    def median_ms(self, text: str, seconds: float) -> float:
        """The median time of one text alone."""
        (encoding,) = self._tokenizer.encode([text])
        return min(_median_ms(embedder, encoding, seconds / 2) for embedder, _ in self._ways)

    def _best(self, batches: Sequence[Sequence[Encoding]], seconds: float) -> Speed:
        speeds = [_speed(embedder, threads, batches, seconds / 2) for embedder, threads in self._ways]
        return max(speeds, key=lambda speed: speed.texts_per_second)


def _median_ms(embedder: Embedder, encoding: Encoding, seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        embedder.embed([encoding])
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[len(times) // 2]


def _speed(embedder: Embedder, threads: int, batches: Sequence[Sequence[Encoding]], seconds: float) -> Speed:
    """All threads take the next batch in turn, so that every batch counts the same."""
    embedder.embed(batches[0])
    turns, done = itertools.cycle(batches), [0] * threads
    started, used = time.perf_counter(), time.process_time()

    def run(number: int) -> None:
        while time.perf_counter() < started + seconds:
            batch = next(turns)  # in one step, as CPython does it
            embedder.embed(batch)
            done[number] += len(batch)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return Speed(sum(done) / (time.perf_counter() - started), (time.process_time() - used) * 1000 / sum(done))
