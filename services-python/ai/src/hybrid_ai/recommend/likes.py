"""Who likes which films, and from that which films are liked together. Every change counts from the next question on.

Films are as similar as their likes overlap (item-based collaborative filtering, Sarwar et al. 2001): cosine with
shrinkage, each person weighted by 1/√(their likes), so that who likes everything says little. Not thread-safe.
"""

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# Of a film that more people like, the latest ones' likes are looked at.
MOST_PEOPLE = 500
# People beyond this many are forgotten here, those first who have been quiet for longest.
MOST_KNOWN = 50_000


class Likes:
    """The likes of a history that does not change, and of people who come and go. Films are positions."""

    def __init__(self, films: int, history: NDArray[np.int64], most_known: int = MOST_KNOWN) -> None:
        self._count = films
        self._most_known = most_known
        self._films: dict[Any, NDArray[np.int32]] = {}
        self._live: OrderedDict[str, None] = OrderedDict()
        self._people: list[dict[Any, None]] = [{} for _ in range(films)]
        self.popularity: Numbers = np.zeros(films)  # likes, weighted by person
        for person in np.unique(history[:, 0]).tolist():
            self._set(person, history[history[:, 0] == person, 1].astype(np.int32))

    def add(self, person: str, film: int) -> None:
        """A person likes a film."""
        films = self._films.get(person, np.empty(0, np.int32))
        if film not in films:
            self._set(person, np.append(films, np.int32(film)))
        self._live[person] = None
        self._live.move_to_end(person)
        if len(self._live) > self._most_known:
            quiet, _ = self._live.popitem(last=False)
            self._set(quiet, np.empty(0, np.int32))

    def remove(self, person: str, film: int) -> None:
        """A person does not like a film, or no longer."""
        films = self._films.get(person, np.empty(0, np.int32))
        if film in films:
            self._set(person, films[films != film])

    def similar(self, film: int, shrinkage: float) -> Numbers:
        """The similarity of every film to this one, (films,), from 0 to 1."""
        people = list(self._people[film])[-MOST_PEOPLE:]
        if not people:
            return np.zeros(self._count)
        lists = [self._films[person] for person in people]
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        weights = np.repeat(1 / np.sqrt(lengths), lengths)
        together = np.bincount(np.concatenate(lists), weights, minlength=self._count)
        similarity: Numbers = together / (np.sqrt(self.popularity * self.popularity[film]) + shrinkage)
        return similarity

    def _set(self, person: Any, films: NDArray[np.int32]) -> None:
        """Replaces all that a person likes."""
        before = self._films.pop(person, np.empty(0, np.int32))
        for film in before.tolist():
            del self._people[film][person]
        if before.size:
            self.popularity[before] -= 1 / np.sqrt(before.size)
        if films.size:
            self._films[person] = films
            self.popularity[films] += 1 / np.sqrt(films.size)
        for film in films.tolist():
            self._people[film][person] = None
        if before.size:
            np.maximum(self.popularity, 0, out=self.popularity)  # what rounding leaves
