"""The catalogue: real films with their genres and embeddings, listed by how many people like them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid_ai.models.embedder import Vectors
from hybrid_ai.recommend.split import LIKED, Ratings


@dataclass(frozen=True)
class Film:
    """An item of the catalogue. `year` is 0 where it is not known."""

    key: str
    title: str
    year: int
    genres: tuple[str, ...]


class Catalogue:
    """The films that set-up took (setup/datasets.py), by position and by key. Nothing in it changes."""

    def __init__(self, models_dir: Path) -> None:
        rows = json.loads((models_dir / "films.json").read_text())
        self.films = [Film(key, title, year, tuple(genres)) for key, title, year, genres in rows]
        self.positions = {film.key: position for position, film in enumerate(self.films)}
        with np.load(models_dir / "films.npz") as data:
            self.ratings: Ratings = data["ratings"]
            self.vectors = _content(data["vectors"].astype(np.float32), self.films)
        liked = self.ratings[self.ratings[:, 2] >= LIKED, 1]
        self.likes = np.bincount(liked, minlength=len(self.films))
        self._order = np.argsort(-self.likes, kind="stable").tolist()
        self._titles = [film.title.casefold() for film in self.films]
        self.genres = frozenset(genre for film in self.films for genre in film.genres)

    def find(self, query: str, genre: str) -> list[int]:
        """Positions of the films whose title holds every word of the query, in the genre where one is given.

        Most liked first. Takes about a millisecond.
        """
        words = query.casefold().split()
        return [
            position
            for position in self._order
            if all(word in self._titles[position] for word in words)
            and (not genre or genre in self.films[position].genres)
        ]


def _content(texts: Vectors, films: list[Film]) -> Vectors:
    """Unit vectors whose dot product is half the titles' similarity in meaning and half the genres' in common.

    An embedding of both together hears the title most: "Angel and the Badman" would be near to angels, not to Westerns.
    """
    genres = sorted({genre for film in films for genre in film.genres})
    marks = np.array([[genre in film.genres for genre in genres] for film in films], np.float32)
    marks /= np.maximum(np.linalg.norm(marks, axis=1, keepdims=True), 1)
    both = np.concatenate([texts, marks], axis=1)
    unit: Vectors = both / np.linalg.norm(both, axis=1, keepdims=True)
    return unit
