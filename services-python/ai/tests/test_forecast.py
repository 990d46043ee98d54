"""Forecast and Backtest: forecasts of real series, and refusals that name the field. Every limit from both sides."""

import json
import math
from typing import Any

import pytest
from conftest import Running, as_user, settings
from grpc_errors import invalid
from hybrid.ai.v1 import forecast_service_pb2 as pb

Series = dict[str, Any]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Series:
    return dict(json.loads((settings(tmp_path_factory.mktemp("data")).models_dir / "series.json").read_text()))


def forecast(
    service: Running, values: list[float], season: int = 0, horizon: int = 12, **more: Any
) -> pb.ForecastResponse:
    series = pb.TimeSeries(values=values, season_length=season, times=more.pop("times", []))
    return service.forecast.Forecast(pb.ForecastRequest(series=series, horizon=horizon, **more), metadata=as_user())


def backtest(service: Running, values: list[float], season: int, **more: Any) -> pb.BacktestResponse:
    request = pb.BacktestRequest(series=pb.TimeSeries(values=values, season_length=season), **more)
    return service.forecast.Backtest(request, metadata=as_user())


def test_a_year_of_air_passengers_is_forecast_well(service: Running, real: Series) -> None:
    values = real["AirPassengers"]["values"]
    answer = forecast(service, values[:-12], 12)
    assert answer.model == "holt-winters-multiplicative" and len(answer.points) == 12
    errors = [abs(point.value / value - 1) for point, value in zip(answer.points, values[-12:], strict=True)]
    assert sum(errors) / 12 < 0.06, errors
    for point in answer.points:
        assert point.low < point.value < point.high


def test_a_known_law_is_found(service: Running) -> None:
    season = [3.0, -1.0, -4.0, 2.0]
    values = [10 + 0.5 * step + season[step % 4] for step in range(60)]
    answer = forecast(service, values, 4, 8)
    expected = [10 + 0.5 * step + season[step % 4] for step in range(60, 68)]
    assert [point.value for point in answer.points] == pytest.approx(expected, rel=0.02)
    constant = forecast(service, [7.0] * 30, 0, 3)
    assert [(round(point.low, 6), round(point.value, 6)) for point in constant.points] == [(7.0, 7.0)] * 3
    assert constant.model == "holt"


def test_wider_coverage_has_wider_intervals(service: Running, real: Series) -> None:
    values = real["nottem"]["values"]
    widths = [
        sum(point.high - point.low for point in forecast(service, values, 12, coverage=coverage).points)
        for coverage in (0.5, 0.9, 0.99)
    ]
    assert widths[0] * 1.5 < widths[1] and widths[1] * 1.1 < widths[2]


def test_coverage_is_nine_tenths_unless_said_otherwise(service: Running, real: Series) -> None:
    values = real["nottem"]["values"]
    assert forecast(service, values, 12) == forecast(service, values, 12, coverage=0.9)
    covered = {
        coverage: backtest(service, values, 12, horizon=12, **({"coverage": coverage} if coverage else {})).covered
        for coverage in (None, 0.5, 0.9, 0.99)
    }
    assert covered[None] == covered[0.9] and covered[0.5] < covered[0.9] < covered[0.99]


def test_the_same_request_gives_the_same_answer(service: Running, real: Series) -> None:
    values = real["ausbeer"]["values"]
    assert forecast(service, values, 4) == forecast(service, values, 4)


def test_a_backtest_compares_with_seasonal_naive(service: Running, real: Series) -> None:
    values = real["usmelec"]["values"]
    answer = backtest(service, values, 12, horizon=12)
    assert answer.compared == 60 and [origin.known for origin in answer.origins] == [426, 438, 450, 462, 474]
    assert answer.mean_absolute_error < 0.9 * answer.naive_mean_absolute_error
    naive = [abs(values[474 + step] - values[462 + step]) for step in range(12)]
    assert answer.origins[-1].naive_mean_absolute_error == pytest.approx(sum(naive) / 12)
    assert 0.75 <= answer.covered <= 1


