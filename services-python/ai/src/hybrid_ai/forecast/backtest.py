"""Measures forecasts on a series' own past: rolling origins, beside the seasonal-naive forecast."""

from dataclasses import dataclass

import numpy as np

from hybrid_ai.forecast.smoothing import Numbers, forecast


@dataclass(frozen=True)
class Origin:
    """The forecasts from one origin: mean absolute errors, and how many values lay in their intervals."""

    known: int
    error: float
    naive_error: float
    covered: int


@dataclass(frozen=True)
class Backtest:
    """All origins, oldest first."""

    horizon: int
    origins: list[Origin]

    @property
    def error(self) -> float:
        return float(np.mean([origin.error for origin in self.origins]))

    @property
    def naive_error(self) -> float:
        return float(np.mean([origin.naive_error for origin in self.origins]))

    @property
    def covered(self) -> float:
        return sum(origin.covered for origin in self.origins) / (self.horizon * len(self.origins))


def backtest(values: Numbers, season: int, horizon: int, origins: int, coverage: float) -> Backtest:
    """Forecasts from `origins` points of the past, one horizon apart, the last one horizon before the end."""
    ends = [len(values) - horizon * step for step in range(origins, 0, -1)]
    return Backtest(horizon, [_from(values, end, season, horizon, coverage) for end in ends])


def naive(values: Numbers, season: int, horizon: int) -> Numbers:
    """The values of the last season again; without a season, the last value."""
    return np.resize(values[-max(1, season) :], horizon)


def _from(values: Numbers, known: int, season: int, horizon: int, coverage: float) -> Origin:
    before, after = values[:known], values[known : known + horizon]
    ours = forecast(before, season, horizon, coverage)
    covered = int(((ours.low <= after) & (after <= ours.high)).sum())
    naive_error = float(np.abs(after - naive(before, season, horizon)).mean())
    return Origin(known, float(np.abs(after - ours.values).mean()), naive_error, covered)
