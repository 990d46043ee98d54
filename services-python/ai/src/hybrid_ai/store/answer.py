"""Extractive answers: the sentences of the found passages that fit a question best, word for word.

A sentence's score is the cosine of its embedding with the question's, plus a share for the question's words in it.
What is below the threshold is no answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ai.models.embedder import Vectors
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.store.passages import sentences

MAX_SENTENCES = 3
# In the middle between the best scores of questions with and without an answer (tests/answer_eval/calibration.json):
# 19 of the 20 with one have 0.52 or more, the 22 without one 0.34 or less.
THRESHOLD = 0.43
# Further sentences must come this close to the best one.
_NEAR_BEST = 0.8
_WORD_SHARE = 0.3
_MIN_CHARACTERS = 20
# Sentences that are looked at first, by the question's words in them.
_LIKELIEST = 3
_COMMON = frozenset(
    "a an and are as at be by can did do does for from had has have how i if in into is it its may must not of on or"
    " should so than that the their them then there these they this to was were what when where which who why will with"
    " you your".split()
)


@dataclass(frozen=True)
class Sentence:
    """A sentence of an answer, and the index of the passage that it was copied from."""

    text: str
    passage: int
    score: float


class Extractor:
    """Chooses sentences by meaning and by words."""

    def __init__(self, embedding: EmbeddingModel) -> None:
        self._embedding = embedding

    def read(self, question: str, passages: Sequence[str], vector: Vectors | None = None) -> "Reading":
        """Begins an answer; `vector` is the question's, where it is known."""
        return Reading(self._embedding, question, passages, vector)


class Reading:
    """One question and the passages that were found for it. No sentence is embedded twice."""

    def __init__(
        self, embedding: EmbeddingModel, question: str, passages: Sequence[str], vector: Vectors | None
    ) -> None:
        self._embedding, self._question, self._passages, self._vector = embedding, question, passages, vector
        self._asked = _words(question)
        self._places: dict[str, int] = {}
        self._scores: dict[str, float] = {}
        for number, passage in enumerate(passages):
            for sentence in sentences(passage):
                if len(sentence) >= _MIN_CHARACTERS and not sentence.startswith("#"):
                    self._places.setdefault(sentence, number)

    async def extract(self) -> list[Sentence]:
        """The answer's sentences in reading order, best passage first; none where no sentence answers."""
        best = await self.score()
        if not best or best[0].score < THRESHOLD:
            return []
        floor = max(THRESHOLD, best[0].score * _NEAR_BEST)
        chosen = [sentence for sentence in best[:MAX_SENTENCES] if sentence.score >= floor]
        return sorted(
            chosen, key=lambda sentence: (sentence.passage, self._passages[sentence.passage].find(sentence.text))
        )

    async def certain(self) -> bool:
        """Whether one of the likeliest sentences answers: known sooner than which ones do."""
        likeliest = sorted(self._places, key=lambda text: -_overlap(self._asked, text))[:_LIKELIEST]
        await self._embed(likeliest)
        return any(self._scores[text] >= THRESHOLD for text in likeliest)

    async def score(self) -> list[Sentence]:
        """Every different sentence of the passages with its score, best first."""
        await self._embed([text for text in self._places if text not in self._scores])
        scored = [Sentence(text, passage, self._scores[text]) for text, passage in self._places.items()]
        return sorted(scored, key=lambda sentence: -sentence.score)

    async def _embed(self, texts: list[str]) -> None:
        if not texts:
            return
        wanted = texts if self._vector is not None else [self._question, *texts]
        vectors = (await self._embedding.embed(wanted)).vectors
        if self._vector is None:
            self._vector, vectors = vectors[0], vectors[1:]
        for text, cosine in zip(texts, vectors @ self._vector, strict=True):
            self._scores[text] = float(cosine) + _WORD_SHARE * _overlap(self._asked, text)


def _words(text: str) -> set[str]:
    """The words that carry meaning, roughly stemmed."""
    words = re.findall(r"\w+", text.lower())
    return {re.sub(r"(?:ing|ed|es|s)$", "", word) or word for word in words if word not in _COMMON}


def _overlap(asked: set[str], sentence: str) -> float:
    return len(asked & _words(sentence)) / len(asked) if asked else 0.0
