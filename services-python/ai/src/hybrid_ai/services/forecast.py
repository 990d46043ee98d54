"""ForecastService: what follows a series, what is out of the ordinary in one, and how good its forecasts are."""

import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from hybrid.ai.v1 import forecast_service_pb2 as pb
from hybrid.ai.v1 import forecast_service_pb2_grpc

from hybrid_ai.errors import InvalidArgument
from hybrid_ai.forecast.anomalies import Detector, Judged, Verdict
from hybrid_ai.forecast.backtest import backtest
from hybrid_ai.forecast.smoothing import Numbers, forecast
from hybrid_ai.services.checks import Violations, check_range
from hybrid_ai.services.edge import current_call
from hybrid_ai.serving.numeric import NumericWorker
from hybrid_ai.serving.patience import when_there_is_room

MIN_VALUES, MAX_VALUES, MAX_VALUE = 8, 5_000, 1e12
MAX_SEASON, MAX_HORIZON = 366, 366
MAX_ORIGINS, DEFAULT_ORIGINS = 20, 5
MIN_COVERAGE, MAX_COVERAGE, DEFAULT_COVERAGE = 0.5, 0.99, 0.9
MIN_THRESHOLD, MAX_THRESHOLD, DEFAULT_THRESHOLD = 2.0, 20.0, 4.0
_REGULAR = 1.25  # how much longer than the shortest step the longest may be

_VERDICTS = {
    Verdict.LEARNING: pb.VERDICT_LEARNING,
    Verdict.NORMAL: pb.VERDICT_NORMAL,
    Verdict.ANOMALY: pb.VERDICT_ANOMALY,
}


class ForecastService(forecast_service_pb2_grpc.ForecastServiceServicer):
    """Implements hybrid.ai.v1.ForecastService."""

    def __init__(self, worker: NumericWorker) -> None:
        self._worker = worker

    async def Forecast(self, request: pb.ForecastRequest, context: Any) -> pb.ForecastResponse:
        violations: Violations = []
        values = _series(violations, request.series)
        check_range(violations, "horizon", request.horizon, 1, MAX_HORIZON)
        coverage = _coverage(violations, request)
        _refuse(violations)
        season, horizon = request.series.season_length, request.horizon
        result, timing = await self._worker.run(lambda: forecast(values, season, horizon, coverage))
        _tell(timing.queue, timing.inference)
        response = pb.ForecastResponse(model=result.model.name)
        for value, low, high in zip(result.values, result.low, result.high, strict=True):
            response.points.add(value=value, low=low, high=high)
        level, trend, seasonal, damping = result.model.parameters
        parameters = pb.SmoothingParameters(level=level, trend=level * trend, season=seasonal, damping=damping)
        response.parameters.CopyFrom(parameters)
        return response

    async def Backtest(self, request: pb.BacktestRequest, context: Any) -> pb.BacktestResponse:
        violations: Violations = []
        values = _series(violations, request.series)
        check_range(violations, "horizon", request.horizon, 1, MAX_HORIZON)
        check_range(violations, "origins", request.origins, 0, MAX_ORIGINS)
        coverage = _coverage(violations, request)
        season, horizon, origins = request.series.season_length, request.horizon, request.origins or DEFAULT_ORIGINS
        needed = max(MIN_VALUES, 2 * season) + origins * horizon
        if not violations and len(values) < needed:
            text = f"has {len(values)} values; {origins} origins of {horizon} values need at least {needed}"
            violations.append(("series.values", text))
        _refuse(violations)
        result, timing = await self._worker.run(lambda: backtest(values, season, horizon, origins, coverage))
        _tell(timing.queue, timing.inference)
        response = pb.BacktestResponse(
            mean_absolute_error=result.error,
            naive_mean_absolute_error=result.naive_error,
            covered=result.covered,
            compared=origins * horizon,
        )
        for one in result.origins:
            response.origins.add(
                known=one.known, mean_absolute_error=one.error, naive_mean_absolute_error=one.naive_error
            )
        return response

    async def DetectAnomalies(
        self, requests: AsyncIterator[pb.DetectAnomaliesRequest], context: Any
    ) -> AsyncIterator[pb.DetectAnomaliesResponse]:
        detector: Detector | None = None
        index = 0
        async for request in requests:
            detector = _check_point(request, detector, index)
            if detector.full:
                await when_there_is_room(partial(self._worker.run, detector.learn))
            yield _verdict(index, detector.judge(request.value))
            index += 1


