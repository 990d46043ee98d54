"""Scores recommendations on the fixed split of real ratings, against popularity and against content alone.

    python -m hybrid_ai.evaluate_recommend [--json FILE] [--half validation|test]

Recall@10: the share of a person's 10 held-out likes among 10 recommendations. nDCG@10: the same, early ones counting
more. The interval is where 95 % of 2,000 resamplings of the people lie (bootstrap).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hybrid_ai import config
from hybrid_ai.recommend.catalogue import Catalogue
from hybrid_ai.recommend.likes import Likes, Numbers
from hybrid_ai.recommend.ranking import Parameters, rank
from hybrid_ai.recommend.split import HELD_OUT, Case, split

_LIMIT = 10
_DISCOUNT = 1 / np.log2(np.arange(2, _LIMIT + 2))
_RESAMPLINGS = 2000
Recommend = Callable[[Case], Sequence[int]]


@dataclass(frozen=True)
class Score:
    """A way to recommend, on average over the people; the interval is of its recall less popularity's."""

    name: str
    recall_at_10: float
    ndcg_at_10: float
    recall_gain: tuple[float, float]
    milliseconds: float


@dataclass(frozen=True)
class Report:
    """The whole evaluation."""

    half: str
    people: int
    films: int
    scores: list[Score]


def evaluate(models_dir: Path, half: str = "test", parameters: Parameters | None = None) -> Report:
    """Scores one half of the split's people."""
    catalogue = Catalogue(models_dir)
    parts = split(catalogue.ratings)
    cases = parts.test if half == "test" else parts.validation
    likes = Likes(len(catalogue.films), parts.history)
    chosen = parameters or Parameters()

    def ours(case: Case) -> list[int]:
        profile = [(film, 1.0) for film in case.known]
        return [entry.film for entry in rank(likes, catalogue.vectors, profile, set(case.known), _LIMIT, chosen)]

    def content(case: Case) -> list[int]:
        latest = case.known[-chosen.latest :]
        near = catalogue.vectors @ catalogue.vectors[latest].mean(axis=0)
        return _first(near, case)

    counts = np.bincount(parts.history[:, 1], minlength=len(catalogue.films)).astype(float)
    ways: dict[str, Recommend] = {"popularity": lambda case: _first(counts, case), "content": content, "ours": ours}
    measured = {name: _measure(way, cases) for name, way in ways.items()}
    base = measured["popularity"][0]
    scores = [
        Score(
            name,
            round(float(recalls.mean()), 4),
            round(float(gains.mean()), 4),
            _interval(recalls - base),
            round(ms, 2),
        )
        for name, (recalls, gains, ms) in measured.items()
    ]
    return Report(half, len(cases), len(catalogue.films), scores)


def _first(score: Numbers, case: Case) -> list[int]:
    score = score.copy()
    score[case.known] = -np.inf
    return list(np.argsort(-score, kind="stable")[:_LIMIT].tolist())


def _measure(way: Recommend, cases: Sequence[Case]) -> tuple[Numbers, Numbers, float]:
    started = time.perf_counter()
    hits = np.array([np.isin(way(case), case.held_out) for case in cases], float)
    milliseconds = (time.perf_counter() - started) * 1000 / len(cases)
    return hits.sum(axis=1) / HELD_OUT, (hits @ _DISCOUNT) / _DISCOUNT.sum(), milliseconds


def _interval(differences: Numbers) -> tuple[float, float]:
    chance = np.random.default_rng(0)
    means = chance.choice(differences, (_RESAMPLINGS, len(differences))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def main() -> int:
    parser = argparse.ArgumentParser(prog="hybrid_ai.evaluate_recommend", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", default="", help="also write the report to this file")
    parser.add_argument("--half", default="test", choices=("validation", "test"), help="whose people are scored")
    arguments = parser.parse_args()
    models_dir = Path(os.environ.get("AI_MODELS_DIR") or config.SERVICE_FOLDER / ".models")
    report = evaluate(models_dir, arguments.half)
    print(f"{report.people} people of the {report.half} half, {report.films} films")
    print(f"{'':<12} {'recall@10':>9} {'nDCG@10':>9}  {'recall gain':<18} {'ms':>6}")
    for score in report.scores:
        low, high = score.recall_gain
        gain = f"{low:+.4f} to {high:+.4f}"
        print(
            f"{score.name:<12} {score.recall_at_10:>9.4f} {score.ndcg_at_10:>9.4f}  {gain:<18} "
            f"{score.milliseconds:>6.2f}"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