def test_limits_on_length_hold_from_both_sides(service: Running) -> None:
    wave = [math.sin(step / 3) + step / 100 for step in range(5_001)]
    assert len(forecast(service, wave[:8]).points) == 12
    assert invalid(lambda: forecast(service, wave[:7])) == ["series.values"]
    assert len(forecast(service, wave[:5_000], horizon=1).points) == 1
    assert invalid(lambda: forecast(service, wave)) == ["series.values"]
    assert invalid(lambda: forecast(service, [])) == ["series.values"]
    assert len(forecast(service, wave[:24], 12, 366).points) == 366
    assert invalid(lambda: forecast(service, wave[:23], 12)) == ["series.values"]
    assert len(forecast(service, wave[:732], 366, 1).points) == 1
    assert forecast(service, [1.0, 5.0] * 10, 1).model == "holt"  # a season of one value is none
    assert forecast(service, [1.0, 5.0] * 10, 2).model.startswith("holt-winters")
    for season in (-1, 367):
        assert invalid(lambda season=season: forecast(service, wave[:1_000], season)) == ["series.season_length"]
    for horizon in (0, -1, 367):
        assert invalid(lambda horizon=horizon: forecast(service, wave[:100], 0, horizon)) == ["horizon"]
    for coverage in (0.49, 0.991, math.nan):
        assert invalid(lambda coverage=coverage: forecast(service, wave[:100], coverage=coverage)) == ["coverage"]


def test_limits_of_a_backtest_hold_from_both_sides(service: Running) -> None:
    wave = [math.sin(step / 3) + step / 100 for step in range(1_000)]
    assert backtest(service, wave[:48], 12, horizon=12, origins=2).compared == 24
    assert invalid(lambda: backtest(service, wave[:47], 12, horizon=12, origins=2)) == ["series.values"]
    assert backtest(service, wave[:10], 0, horizon=2, origins=1).origins[0].known == 8
    assert invalid(lambda: backtest(service, wave[:9], 0, horizon=2, origins=1)) == ["series.values"]
    assert len(backtest(service, wave[:28], 0, horizon=1, origins=20).origins) == 20
    assert backtest(service, wave[:374], 0, horizon=366, origins=1).compared == 366
    for horizon in (0, -1, 367):
        far = lambda horizon=horizon: backtest(service, wave, 0, horizon=horizon, origins=1)  # noqa: E731
        assert invalid(far) == ["horizon"]
    for coverage in (0.5, 0.99):
        assert backtest(service, wave[:20], 0, horizon=1, origins=1, coverage=coverage).compared == 1
    for coverage in (0.49, 0.991, math.nan):
        unsure = lambda coverage=coverage: backtest(service, wave, 0, horizon=1, coverage=coverage)  # noqa: E731
        assert invalid(unsure) == ["coverage"]
    for origins in (-1, 21):
        wrong = lambda origins=origins: backtest(service, wave[:1_000], 0, horizon=1, origins=origins)  # noqa: E731
        assert invalid(wrong) == ["origins"]


def test_missing_and_unusable_values_are_named(service: Running) -> None:
    wave = [math.sin(step / 3) for step in range(40)]
    for wrong in (math.nan, math.inf, -math.inf, 1.1e12):
        assert invalid(lambda wrong=wrong: forecast(service, [*wave[:5], wrong, *wave])) == ["series.values[5]"]
    assert len(forecast(service, [-1e12, 1e12] * 10).points) == 12


def test_irregular_times_are_named(service: Running) -> None:
    wave = [math.sin(step / 3) for step in range(24)]
    day = 86_400.0
    months = [
        day * sum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month % 12] for month in range(end))
        for end in range(24)
    ]
    assert len(forecast(service, wave, 12, times=months).points) == 12
    gap = [*months[:10], *(time + 31 * day for time in months[10:])]
    assert invalid(lambda: forecast(service, wave, 12, times=gap)) == ["series.times[10]"]
    assert invalid(lambda: forecast(service, wave, 12, times=months[:-1])) == ["series.times"]
    back = [*months[:5], months[3], *months[6:]]
    assert invalid(lambda: forecast(service, wave, 12, times=back)) == ["series.times[5]"]
    assert invalid(lambda: forecast(service, wave, 12, times=[*months[:-1], math.nan])) == ["series.times[23]"]


def test_distances_may_differ_by_a_quarter(service: Running) -> None:
    """Of 100 seconds each, one may take 125, or 80. What is named is the one that is further off."""
    wave = [math.sin(step / 3) for step in range(24)]

    def steps(odd: float) -> list[float]:
        return [100.0 * step + (odd - 100 if step > 9 else 0) for step in range(24)]

    for odd in (80.0, 125.0):
        assert len(forecast(service, wave, times=steps(odd)).points) == 12
    for odd in (79.9, 125.1):
        assert invalid(lambda odd=odd: forecast(service, wave, times=steps(odd))) == ["series.times[10]"]
