"""Scores forecasts and verdicts on real series, against the seasonal-naive forecast.

    python -m hybrid_ai.evaluate_forecast [--json FILE] [--half validation|test]

Up to five origins of each series, after three seasons at least; a year ahead of months, two of quarters. Relative MAE:
ours / seasonal-naive, below 1 is better. Covered: the share of values within 90 % intervals. Verdicts: the share of the
series' own points called anomalies, and of spikes put into them (8 usual errors high) that are found. Of the series by
name, every second one is of the validation half, which parameters were chosen on; the others are of the test half.
"""

import argparse
import copy
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_ai import config
from hybrid_ai.forecast.anomalies import Detector, Verdict
from hybrid_ai.forecast.backtest import backtest
from hybrid_ai.forecast.smoothing import Numbers, fit

ORIGINS, COVERAGE, THRESHOLD = 5, 0.9, 4.0
_HORIZONS = {12: 12, 4: 8}


@dataclass(frozen=True)
class Score:
    """One series."""

    name: str
    values: int
    mean_absolute_error: float
    naive_mean_absolute_error: float
    relative: float
    covered: float
    flagged: float
    found: float
    milliseconds: float  # of one forecast


@dataclass(frozen=True)
class Report:
    """The whole evaluation: relative errors as their geometric mean."""

    half: str
    relative: float
    better: int
    covered: float
    flagged: float
    found: float
    scores: list[Score]


def read_series(models_dir: Path, half: str) -> dict[str, Any]:
    """The series of one half of the split, by name."""
    series = json.loads((models_dir / "series.json").read_text())
    names = sorted(series)[0 if half == "validation" else 1 :: 2]
    return {name: series[name] for name in names}


def evaluate(models_dir: Path, half: str = "test") -> Report:
    """Scores one half of the series."""
    scores: list[Score] = []
    covered, compared = 0, 0
    for name, series in read_series(models_dir, half).items():
        values, season = np.array(series["values"]), series["season"]
        origins = min(ORIGINS, (len(values) - 3 * season) // _HORIZONS[season])
        started = time.perf_counter()
        result = backtest(values, season, _HORIZONS[season], origins, COVERAGE)
        milliseconds = (time.perf_counter() - started) * 1000 / origins
        relative = result.error / result.naive_error
        errors = (round(result.error, 4), round(result.naive_error, 4), round(relative, 3))
        shares = (round(result.covered, 3), *verdicts(values, season))
        scores.append(Score(name, len(values), *errors, *shares, round(milliseconds, 1)))
        covered += sum(origin.covered for origin in result.origins)
        compared += _HORIZONS[season] * origins
    return Report(
        half,
        round(float(np.exp(np.mean(np.log([score.relative for score in scores])))), 3),
        sum(score.relative < 1 for score in scores),
        round(covered / compared, 3),
        round(float(np.mean([score.flagged for score in scores])), 3),
        round(float(np.mean([score.found for score in scores])), 3),
        scores,
    )


def verdicts(values: Numbers, season: int) -> tuple[float, float]:
    """The share of points called anomalies (not all of them need be false), and of spikes found.

    A spike stands in for each fifth point after four seasons, one at a time.
    """
    model = fit(values, season)
    usual = 1.4826 * float(np.median(np.abs(model.errors * (values if model.multiplicative else 1.0))))
    detector = Detector(season, THRESHOLD)
    judged: list[Verdict] = []
    spiked: list[Verdict] = []
    for place, value in enumerate(values.tolist()):
        if detector.full:
            detector.learn()
        if place >= 4 * season and place % 5 == 0:
            spiked.append(copy.deepcopy(detector).judge(value + 8 * usual).verdict)
        judged.append(detector.judge(value).verdict)
    return _anomalies([verdict for verdict in judged if verdict is not Verdict.LEARNING]), _anomalies(spiked)


def _anomalies(judged: list[Verdict]) -> float:
    return round(sum(verdict is Verdict.ANOMALY for verdict in judged) / len(judged), 3)


def main() -> int:
    parser = argparse.ArgumentParser(prog="hybrid_ai.evaluate_forecast", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", default="", help="also write the report to this file")
    parser.add_argument("--half", default="test", choices=("validation", "test"), help="which series are scored")
    arguments = parser.parse_args()
    models_dir = Path(os.environ.get("AI_MODELS_DIR") or config.SERVICE_FOLDER / ".models")
    report = evaluate(models_dir, arguments.half)
    print(
        f"{'series':<16} {'values':>6} {'MAE':>9} {'naive':>9} {'relative':>8} "
        f"{'covered':>7} {'flagged':>7} {'found':>5}"
    )
    for score in report.scores:
        errors = f"{score.mean_absolute_error:>9.3f} {score.naive_mean_absolute_error:>9.3f} {score.relative:>8.3f}"
        shares = f"{score.covered:>7.2f} {score.flagged:>7.3f} {score.found:>5.2f}"
        print(f"{score.name:<16} {score.values:>6} {errors} {shares}   {score.milliseconds:.1f} ms")
    print(f"\n{report.half}: relative MAE {report.relative:.3f}, ", end="")
    print(f"better than seasonal-naive on {report.better} of {len(report.scores)}; ", end="")
    print(f"90 % intervals hold {report.covered:.3f}; flagged {report.flagged:.3f}, spikes found {report.found:.3f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
