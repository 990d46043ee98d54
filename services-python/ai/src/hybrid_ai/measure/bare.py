"""What the engine does alone: onnxruntime with the service's model and threads, on texts that are tokens already."""

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
        self._embedder = Embedder(settings.models_dir, settings.embed_threads)
        self._tokenizer = TextTokenizer(settings.models_dir)
        self._budget = settings.embed_batch_tokens

    def rate(self, texts: Sequence[str], batch: int, seconds: float) -> Speed:
        """In batches of that many."""
        encodings = self._tokenizer.encode(texts)
        return self._run([encodings[at : at + batch] for at in range(0, len(encodings), batch)], seconds)

    def sorted_rate(self, texts: Sequence[str], seconds: float) -> Speed:
        """In batches of like length, as full as the service's budget of tokens lets them be."""
        batches: list[list[Encoding]] = [[]]
        for encoding in sorted(self._tokenizer.encode(texts), key=lambda encoding: len(encoding.ids)):
            if len(encoding.ids) * (len(batches[-1]) + 1) > self._budget:
                batches.append([])
            batches[-1].append(encoding)
        return self._run(batches, seconds)

    def median_ms(self, text: str, seconds: float) -> float:
        """The median time of one text alone."""
        (encoding,) = self._tokenizer.encode([text])
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            started = time.perf_counter()
            self._embedder.embed([encoding])
            times.append((time.perf_counter() - started) * 1000)
        return sorted(times)[len(times) // 2]

    def _run(self, batches: Sequence[Sequence[Encoding]], seconds: float) -> Speed:
        self._embedder.embed(batches[0])
        done, started, used = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() < started + seconds:  # whole rounds, so that every batch counts the same
            for batch in batches:
                self._embedder.embed(batch)
                done += len(batch)
        return Speed(done / (time.perf_counter() - started), (time.process_time() - used) * 1000 / done)
