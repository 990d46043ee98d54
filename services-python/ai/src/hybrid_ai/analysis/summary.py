"""Extractive summaries: sentences near to the text's centre, and unlike those already chosen.

The centre is the mean of the sentences' embeddings; the choice is maximal marginal relevance (Carbonell and Goldstein,
1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_ai.models.embedder import Vectors
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.worker import Timing

# How much nearness to the centre counts; the rest counts against what repeats a chosen sentence.
_RELEVANCE = 0.7
# A sentence of fewer characters says too little to stand for a text, if there are others.
_MIN_CHARACTERS = 20


@dataclass(frozen=True)
class Span:
    """A sentence of the text, where it starts (in characters), and its cosine with the centre."""

    text: str
    offset: int
    score: float


async def summarize(
    embedding: EmbeddingModel, sentences: Sequence[tuple[int, str]], count: int
) -> tuple[list[Span], Timing]:
    """Chooses up to `count` different ones of the (offset, sentence) pairs; returns them in the text's order."""
    different = list({sentence: offset for offset, sentence in reversed(sentences)}.items())[::-1]
    telling = [pair for pair in different if len(pair[0]) >= _MIN_CHARACTERS] or different
    if not telling:
        return [], Timing(0.0, 0.0)
    embedded = await embedding.embed([sentence for sentence, _ in telling])
    centre = embedded.vectors.mean(axis=0)
    scores = embedded.vectors @ (centre / max(float(np.linalg.norm(centre)), 1e-9))
    chosen = sorted(_choose(embedded.vectors, scores, count))
    return [Span(*telling[at], float(scores[at])) for at in chosen], embedded.timing


def _choose(vectors: Vectors, scores: Vectors, count: int) -> list[int]:
    chosen: list[int] = []
    nearest = np.zeros(len(vectors), np.float32)  # the cosine with the most similar chosen sentence
    while len(chosen) < min(count, len(vectors)):
        merit = _RELEVANCE * scores - (1 - _RELEVANCE) * nearest
        merit[chosen] = -np.inf
        best = int(np.argmax(merit))
        chosen.append(best)
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen
