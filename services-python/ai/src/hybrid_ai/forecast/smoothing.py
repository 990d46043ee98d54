"""Exponential smoothing with a damped trend and a season, fitted and forecast with intervals.

The state space forms ETS(A,Ad,A) and ETS(M,Ad,M) of Hyndman et al. (2008); where all values are positive, the one that
is more likely is taken. All candidates of a grid of parameters run through the series at once, as one vector; a second
grid, around the best, refines. Intervals are quantiles of simulated futures that draw the model's own errors.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

PATHS = 1000
_LEVELS = (0.02, 0.1, 0.2, 0.35, 0.55, 0.8)
_TRENDS = (0.0, 0.05, 0.15)  # shares of the level's
_SEASONS = (0.0, 0.05, 0.15, 0.35)
_DAMPINGS = (0.85, 0.95, 0.99)
_SMALL = 1e-9


@dataclass(frozen=True)
class Model:
    """A fitted model at the end of its series. `season` holds the next values' factors or summands in order."""

    multiplicative: bool
    parameters: Numbers  # of the level, the trend, the season, the damping
    level: float
    trend: float
    season: Numbers
    errors: Numbers  # one step ahead; relative where multiplicative
    score: float  # lower is more likely

    @property
    def name(self) -> str:
        """What callers are told."""
        if len(self.season) == 1:
            return "holt"
        return "holt-winters-multiplicative" if self.multiplicative else "holt-winters-additive"


@dataclass(frozen=True)
class Forecast:
    """Values and interval, each of shape (horizon,)."""

    model: Model
    values: Numbers
    low: Numbers
    high: Numbers


def forecast(values: Numbers, season: int, horizon: int, coverage: float) -> Forecast:
    """Forecasts `horizon` values after at least two seasons and 8 values. Deterministic."""
    model = fit(values, season)
    paths = _simulate(model, horizon)
    low, high = np.quantile(paths, ((1 - coverage) / 2, (1 + coverage) / 2), axis=0)
    steps = _damped(model, horizon)
    ahead = np.resize(model.season, horizon)
    expected = steps * ahead if model.multiplicative else steps + ahead
    return Forecast(model, expected, np.minimum(low, expected), np.maximum(high, expected))


def fit(values: Numbers, season: int) -> Model:
    """The more likely of the forms that the values allow."""
    season = max(1, season)
    forms = [False, True] if values.min() > 0 and season > 1 else [False]
    return min((_fit(values, season, form) for form in forms), key=lambda model: model.score)


def run_additive(values: Numbers, season: int, parameters: tuple[float, float, float, float]) -> Model:
    """The additive form with given parameters: of the level, the trend (a share of it), the season, the damping."""
    return _run(values, season, False, np.array([parameters]))


def _fit(values: Numbers, season: int, multiplicative: bool) -> Model:
    seasons = _SEASONS if season > 1 else (0.0,)
    grid = np.array([(a, b, g, d) for a in _LEVELS for b in _TRENDS for g in seasons for d in _DAMPINGS])
    best = _run(values, season, multiplicative, grid)
    near = best.parameters * _around(season)
    near = np.clip(near, (0.005, 0.0, 0.0, 0.8), (0.99, 0.5, 0.9, 0.995))
    refined = _run(values, season, multiplicative, np.unique(near, axis=0))
    return min(best, refined, key=lambda model: model.score)


def _around(season: int) -> Numbers:
    factors = (0.7, 1.0, 1.4)
    damping = (0.97, 1.0, 1.02)
    return np.array(
        [(a, b, g, d) for a in factors for b in factors for g in (factors if season > 1 else (1.0,)) for d in damping]
    )


