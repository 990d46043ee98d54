"""What is logged and counted about calls at their end."""

from __future__ import annotations

import logging
import time
from typing import Any

import grpc

from hybrid_ai import telemetry

_LOG = logging.getLogger("hybrid_ai.calls")
_REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED.name
_REFUSALS_TOLD_EVERY = 1.0


class Ends:
    """What is logged and counted about the calls of one method at their end.

    Each call has a line, but for refused ones: these are told together, once a second at most.
    """

    def __init__(self, method: str) -> None:
        self.method = method
        self._seconds = telemetry.CALL_SECONDS.labels(method)
        self._counters: dict[str, Any] = {}
        self._refused, self._next_told = 0, 0.0

    def record(self, code: str, seconds: float, request_id: str, trace_id: str) -> None:
        counter = self._counters.get(code)
        if counter is None:
            counter = self._counters[code] = telemetry.CALLS.labels(self.method, code)
        counter.inc()
        self._seconds.observe(seconds)
        if code == _REFUSED:
            self._record_refusal()
            return
        ordinary = code in ("OK", "CANCELLED")
        if _LOG.isEnabledFor(logging.INFO if ordinary else logging.WARNING):
            level = "info" if ordinary else "warning"
            telemetry.CALL_LOG.add(level, self.method, code, round(seconds * 1000, 2), request_id, trace_id)

    def _record_refusal(self) -> None:
        self._refused += 1
        now = time.monotonic()
        if now >= self._next_told:
            _LOG.warning("calls refused", extra={"method": self.method, "code": _REFUSED, "calls": self._refused})
            self._refused, self._next_told = 0, now + _REFUSALS_TOLD_EVERY
