"""Moderation for the services: the toxicity model behind its queue. Interactive always, since people wait for it."""

from collections.abc import Sequence

from hybrid_ai.models.toxicity import ToxicityModel
from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Limits, Timing, Worker

_CHARACTERS_PER_COST = 64
# What one batch may hold: about 5 ms of work, so that a short text never waits longer than that for the one before.
_LIMITS = Limits(queue=8192, batch_tokens=1024, batch_works=32)


class ModerationModel:
    """Scores texts, each from 0 to 1."""

    def __init__(self, model: ToxicityModel) -> None:
        self._model = model
        self._worker: Worker[str, float] = Worker("moderate", self._run, _LIMITS, stage="kernel")

    def admit(self) -> None:
        """Raises Overloaded where even one text would be refused."""
        self._worker.admit(1)

    async def score(self, texts: Sequence[str]) -> tuple[list[float], Timing]:
        """Raises Overloaded when too much waits."""
        return await self._worker.submit(texts, [1 + len(text) // _CHARACTERS_PER_COST for text in texts])

    def close(self) -> None:
        self._worker.close()

    def _run(self, batch: Sequence[Work[str, float]]) -> Sequence[float]:
        return [self._model.score(work.payload) for work in batch]