def _run(values: Numbers, season: int, multiplicative: bool, grid: Numbers) -> Model:
    """Runs every candidate through the series, and gives the most likely one."""
    count = len(grid)
    alpha, share, gamma, damping = grid.T
    beta = alpha * share
    first, slope, pattern = _start(values, season, multiplicative)
    level, trend = np.full(count, first), np.full(count, slope)
    factors = np.repeat(pattern[:, None], count, axis=1)
    errors = np.empty((len(values), count))
    scale = np.zeros(count)
    for step, value in enumerate(values.tolist()):
        part = factors[step % season]
        ahead = level + damping * trend
        if multiplicative:
            ahead = np.maximum(ahead, _SMALL)
            expected = np.maximum(ahead * part, _SMALL)
            error = (value - expected) / expected
            errors[step] = error
            scale += np.log(expected)
            level = ahead * (1 + alpha * error)
            trend = damping * trend + beta * ahead * error
            factors[step % season] = np.maximum(part * (1 + gamma * error), _SMALL)
        else:
            error = value - ahead - part
            errors[step] = error
            level = ahead + alpha * error
            trend = damping * trend + beta * error
            if season > 1:
                factors[step % season] = part + gamma * error
    scores = len(values) * np.log(np.mean(errors**2, axis=0) + _SMALL**2) + 2 * scale
    best = int(np.argmin(scores))
    order = (len(values) + np.arange(season)) % season
    parts: tuple[Any, ...] = (grid[best], level[best], trend[best], factors[order, best], errors[:, best], scores[best])
    return Model(multiplicative, parts[0], float(parts[1]), float(parts[2]), parts[3], parts[4], float(parts[5]))


def _start(values: Numbers, season: int, multiplicative: bool) -> tuple[float, float, Numbers]:
    """Level, trend and season before the first value, from up to the first four seasons."""
    if season == 1:
        slope = float((values[: min(8, len(values))][-1] - values[0]) / (min(8, len(values)) - 1))
        return float(values[0] - slope), slope, np.ones(1) if multiplicative else np.zeros(1)
    whole = min(4, len(values) // season)
    rows = values[: whole * season].reshape(whole, season)
    means = rows.mean(axis=1)
    slope = float((means[-1] - means[0]) / ((whole - 1) * season))
    line = means[:, None] + slope * (np.arange(season) - (season - 1) / 2)
    if multiplicative:
        pattern = (rows / np.maximum(line, _SMALL)).mean(axis=0)
        pattern = pattern / pattern.mean()
    else:
        pattern = (rows - line).mean(axis=0)
        pattern = pattern - pattern.mean()
    return float(means[0] - slope * (season + 1) / 2), slope, pattern


def _damped(model: Model, horizon: int) -> Numbers:
    """The level with its damped trend at each step."""
    trends: Numbers = model.level + model.trend * np.cumsum(model.parameters[3] ** np.arange(1, horizon + 1))
    return np.maximum(trends, _SMALL) if model.multiplicative else trends


def _simulate(model: Model, horizon: int) -> Numbers:
    """Futures, (PATHS, horizon): the model goes on with errors drawn from its own."""
    alpha, share, gamma, damping = model.parameters
    chance = np.random.default_rng(0)
    level, trend = np.full(PATHS, model.level), np.full(PATHS, model.trend)
    factors = np.repeat(model.season[:, None], PATHS, axis=1)
    drawn = chance.choice(_widened(model), (horizon, PATHS))
    paths = np.empty((PATHS, horizon))
    for step in range(horizon):
        part, error = factors[step % len(factors)], drawn[step]
        ahead = level + damping * trend
        if model.multiplicative:
            ahead = np.maximum(ahead, _SMALL)
            paths[:, step] = ahead * part * (1 + error)
            level, moved = ahead * (1 + alpha * error), alpha * share * ahead * error
            factors[step % len(factors)] = np.maximum(part * (1 + gamma * error), _SMALL)
        else:
            paths[:, step] = ahead + part + error
            level, moved = ahead + alpha * error, alpha * share * error
            if len(factors) > 1:
                factors[step % len(factors)] = part + gamma * error
        trend = damping * trend + moved
    return paths


def _widened(model: Model) -> Numbers:
    """The model's errors, without their mean, and widened for what fitting took from them (degrees of freedom)."""
    errors = model.errors - model.errors.mean()
    free = max(len(errors) - len(model.season) - 5, len(errors) / 4)
    widened: Numbers = errors * np.sqrt(len(errors) / free)
    return widened
