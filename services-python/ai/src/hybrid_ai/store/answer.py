"""Extractive answers: the sentences of the found passages that fit a question best, word for word.

A sentence's score is the cosine of its embedding with the question's, plus a share for the question's words in it.
What is below the threshold is no answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.store.passages import sentences

MAX_SENTENCES = 3
# Between the best scores of questions with and without an answer (tests/answer_eval/calibration.json): 0.34 and 0.29.
THRESHOLD = 0.31
# Further sentences must come this close to the best one.
_NEAR_BEST = 0.8
_WORD_SHARE = 0.3
_MIN_CHARACTERS = 20
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

    async def extract(self, question: str, passages: Sequence[str]) -> list[Sentence]:
        """The answer's sentences in reading order, best passage first; none where no sentence answers."""
        best = await self.score(question, passages)
        if not best or best[0].score < THRESHOLD:
            return []
        floor = max(THRESHOLD, best[0].score * _NEAR_BEST)
        chosen = [sentence for sentence in best[:MAX_SENTENCES] if sentence.score >= floor]
        return sorted(chosen, key=lambda sentence: (sentence.passage, passages[sentence.passage].find(sentence.text)))

    async def holds(self, question: str, passage: str) -> bool:
        """Whether the passage has a sentence that `extract` would choose: known sooner than which ones all are."""
        best = await self.score(question, [passage])
        return bool(best) and best[0].score >= THRESHOLD

    async def score(self, question: str, passages: Sequence[str]) -> list[Sentence]:
        """Every different sentence of the passages with its score, best first."""
        places: dict[str, int] = {}
        for number, passage in enumerate(passages):
            for sentence in sentences(passage):
                if len(sentence) >= _MIN_CHARACTERS and not sentence.startswith("#"):
                    places.setdefault(sentence, number)
        if not places:
            return []
        embedded = await self._embedding.embed([question, *places])
        cosines = embedded.vectors[1:] @ embedded.vectors[0]
        asked = _words(question)
        scored = [
            Sentence(text, passage, float(cosine) + _WORD_SHARE * _overlap(asked, text))
            for (text, passage), cosine in zip(places.items(), cosines, strict=True)
        ]
        return sorted(scored, key=lambda sentence: -sentence.score)


def _words(text: str) -> set[str]:
    """The words that carry meaning, roughly stemmed."""
    words = re.findall(r"\w+", text.lower())
    return {re.sub(r"(?:ing|ed|es|s)$", "", word) or word for word in words if word not in _COMMON}


def _overlap(asked: set[str], sentence: str) -> float:
    return len(asked & _words(sentence)) / len(asked) if asked else 0.0
