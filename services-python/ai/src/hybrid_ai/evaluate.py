"""Scores Answer on a fixed set of questions about the project's documents, with the real models, in this process.

    python -m hybrid_ai.evaluate [--json FILE] [--questions FILE] [--calibrate]

Recall@k: the expected passage is among the first k citations. Answered: the extractive answer holds it, or lies in it.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybrid_ai import config
from hybrid_ai.identity import EVERYBODY
from hybrid_ai.models.embedder import Embedder, TextTokenizer
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.worker import Limits
from hybrid_ai.store import project
from hybrid_ai.store.access import Access
from hybrid_ai.store.answer import Extractor, Sentence
from hybrid_ai.store.database import Found
from hybrid_ai.store.index import DocumentIndex, Query

FOLDER = config.SERVICE_FOLDER / "tests" / "answer_eval"
CITATIONS = 3
_PUBLIC = Access((frozenset((EVERYBODY,)),))


@dataclass(frozen=True)
class Score:
    """One question's result. `rank` is the expected passage's among the citations, from 1; 0 where it is not there."""

    question: str
    rank: int
    answered: bool
    best: float


@dataclass(frozen=True)
class Report:
    """The whole evaluation: shares from 0 to 1."""

    recall_at_1: float
    recall_at_3: float
    answered: float
    refused: float
    scores: list[Score]


class Evaluation:
    """An index of the project's documents in a temporary folder, and what Answer does with it."""

    def __init__(self, settings: config.Config, folder: Path) -> None:
        self._root = settings.documents_dir or config.SERVICE_FOLDER.parent.parent
        embedder = Embedder(settings.models_dir)
        limits = Limits(settings.embed_queue, settings.embed_batch_tokens, 64)
        tokenizer = TextTokenizer(settings.models_dir)
        self._embedding = EmbeddingModel(embedder, tokenizer, limits, settings.embed_threads)
        self._index = DocumentIndex(folder, self._embedding)
        self._extractor = Extractor(self._embedding)

    async def run(self, questions: dict[str, Any]) -> Report:
        """Scores every question. Raises ValueError for an expected passage that is not in its document."""
        self._check(questions["questions"])
        await project.fill(self._index, self._root)
        scores = [await self._score(question) for question in questions["questions"]]
        answers = [await self.ask(question) for question in questions["unanswerable"]]
        return Report(
            recall_at_1=_share([score.rank == 1 for score in scores]),
            recall_at_3=_share([0 < score.rank <= CITATIONS for score in scores]),
            answered=_share([score.answered for score in scores]),
            refused=_share([not chosen for _, chosen in answers]),
            scores=scores,
        )

    async def best_scores(self, questions: list[str]) -> list[float]:
        """The best sentence's score of each question: what the threshold is set with."""
        await project.fill(self._index, self._root)
        best: list[float] = []
        for question in questions:
            passages = await self._retrieve(question)
            scored = await self._extractor.read(question, [passage.text for passage in passages]).score()
            best.append(scored[0].score if scored else 0.0)
        return best

    async def ask(self, question: str) -> tuple[list[Found], list[Sentence]]:
        """The citations and the sentences of an answer, as AssistantService gives them to anybody."""
        passages = await self._retrieve(question)
        return passages, await self._extractor.read(question, [passage.text for passage in passages]).extract()

    def close(self) -> None:
        self._embedding.close()
        self._index.close()

    async def _retrieve(self, question: str) -> list[Found]:
        hits = await self._index.search(Query(question, _PUBLIC, CITATIONS, collections=(project.COLLECTION,)))
        return [found for found, _ in hits.found]

    async def _score(self, question: dict[str, str]) -> Score:
        passages, chosen = await self.ask(question["question"])
        expected = _plain(question["passage"])
        ranks = [
            rank
            for rank, passage in enumerate(passages, 1)
            if passage.document_id == question["document"] and expected in _plain(passage.text)
        ]
        answer = _plain(" ".join(sentence.text for sentence in chosen))
        answered = expected in answer or any(_plain(sentence.text) in expected for sentence in chosen)
        best = max((sentence.score for sentence in chosen), default=0.0)
        return Score(question["question"], ranks[0] if ranks else 0, answered, round(best, 3))

    def _check(self, questions: list[dict[str, str]]) -> None:
        texts = {source.key: _plain(source.text) for source in project.read_sources(self._root)}
        wrong = [q["question"] for q in questions if _plain(q["passage"]) not in texts.get(q["document"], "")]
        if wrong:
            raise ValueError(f"expected passages that are not in their documents: {wrong}")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _share(values: list[bool]) -> float:
    return round(sum(values) / len(values), 3) if values else 0.0


def print_report(report: Report) -> None:
    """A table for people."""
    print(f"{'rank':>4}  {'answer':<6}  {'score':>5}  question")
    for score in report.scores:
        rank, answered = score.rank or "-", "yes" if score.answered else "no"
        print(f"{rank:>4}  {answered:<6}  {score.best:>5.2f}  {score.question}")
    print(
        f"\n{len(report.scores)} questions: recall@1 {report.recall_at_1:.2f}, recall@3 {report.recall_at_3:.2f}, ",
        end="",
    )
    print(f"answer holds the passage {report.answered:.2f}; refused what has no answer {report.refused:.2f}")


async def evaluate(questions: dict[str, Any], folder: Path) -> Report:
    """Scores the questions; the index is made in `folder`."""
    evaluation = Evaluation(_settings(), folder)
    try:
        return await evaluation.run(questions)
    finally:
        evaluation.close()


async def _calibrate(sets: dict[str, list[str]], folder: Path) -> None:
    evaluation = Evaluation(_settings(), folder)
    try:
        for name in ("answerable", "unanswerable"):
            print(name, sorted(round(score, 3) for score in await evaluation.best_scores(sets[name])))
    finally:
        evaluation.close()


def _settings() -> config.Config:
    return config.load(os.environ | {"SERVICE_SECRET": "not used here, where nobody calls", "SERVICE_SECRET_FILE": ""})


def main() -> int:
    parser = argparse.ArgumentParser(prog="hybrid_ai.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--questions", default=str(FOLDER / "questions.json"))
    parser.add_argument("--json", default="", help="also write the report to this file")
    parser.add_argument("--calibrate", action="store_true", help="print what the threshold is set with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.calibrate:
            asyncio.run(_calibrate(json.loads((FOLDER / "calibration.json").read_text()), Path(folder)))
            return 0
        report = asyncio.run(evaluate(json.loads(Path(arguments.questions).read_text()), Path(folder)))
    print_report(report)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
