"""Ranks films for a person, from what they did: collaborative similarity, content, and a prior of popularity.

Three parts are added for each film: how it is liked together with what the person did, lately most of all; how near its
embedding is to those films'; and how popular it is, which decides alone where nothing else is known.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_ai.models.embedder import Vectors
from hybrid_ai.recommend.likes import Likes, Numbers


@dataclass(frozen=True)
class Parameters:
    """What was chosen on the validation half of the split (recommend/split.py), never on the test half."""

    shrinkage: float = 1.0
    half_life: float = 3.0  # a film counts half as much as one that came this many later
    latest: int = 10  # films of a person that are looked at
    content: float = 0.2
    popularity: float = 0.01


@dataclass(frozen=True)
class Ranked:
    """A film by position. `because` is the film of the person's that speaks most for it; none where only popularity."""

    film: int
    score: float
    because: int | None
    content: float  # the part of the score that the embeddings gave, from 0 to 1


def rank(
    likes: Likes,
    vectors: Vectors,
    profile: Sequence[tuple[int, float]],
    left_out: Collection[int],
    limit: int,
    parameters: Parameters,
) -> list[Ranked]:
    """The best films, best first. `profile` holds films with weights, oldest first.

    Takes a few milliseconds for 9,066 films, so it never runs on the event loop.
    """
    popularity = likes.popularity / max(float(likes.popularity.max()), 1e-9)
    latest = profile[-parameters.latest :]
    if not latest:
        return [Ranked(film, score, None, 0.0) for film, score in _best(popularity, left_out, limit)]
    ages = np.arange(len(latest))[::-1]
    weights = np.array([weight for _, weight in latest]) * 0.5 ** (ages / parameters.half_life)
    weights /= weights.sum()
    films = [film for film, _ in latest]
    together = np.stack([likes.similar(film, parameters.shrinkage) for film in films]) * weights[:, None]
    own = vectors[films] * (parameters.content * weights)[:, None].astype(np.float32)
    score = together.sum(axis=0) + vectors @ own.sum(axis=0) + parameters.popularity * popularity
    return [
        _explain(film, value, films, together[:, film], own @ vectors[film])
        for film, value in _best(score, left_out, limit)
    ]


def _explain(film: int, score: float, films: Sequence[int], together: Numbers, near: Numbers) -> Ranked:
    """Says which of the person's films speaks most for this one, and how much of that is content."""
    parts = together + near
    content = float(near.sum() / parts.sum()) if parts.sum() > 0 else 0.0
    return Ranked(film, score, films[int(parts.argmax())], min(1.0, max(0.0, content)))


def _best(score: Numbers, left_out: Collection[int], limit: int) -> list[tuple[int, float]]:
    wanted = min(len(score), limit + len(left_out))
    first = np.argpartition(-score, wanted - 1)[:wanted]
    ordered = first[np.lexsort((first, -score[first]))]
    kept = [(int(film), float(score[film])) for film in ordered if int(film) not in left_out]
    return kept[:limit]
