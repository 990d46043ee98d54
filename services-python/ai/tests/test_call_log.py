"""The lines of calls are those that the logging formatters would write, together for one turn of the event loop."""

import asyncio
import io
import logging
import sys
import time

import pytest

from hybrid_ai import telemetry

IDS = ("0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736")


@pytest.mark.parametrize("form", ["json", "human"])
@pytest.mark.parametrize("ids", [("", ""), IDS], ids=["without ids", "with ids"])
@pytest.mark.parametrize("milliseconds", [0.0, 337.12, 12000.5])
def test_a_line_is_what_the_formatter_would_write(form: str, ids: tuple[str, str], milliseconds: float) -> None:
    moments = (1_796_000_000.0, 1_796_000_000.25, 1_796_000_001.75)
    for moment in moments:
        line = written(form, moment, ("info", "/a.B/C", "OK", milliseconds, *ids))
        record = logging.LogRecord("calls", logging.INFO, "", 0, "call", None, None)
        record.created, record.msecs = moment, moment % 1 * 1000
        fields = {"method": "/a.B/C", "code": "OK", "ms": milliseconds, "request_id": ids[0], "trace_id": ids[1]}
        record.__dict__ |= fields
        formatter = telemetry._Json() if form == "json" else telemetry._Human()
        assert line == formatter.format(record) + "\n"


def test_lines_of_one_turn_are_written_together() -> None:
    class Counted(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    async def turn() -> Counted:
        log, out = telemetry.CallLog(), Counted()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", out)
            for number in range(5):
                log.add("info", "/a.B/C", "OK", float(number), "", "")
            assert not out.getvalue()
            await asyncio.sleep(0)
        return out

    out = asyncio.run(turn())
    assert (out.writes, out.getvalue().count("\n")) == (1, 5)


def written(form: str, moment: float, call: tuple[str, str, str, float, str, str]) -> str:
    async def once() -> str:
        log, out = telemetry.CallLog(), io.StringIO()
        log.use(form)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", out)
            patch.setattr(time, "time", lambda: moment)
            log.add(*call)
            await asyncio.sleep(0)
        return out.getvalue()

    return asyncio.run(once())
