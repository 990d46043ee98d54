"""The ends of calls: a line for each, but refusals are told together, once a second at most, and all are counted."""

import asyncio
import logging
import time

import pytest
from prometheus_client import REGISTRY

from hybrid_ai.services.ends import Ends

METHOD = "/hybrid.ai.v1.TestService/Refuse"


def counted(code: str) -> float:
    return REGISTRY.get_sample_value("ai_calls_total", {"method": METHOD, "code": code}) or 0.0


def test_refusals_are_told_once_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ends, before = Ends(METHOD), counted("RESOURCE_EXHAUSTED")
    with caplog.at_level(logging.WARNING, "hybrid_ai.calls"):
        for moment in (100.0, 100.2, 100.9, 100.999, 101.0, 101.5, 102.5, 102.6):
            monkeypatch.setattr(time, "monotonic", lambda moment=moment: moment)
            ends.record("RESOURCE_EXHAUSTED", 0.001, "", "")
    assert [(line["method"], line["code"], line["calls"]) for line in map(vars, caplog.records)] == [
        (METHOD, "RESOURCE_EXHAUSTED", 1),
        (METHOD, "RESOURCE_EXHAUSTED", 4),
        (METHOD, "RESOURCE_EXHAUSTED", 2),
    ]
    assert counted("RESOURCE_EXHAUSTED") == before + 8


def test_every_other_end_has_a_line_of_its_own(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def end() -> None:
        ends = Ends(METHOD)
        for code in ("RESOURCE_EXHAUSTED", "OK", "INVALID_ARGUMENT", "OK"):
            ends.record(code, 0.001, "", "")
        await asyncio.sleep(0)

    with caplog.at_level(logging.INFO, "hybrid_ai.calls"):
        asyncio.run(end())
    lines = [line for line in capsys.readouterr().err.splitlines() if METHOD in line]
    assert len(lines) == 3 and not any("RESOURCE_EXHAUSTED" in line for line in lines)
