"""Recommendations that know every acknowledged interaction.

One worker thread owns the journal and the likes, so that nothing is locked: of a batch, the interactions are committed
together, then all that the journal has gained counts, and then the questions are answered. Its queue is bounded like
every model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid_ai.recommend.catalogue import Catalogue
from hybrid_ai.recommend.journal import Interaction, Journal, Kind
from hybrid_ai.recommend.likes import Likes
from hybrid_ai.recommend.ranking import Parameters, Ranked, rank
from hybrid_ai.recommend.split import LIKED
from hybrid_ai.serving.work import Work
from hybrid_ai.serving.worker import Limits, Timing, Worker

# How many interactions are read back at start; older ones still count for their own person.
_READ_BACK = 200_000
_LIMITS = Limits(queue=4096, batch_tokens=4096, batch_works=64)
_WEIGHTS = {Kind.CLICK: 1.0, Kind.LIKE: 2.0}


@dataclass(frozen=True)
class ForPerson:
    """Asks what to recommend to a person."""

    person: str
    limit: int


@dataclass(frozen=True)
class ForFilm:
    """Asks what is similar to a film, by position."""

    film: int
    limit: int


@dataclass(frozen=True)
class Answer:
    """What was recommended, from how many films of the person."""

    ranked: list[Ranked]
    based_on: int


_Question = Interaction | ForPerson | ForFilm
_Result = bool | Answer


class Recommender:
    """The catalogue, the journal and the ranking as the service sees them. Safe to call concurrently."""

    def __init__(self, models_dir: Path, data_dir: Path) -> None:
        self.catalogue = Catalogue(models_dir)
        ratings = self.catalogue.ratings
        self._likes = Likes(len(self.catalogue.films), ratings[ratings[:, 2] >= LIKED][:, :2])
        self._parameters = Parameters()
        self._journal = Journal(data_dir)
        self._counted = self._journal.latest(_READ_BACK)
        self._follow()
        self._worker: Worker[_Question, _Result] = Worker("recommend", self._run, _LIMITS, stage="kernel")

    async def record(self, interaction: Interaction) -> bool:
        """Returns whether it is new, once it is durable and counts. Raises Overloaded when too much waits."""
        (new,), _ = await self._worker.submit([interaction], [1])
        return bool(new)

    async def ask(self, question: ForPerson | ForFilm) -> tuple[Answer, Timing]:
        """Answers from everything that was recorded before. Raises Overloaded when too much waits."""
        (answer,), timing = await self._worker.submit([question], [1])
        assert isinstance(answer, Answer)
        return answer, timing

    def close(self) -> None:
        self._worker.close()
        self._journal.close()

    def _run(self, batch: Sequence[Work[_Question, _Result]]) -> Sequence[_Result]:
        asked = [work.payload for work in batch]
        sent = [question for question in asked if isinstance(question, Interaction)]
        new = iter(self._journal.add(sent) if sent else ())
        self._follow()
        return [next(new) if isinstance(question, Interaction) else self._answer(question) for question in asked]

    def _follow(self) -> None:
        """Counts what was recorded since the last time: by this process, or by others that share the journal."""
        for number, interaction in self._journal.after(self._counted):
            self._count(interaction)
            self._counted = number

    def _count(self, interaction: Interaction) -> None:
        film = self.catalogue.positions.get(interaction.item)
        if film is None:  # recorded with another catalogue
            return
        if interaction.kind is Kind.DISMISS:
            self._likes.remove(interaction.person, film)
        else:
            self._likes.add(interaction.person, film)

    def _answer(self, question: ForPerson | ForFilm) -> Answer:
        if isinstance(question, ForFilm):
            profile, known = [(question.film, 1.0)], {question.film}
        else:
            profile, known = self._profile(question.person)
        ranked = rank(self._likes, self.catalogue.vectors, profile, known, question.limit, self._parameters)
        return Answer(ranked, min(len(profile), self._parameters.latest))

    def _profile(self, person: str) -> tuple[list[tuple[int, float]], set[int]]:
        """The films that a person clicked or likes, with weights, oldest first; and all that they had to do with."""
        weights: dict[int, float] = {}
        known: set[int] = set()
        for item, kind in self._journal.of(person):
            film = self.catalogue.positions.get(item)
            if film is None:
                continue
            known.add(film)
            before = weights.pop(film, 0.0)  # popped, so that it becomes the latest
            if kind is not Kind.DISMISS:
                weights[film] = max(before, _WEIGHTS[kind])
        return list(weights.items()), known
