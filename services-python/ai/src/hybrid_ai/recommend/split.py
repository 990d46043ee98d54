"""The fixed split of the ratings that recommendations are tuned and measured with; it holds no tuned number.

A rating of 4 stars or more is a like. Of everybody with at least 20 likes, the 10 latest are held out, and all other
likes are the history. By a hash of the person's number, half of these people choose the parameters (validation), and
the other half is only ever reported on (test).
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIKED = 8  # stars, doubled
ENOUGH, HELD_OUT = 20, 10

Ratings = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One person: what the recommender knows (positions of films, oldest first), and what it should find."""

    person: int
    known: list[int]
    held_out: list[int]


@dataclass(frozen=True)
class Split:
    """The likes that are history, as (person, film) rows, and the people of each half."""

    history: NDArray[np.int64]
    validation: list[Case]
    test: list[Case]

    def summary(self) -> dict[str, Any]:
        """What identifies the split: sizes, and a hash over every case."""
        digest = hashlib.sha256()
        for case in (*self.validation, *self.test):
            digest.update(f"{case.person}:{case.known}:{case.held_out}\n".encode())
        return {
            "likes_in_history": len(self.history),
            "validation_people": len(self.validation),
            "test_people": len(self.test),
            "sha256": digest.hexdigest(),
        }


def split(ratings: Ratings) -> Split:
    """Splits rows of (person, film, stars doubled, time)."""
    likes = ratings[ratings[:, 2] >= LIKED]
    likes = likes[np.lexsort((likes[:, 1], likes[:, 3], likes[:, 0]))]
    history: list[tuple[int, int]] = []
    halves: tuple[list[Case], list[Case]] = ([], [])
    for person in np.unique(likes[:, 0]).tolist():
        films = likes[likes[:, 0] == person, 1].tolist()
        known = films
        if len(films) >= ENOUGH:
            known = films[:-HELD_OUT]
            halves[_half(person)].append(Case(person, known, films[-HELD_OUT:]))
        history += [(person, film) for film in known]
    return Split(np.array(history, np.int64), *halves)


def _half(person: int) -> int:
    return hashlib.sha256(f"person {person}".encode()).digest()[0] % 2
