"""Zero-shot classification: a text's similarity with each label's description, by embeddings.

Nothing is trained for the labels. The scores are the softmax of the cosines: they compare the labels with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.worker import Timing

TEMPERATURE = 0.1


@dataclass(frozen=True)
class Fit:
    """How a label fits: its index, its share of all labels (0 to 1), and the cosine."""

    label: int
    score: float
    similarity: float


async def classify(
    embedding: EmbeddingModel, texts: Sequence[str], labels: Sequence[str]
) -> tuple[list[list[Fit]], Timing]:
    """For each text every label, the best first. `labels` are descriptions."""
    embedded = await embedding.embed([*labels, *texts])
    cosines = embedded.vectors[len(labels) :] @ embedded.vectors[: len(labels)].T
    shares = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / TEMPERATURE)
    shares /= shares.sum(axis=1, keepdims=True)
    fits = [
        [Fit(int(label), float(share[label]), float(cosine[label])) for label in np.argsort(-cosine, kind="stable")]
        for cosine, share in zip(cosines, shares, strict=True)
    ]
    return fits, embedded.timing