def _check_point(request: pb.DetectAnomaliesRequest, detector: Detector | None, index: int) -> Detector:
    """The series' detector; the first request makes it."""
    violations: Violations = []
    _check_value(violations, "value", request.value)
    _check_season(violations, "season_length", request.season_length)
    threshold = request.threshold if request.HasField("threshold") else DEFAULT_THRESHOLD
    check_range(violations, "threshold", threshold, MIN_THRESHOLD, MAX_THRESHOLD)
    if detector is not None:
        if request.season_length and max(1, request.season_length) != detector.season:
            text = f"is {request.season_length} in request {index}; the first one said {detector.season}"
            violations.append(("season_length", text))
        if request.HasField("threshold") and threshold != detector.threshold:
            text = f"is {threshold:g} in request {index}; the first one said {detector.threshold:g}"
            violations.append(("threshold", text))
    _refuse(violations)
    return detector or Detector(request.season_length, threshold)


def _verdict(index: int, judged: Judged) -> pb.DetectAnomaliesResponse:
    return pb.DetectAnomaliesResponse(
        index=index, verdict=_VERDICTS[judged.verdict], expected=judged.expected, score=judged.score
    )


def _series(violations: Violations, series: pb.TimeSeries) -> Numbers:
    """The values, checked."""
    count, season = len(series.values), series.season_length
    if not MIN_VALUES <= count <= MAX_VALUES:
        violations.append(("series.values", f"has {count} values; {MIN_VALUES} to {MAX_VALUES} are allowed"))
        return np.empty(0)
    values = np.array(series.values)
    for index in np.flatnonzero(~(np.abs(values) <= MAX_VALUE))[:3].tolist():  # NaN is not, either
        _check_value(violations, f"series.values[{index}]", values[index])
    _check_season(violations, "series.season_length", season)
    if count < 2 * season <= 2 * MAX_SEASON:
        text = f"has {count} values; two seasons of {season} are needed at least"
        violations.append(("series.values", text))
    _check_times(violations, series.times, count)
    return values


def _check_times(violations: Violations, times: Sequence[float], count: int) -> None:
    if not times:
        return
    if len(times) != count:
        violations.append(("series.times", f"has {len(times)} times for {count} values"))
        return
    steps = np.diff(np.array(times))
    wrong = np.flatnonzero(~(steps > 0))
    if wrong.size or not np.isfinite(steps).all():
        index = int(wrong[0]) + 1 if wrong.size else int(np.flatnonzero(~np.isfinite(steps))[0]) + 1
        violations.append((f"series.times[{index}]", "is not later than the one before"))
    elif steps.max() > _REGULAR * steps.min():
        usual = float(np.median(steps))
        furthest = np.abs(np.log(steps / usual))  # from the usual: too long or too short
        index = int(np.argmax(furthest)) + 1
        gap = f"comes {steps[index - 1]:g} s after the one before, usual are {usual:g} s"
        text = f"{gap}: values at equal distances are needed, and none may be missing"
        violations.append((f"series.times[{index}]", text))


def _check_season(violations: Violations, field: str, season: int) -> None:
    if not 0 <= season <= MAX_SEASON:
        violations.append((field, f"is {season}; 2 to {MAX_SEASON} are allowed, or 0 for none"))


def _check_value(violations: Violations, field: str, value: float) -> None:
    if not math.isfinite(value) or abs(value) > MAX_VALUE:
        allowed = f"finite numbers between {-MAX_VALUE:g} and {MAX_VALUE:g} are allowed"
        text = f"is {value:g}; {allowed}, and none may be missing"
        violations.append((field, text))


def _coverage(violations: Violations, request: pb.ForecastRequest | pb.BacktestRequest) -> float:
    coverage: float = request.coverage if request.HasField("coverage") else DEFAULT_COVERAGE
    check_range(violations, "coverage", coverage, MIN_COVERAGE, MAX_COVERAGE)
    return coverage


def _refuse(violations: Violations) -> None:
    if violations:
        raise InvalidArgument(violations)


def _tell(queue: float, inference: float) -> None:
    call = current_call()
    call.add_timing("queue", queue)
    call.add_timing("inference", inference)
