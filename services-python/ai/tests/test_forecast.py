"""ForecastService: forecasts of real series, verdicts on points as they come, and refusals that name the field."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Running, as_user, settings, wait_until
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


def judge(service: Running, values: list[float], **first: Any) -> list[pb.DetectAnomaliesResponse]:
    requests = [
        pb.DetectAnomaliesRequest(value=value, **(first if index == 0 else {})) for index, value in enumerate(values)
    ]
    return list(service.forecast.DetectAnomalies(iter(requests), metadata=as_user()))


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
    for season in (-1, 367):
        assert invalid(lambda season=season: forecast(service, wave[:1_000], season)) == ["series.season_length"]
    for horizon in (0, -1, 367):
        assert invalid(lambda horizon=horizon: forecast(service, wave[:100], 0, horizon)) == ["horizon"]
    for coverage in (0.49, 0.995, math.nan):
        assert invalid(lambda coverage=coverage: forecast(service, wave[:100], coverage=coverage)) == ["coverage"]
    assert backtest(service, wave[:48], 12, horizon=12, origins=2).compared == 24
    assert invalid(lambda: backtest(service, wave[:47], 12, horizon=12, origins=2)) == ["series.values"]
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


def test_a_spike_is_found_and_its_neighbours_are_not(service: Running, real: Series) -> None:
    values = list(real["nottem"]["values"])
    values[150] += 30
    verdicts = judge(service, values, season_length=12)
    assert [answer.index for answer in verdicts] == list(range(240))
    assert all(answer.verdict == pb.VERDICT_LEARNING for answer in verdicts[:36])
    assert pb.VERDICT_LEARNING not in {answer.verdict for answer in verdicts[36:]}
    anomalies = [answer.index for answer in verdicts if answer.verdict == pb.VERDICT_ANOMALY]
    assert 150 in anomalies and len(anomalies) <= 3, anomalies
    assert abs(verdicts[150].expected - real["nottem"]["values"][150]) < 8 and verdicts[150].score > 6


def test_verdicts_come_while_points_are_still_sent(service: Running) -> None:
    answers: list[pb.DetectAnomaliesResponse] = []

    def points() -> Iterator[pb.DetectAnomaliesRequest]:
        for number in range(30):
            wait_until(lambda number=number: len(answers) == number)  # type: ignore[misc]
            yield pb.DetectAnomaliesRequest(value=100.0 + number % 2)

    for answer in service.forecast.DetectAnomalies(points(), metadata=as_user()):
        answers.append(answer)
    assert len(answers) == 30 and answers[-1].verdict == pb.VERDICT_NORMAL


def test_a_new_level_is_believed_after_a_while(service: Running) -> None:
    noise = [((step * 7919) % 13 - 6) / 6 for step in range(200)]
    values = [(50 if step < 100 else 80) + noise[step] for step in range(200)]
    verdicts = [answer.verdict for answer in judge(service, values)]
    assert verdicts[100] == pb.VERDICT_ANOMALY
    assert set(verdicts[12:100]) == {pb.VERDICT_NORMAL} and set(verdicts[-30:]) == {pb.VERDICT_NORMAL}


def test_wrong_points_are_refused(service: Running) -> None:
    assert invalid(lambda: judge(service, [1.0, math.nan])) == ["value"]
    assert invalid(lambda: judge(service, [1.0], season_length=367)) == ["season_length"]
    for threshold in (1.9, 20.1):
        assert invalid(lambda threshold=threshold: judge(service, [1.0], threshold=threshold)) == ["threshold"]
    changed = [pb.DetectAnomaliesRequest(value=1, season_length=season) for season in (4, 5)]
    assert invalid(lambda: service.forecast.DetectAnomalies(iter(changed), metadata=as_user())) == ["season_length"]
    assert len(judge(service, [1.0], season_length=366, threshold=2)) == 1
