"""Judges the points of a series as they come, each from the points before it.

From the first points the level, the season and the usual error are learnt (smoothing.py), in logarithms where the
season grows with the level. Then each point is compared with what is expected. What lies far off moves the model only
as far as two usual errors would, so that one outlier does not spoil what follows, while a new level is believed after
a while (robust smoothing, Gelper, Fried and Croux 2010).
"""

import enum
import math
from dataclasses import dataclass

import numpy as np

from hybrid_ai.forecast.smoothing import fit, run_additive

LEAST = 12
_LEAST_SEASONS = 3
# Of the level, the trend (a share of the level's), the season, the damping: steady, so that few points suffice.
PARAMETERS = (0.2, 0.1, 0.2, 0.95)
_TINY = 1e-12
_MAD = 1.4826  # from a median of absolute errors to a standard deviation, for normal errors
_BELIEVED = 2.0  # standard deviations of an error that count in full
_BOUND = 2.52  # makes the mean of bounded normal errors one (the paper's biweight)
_SCALE = 0.1  # how fast the standard deviation follows
_FLOOR = 1e-6  # the smallest standard deviation, as a share of the level: a constant series has some


class Verdict(enum.Enum):
    """What a point is."""

    LEARNING = enum.auto()
    NORMAL = enum.auto()
    ANOMALY = enum.auto()


@dataclass(frozen=True)
class Judged:
    """A verdict; `score` is how many standard deviations the value lies off."""

    verdict: Verdict
    expected: float
    score: float


class Detector:
    """One series. `judge` takes a point of it; where `full` says so, `learn` must run before: milliseconds."""

    def __init__(self, season: int, threshold: float) -> None:
        self.season = max(1, season)
        self.threshold = threshold
        self._values: list[float] = []
        self._learning = True
        self._step = 0

    @property
    def full(self) -> bool:
        """Whether enough points came to learn from, and nothing was learnt yet."""
        return self._learning and len(self._values) >= max(LEAST, _LEAST_SEASONS * self.season)

    def learn(self) -> None:
        """Finds level, trend, season and usual error of the points so far."""
        values = np.array(self._values)
        self._logarithmic = fit(values, self.season).multiplicative
        model = run_additive(np.log(values) if self._logarithmic else values, self.season, PARAMETERS)
        self._level, self._trend, self._pattern = model.level, model.trend, model.season.tolist()
        freedom = (_LEAST_SEASONS / (_LEAST_SEASONS - 1)) ** 0.5  # the season was averaged from these points
        self._sigma = max(freedom * _MAD * float(np.median(np.abs(model.errors))), self._floor())
        self._values, self._learning = [], False

    def judge(self, value: float) -> Judged:
        """Judges a point, and learns from it. Takes microseconds."""
        if self._learning:
            self._values.append(value)
            return Judged(Verdict.LEARNING, 0.0, 0.0)
        alpha, share, gamma, damping = PARAMETERS
        place = self._step % len(self._pattern)
        ahead = self._level + damping * self._trend
        expected = ahead + self._pattern[place]
        score = ((math.log(max(value, _TINY)) if self._logarithmic else value) - expected) / self._sigma
        error = max(-_BELIEVED, min(_BELIEVED, score)) * self._sigma
        self._level = ahead + alpha * error
        self._trend = damping * self._trend + alpha * share * error
        if self.season > 1:
            self._pattern[place] += gamma * error
        self._sigma = max(self._sigma * (1 + _SCALE * (_bounded(score) - 1)) ** 0.5, self._floor())
        self._step += 1
        verdict = Verdict.ANOMALY if abs(score) > self.threshold else Verdict.NORMAL
        return Judged(verdict, math.exp(expected) if self._logarithmic else expected, score)

    def _floor(self) -> float:
        return max(_FLOOR * abs(self._level), _FLOOR**2)


def _bounded(score: float) -> float:
    """The squared error in standard deviations, bounded by the biweight function."""
    if abs(score) > _BELIEVED:
        return _BOUND
    return _BOUND * (1 - (1 - (score / _BELIEVED) ** 2) ** 3)
