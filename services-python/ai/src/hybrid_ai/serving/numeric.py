"""Numeric work of more than a millisecond, one piece after the other on a thread of its own, behind a bounded queue."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Limits, Timing, Worker

T = TypeVar("T")
Job = Callable[[], Any]


class NumericWorker:
    """Runs functions off the event loop. Callers take turns, and who went away before their turn costs nothing."""

    def __init__(self, name: str, queue: int) -> None:
        limits = Limits(queue=queue, batch_tokens=1, batch_works=1)
        self._worker: Worker[Job, Any] = Worker(name, self._run, limits, stage="kernel")

    async def run(self, job: Callable[[], T]) -> tuple[T, Timing]:
        """Raises what the job raises, and Overloaded when too much waits."""
        (result,), timing = await self._worker.submit([job], [1])
        return result, timing

    def close(self) -> None:
        self._worker.close()

    def _run(self, batch: Sequence[Work[Job, Any]]) -> Sequence[Any]:
        return [work.payload() for work in batch]
