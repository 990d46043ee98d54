"""What waits for a model, in a fair order. Not synchronised: the worker holds its lock around every call.

- Interactive work goes first; while bulk work waits, every fourth batch begins with it, so it is never starved.
- Callers take turns, work by work, whoever has queued more. A batch holds works of one class of length.
- A full queue refuses, unless the newcomer's caller has fewer works in it than another one (or is interactive where
  bulk waits): then the latest job of the greediest that has not begun makes room. One caller never shuts out others.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic

from hybrid_ai.serving.caller import Priority
from hybrid_ai.serving.work import Job, P, R, Work

_BULK_TURN = 4


@dataclass(frozen=True)
class Limits:
    """How much may wait (works), and how much one batch may hold (padded tokens, works)."""

    queue: int
    batch_tokens: int
    batch_works: int


@dataclass
class _Line(Generic[P, R]):
    """One caller's jobs of one priority, in order; the same jobs by class of length."""

    jobs: OrderedDict[Job[P, R], None] = field(default_factory=OrderedDict)
    classes: dict[int, OrderedDict[Job[P, R], None]] = field(default_factory=dict)
    works: int = 0


class FairQueue(Generic[P, R]):
    """The jobs that wait, by priority and caller."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[Priority, OrderedDict[str, _Line[P, R]]] = {level: OrderedDict() for level in Priority}
        self._works = dict.fromkeys(Priority, 0)
        self._costs = dict.fromkeys(Priority, 0)
        self._since_bulk = 0

    @property
    def waiting(self) -> int:
        """How many works wait."""
        return self._works[Priority.INTERACTIVE] + self._works[Priority.BULK]

    def cost_before(self, priority: Priority) -> int:
        """The tokens that wait before a newcomer of this priority, at most."""
        interactive = self._costs[Priority.INTERACTIVE]
        return interactive if priority is Priority.INTERACTIVE else interactive + self._costs[Priority.BULK]

    def has_room(self, size: int) -> bool:
        return self.waiting + size <= self._limits.queue

    def add(self, job: Job[P, R]) -> None:
        line = self._lines[job.priority].setdefault(job.caller.subject, _Line())
        line.jobs[job] = None
        for limit in job.classes:
            line.classes.setdefault(limit, OrderedDict())[job] = None
        line.works += job.waiting
        self._costs[job.priority] += job.cost
        self._works[job.priority] += job.waiting

    def remove(self, job: Job[P, R]) -> int:
        """Takes what still waits of the job out; returns how many works that were."""
        lines = self._lines[job.priority]
        line = lines.get(job.caller.subject)
        if line is None or job not in line.jobs:
            return 0
        del line.jobs[job]
        for limit in job.classes:
            self._leave_class(line, limit, job)
        dropped = job.waiting
        line.works -= dropped
        self._works[job.priority] -= dropped
        self._costs[job.priority] -= job.cost
        job.waiting = job.cost = 0
        job.classes.clear()
        if not line.jobs:
            del lines[job.caller.subject]
        return dropped

    def clear(self) -> list[Job[P, R]]:
        """Takes everything out."""
        jobs = [job for lines in self._lines.values() for line in lines.values() for job in line.jobs]
        for job in jobs:
            self.remove(job)
        return jobs

    def victim(self, subject: str, priority: Priority, size: int) -> Job[P, R] | None:
        """The job that should make room for a newcomer; None where the newcomer is to be refused."""
        if size > self._limits.queue:
            return None
        if priority is Priority.INTERACTIVE and (job := self._greediest(Priority.BULK, 0)):
            return job
        own = self._lines[priority].get(subject)
        return self._greediest(priority, (own.works if own else 0) + size)

    def take(self, most: int) -> tuple[list[Work[P, R]], list[Job[P, R]]]:
        """The next batch, of `most` works at most, and the jobs that were dropped because their deadline has passed."""
        expired: list[Job[P, R]] = []
        batch: list[Work[P, R]] = []
        while not batch and self.waiting:
            first, second = self._order()
            limit = self._first_class(first)
            room = max(1, min(most, self._limits.batch_works, self._limits.batch_tokens // limit))
            for priority in (first, second):
                self._fill(priority, limit, room, batch, expired)
        return batch, expired

    def _order(self) -> tuple[Priority, Priority]:
        interactive, bulk = self._lines[Priority.INTERACTIVE], self._lines[Priority.BULK]
        if not bulk or (interactive and self._since_bulk < _BULK_TURN - 1):
            self._since_bulk += bool(bulk)
            return Priority.INTERACTIVE, Priority.BULK
        self._since_bulk = 0
        return Priority.BULK, Priority.INTERACTIVE

    def _first_class(self, priority: Priority) -> int:
        """The length class of the oldest job of the caller whose turn it is."""
        line = next(iter(self._lines[priority].values()))
        return next(iter(next(iter(line.jobs)).classes))

    def _fill(
        self, priority: Priority, limit: int, room: int, batch: list[Work[P, R]], expired: list[Job[P, R]]
    ) -> None:
        """Adds works of the class, one of each caller in turn; whoever was served goes to the end of the line."""
        lines = self._lines[priority]
        turn = True
        while turn and len(batch) < room:
            turn = False
            for subject in list(lines):
                line = lines[subject]
                if (job := self._live(line, limit, expired)) is not None:
                    batch.append(self._take_work(line, job, limit))
                    turn = True
                    lines.move_to_end(subject)
                if not line.jobs:
                    lines.pop(subject, None)
                if len(batch) == room:
                    return

    def _live(self, line: _Line[P, R], limit: int, expired: list[Job[P, R]]) -> Job[P, R] | None:
        """The caller's next job with a work of that class; those that are too late are dropped on the way."""
        while jobs := line.classes.get(limit):
            job = next(iter(jobs))
            if not job.expired:
                return job
            expired.append(job)
            self.remove(job)
        return None

    def _take_work(self, line: _Line[P, R], job: Job[P, R], limit: int) -> Work[P, R]:
        work = job.take(limit)
        line.works -= 1
        self._works[job.priority] -= 1
        self._costs[job.priority] -= work.cost
        if limit not in job.classes:
            self._leave_class(line, limit, job)
        else:
            line.classes[limit].move_to_end(job)
        if not job.waiting:
            del line.jobs[job]
        else:
            line.jobs.move_to_end(job)
        return work

    @staticmethod
    def _leave_class(line: _Line[P, R], limit: int, job: Job[P, R]) -> None:
        del line.classes[limit][job]
        if not line.classes[limit]:
            del line.classes[limit]

    def _greediest(self, priority: Priority, than: int) -> Job[P, R] | None:
        """The latest job that has not begun of the caller with the most works, if those are more than `than`."""
        lines = self._lines[priority].values()
        if self._works[priority] <= len(lines) * than:  # on average nobody has more: looking at all would cost time
            return None
        line = max(lines, key=lambda line: line.works)
        if line.works <= than:
            return None
        return next((job for job in reversed(line.jobs) if job.waiting == job.size), None)
