"""DetectAnomalies: verdicts on points as they come, what is learnt from, and limits from both sides."""

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Loop, Running, as_user, settings, wait_until
from grpc_errors import invalid
from hybrid.ai.v1 import forecast_service_pb2 as pb

from hybrid_ai.serving.caller import CALLER, Caller


@pytest.fixture(scope="module")
def nottem(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    path = settings(tmp_path_factory.mktemp("data")).models_dir / "series.json"
    return list(json.loads(path.read_text())["nottem"]["values"])


def judge(service: Running, values: list[float], **first: Any) -> list[pb.DetectAnomaliesResponse]:
    requests = [
        pb.DetectAnomaliesRequest(value=value, **(first if index == 0 else {})) for index, value in enumerate(values)
    ]
    return list(service.forecast.DetectAnomalies(iter(requests), metadata=as_user()))


def test_a_spike_is_found_and_its_neighbours_are_not(service: Running, nottem: list[float]) -> None:
    values = list(nottem)
    values[150] += 30
    verdicts = judge(service, values, season_length=12)
    assert [answer.index for answer in verdicts] == list(range(240))
    assert all(answer.verdict == pb.VERDICT_LEARNING for answer in verdicts[:36])
    assert pb.VERDICT_LEARNING not in {answer.verdict for answer in verdicts[36:]}
    anomalies = [answer.index for answer in verdicts if answer.verdict == pb.VERDICT_ANOMALY]
    assert 150 in anomalies and len(anomalies) <= 3, anomalies
    assert abs(verdicts[150].expected - nottem[150]) < 8 and verdicts[150].score > 6


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


@pytest.mark.parametrize(("season", "learning"), [(0, 12), (1, 12), (2, 12), (4, 12), (5, 15)])
def test_three_seasons_and_twelve_points_at_least_are_learnt_from(service: Running, season: int, learning: int) -> None:
    values = [50.0 + (step * 7919 % 13 - 6) / 6 for step in range(learning + 2)]
    verdicts = judge(service, values, season_length=season)
    assert [answer.verdict for answer in verdicts] == [pb.VERDICT_LEARNING] * learning + [pb.VERDICT_NORMAL] * 2
    assert {(answer.expected, answer.score) for answer in verdicts[:learning]} == {(0.0, 0.0)}


@pytest.mark.parametrize("threshold", [None, 2.0, 4.0, 20.0])
def test_what_is_further_off_than_the_threshold_on_either_side_is_an_anomaly(
    service: Running, threshold: float | None
) -> None:
    first = {} if threshold is None else {"threshold": threshold}
    past = [50.0 + (step * 7919 % 13 - 6) / 6 for step in range(12)]
    known = judge(service, [*past, 60.0])[-1]
    deviation = (60.0 - known.expected) / known.score
    for off in (0.99, 1.01):
        for sign in (-1, 1):
            score = sign * off * (threshold or 4.0)
            verdict = judge(service, [*past, known.expected + score * deviation], **first)[-1]
            assert verdict.score == pytest.approx(score)
            assert verdict.verdict == (pb.VERDICT_ANOMALY if off > 1 else pb.VERDICT_NORMAL)


def test_learning_waits_while_the_queue_is_full(service: Running, loop: Loop) -> None:
    """Others want forecasts, each a single one, so that nobody's has to make room."""
    worker, held, gate = service.service.forecasting, asyncio.Event(), threading.Event()
    full = 'ai_rejected_total{model="forecast",reason="full"}'

    def hold() -> None:
        loop.loop.call_soon_threadsafe(held.set)
        assert gate.wait(20)

    async def fill() -> None:
        for _ in range(50):  # so that these are what the queue's pace is known by, and the wait is short
            await worker.run(lambda: None)
        jobs = [asyncio.create_task(other("first", hold))]
        await held.wait()
        jobs += [asyncio.create_task(other(f"caller {number}", lambda: None)) for number in range(256)]
        await asyncio.gather(*jobs)

    async def other(subject: str, job: Any) -> None:
        CALLER.set(Caller(subject))
        await worker.run(job)

    before = service.metric(full)
    filled = asyncio.run_coroutine_threadsafe(fill(), loop.loop)
    wait_until(lambda: service.metric('ai_queued_items{model="forecast"}') == 256)
    answers: list[pb.DetectAnomaliesResponse] = []
    stream = threading.Thread(target=lambda: answers.extend(judge(service, [50.0, 51.0] * 10)))
    stream.start()
    wait_until(lambda: service.metric(full) > before)
    gate.set()
    stream.join(20)
    filled.result(20)
    assert [answer.index for answer in answers] == list(range(20))


def test_wrong_points_are_refused(service: Running) -> None:
    assert invalid(lambda: judge(service, [1.0, math.nan])) == ["value"]
    assert invalid(lambda: judge(service, [1.0], season_length=367)) == ["season_length"]
    for threshold in (1.9, 20.1):
        assert invalid(lambda threshold=threshold: judge(service, [1.0], threshold=threshold)) == ["threshold"]
    changed = [pb.DetectAnomaliesRequest(value=1, season_length=season) for season in (4, 5)]
    assert invalid(lambda: service.forecast.DetectAnomalies(iter(changed), metadata=as_user())) == ["season_length"]
    assert len(judge(service, [1.0], season_length=366, threshold=2)) == 1
    assert len(judge(service, [-1e12, 1e12])) == 2
    for wrong in (-1.001e12, 1.001e12, math.inf):
        assert invalid(lambda wrong=wrong: judge(service, [wrong])) == ["value"]
