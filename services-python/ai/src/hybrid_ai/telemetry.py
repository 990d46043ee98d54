"""Metrics and logs. No text of a user's is ever part of either.

Metrics are Prometheus' own, served by a thread of theirs, so they answer even when the event loop does not.
"""

import asyncio
import json
import logging
import sys
import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

CALLS = Counter("ai_calls", "Calls that ended, by method and gRPC status", ["method", "code"])
CALL_SECONDS = Histogram("ai_call_seconds", "Time of a call", ["method"], buckets=_SECONDS)
QUEUED_ITEMS = Gauge("ai_queued_items", "Items that wait for a model", ["model"], multiprocess_mode="livesum")
QUEUE_SECONDS = Histogram("ai_queue_seconds", "Time an item waited for its model", ["model"], buckets=_SECONDS)
BATCH_ITEMS = Histogram("ai_batch_items", "Items in one run of a model", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64))
INFERENCE_SECONDS = Histogram("ai_inference_seconds", "Time of one run of a model", ["model"], buckets=_SECONDS)
TOKENS = Counter("ai_tokens", "Tokens read or written by a model", ["model", "direction"])
TOKENS_PER_SECOND = Gauge(
    "ai_tokens_per_second", "Speed of a model's last run", ["model"], multiprocess_mode="livemostrecent"
)
GENERATIONS_ACTIVE = Gauge("ai_generations_active", "Generations that run now", multiprocess_mode="livesum")
CANCELLED = Counter("ai_cancelled", "Work stopped because its caller went away, by stage", ["stage"])
REJECTED = Counter("ai_rejected", "Jobs refused or dropped by a queue, by reason", ["model", "reason"])
WORKER_CRASHES = Counter("ai_worker_crashes", "Processes of a pool that ended while they were needed", ["pool"])
INDEX_DOCUMENTS = Gauge("ai_index_documents", "Documents in the index", multiprocess_mode="livemax")
INDEX_PASSAGES = Gauge("ai_index_passages", "Passages in the index", multiprocess_mode="livemax")
LOOP_LAG_SECONDS = Histogram("ai_event_loop_lag_seconds", "How late the event loop ran a timer", buckets=_SECONDS)

for _stage in ("queued", "tokens", "kernel"):
    CANCELLED.labels(_stage)

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | frozenset({"message", "asctime", "taskName"})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN and value not in (None, "")}


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _local(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = f"{_utc(record.created)}.{int(record.msecs):03d}Z"
        line = {"time": moment, "level": record.levelname.lower(), "service": "ai"}
        line |= {"message": record.getMessage()} | _fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Human(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={value}" for key, value in _fields(record).items())
        text = f"{_local(record.created)} {record.levelname.lower():<7} {record.getMessage()}{pairs}"
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class CallLog:
    """The lines of calls, as the formatters above write them, but by hand: a record for each took a tenth of a short
    call. Those of one turn of the event loop are written together, on its next.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.use("json")

    def use(self, form: str) -> None:
        """`json` or `human`."""
        self._line, self._moment = (self._json, _utc) if form == "json" else (self._human, _local)
        self._second, self._prefix = 0, ""

    def add(self, level: str, method: str, code: str, milliseconds: float, request_id: str, trace_id: str) -> None:
        """On the event loop. Nothing in these values needs to be escaped: they are checked where they come in."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._prefix = self._moment(now)
        self._lines.append(self._line(now, level, method, code, milliseconds, request_id, trace_id))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is held."""
        text = "\n".join([*self._lines, ""])
        self._lines.clear()
        sys.stderr.write(text)
        sys.stderr.flush()

    def _json(self, now: float, level: str, method: str, code: str, ms: float, request: str, trace: str) -> str:
        ids = (f', "request_id": "{request}"' if request else "") + (f', "trace_id": "{trace}"' if trace else "")
        head = f'{{"time": "{self._prefix}.{int(now % 1 * 1000):03d}Z", "level": "{level}", "service": "ai"'
        return f'{head}, "message": "call", "method": "{method}", "code": "{code}", "ms": {ms}{ids}}}'

    def _human(self, now: float, level: str, method: str, code: str, ms: float, request: str, trace: str) -> str:
        ids = (f" request_id={request}" if request else "") + (f" trace_id={trace}" if trace else "")
        return f"{self._prefix} {level:<7} call method={method} code={code} ms={ms}{ids}"


CALL_LOG = CallLog()


def configure_logging(form: str, level: str) -> None:
    """One line for each record on standard error, as JSON or for people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Human())
    CALL_LOG.use(form)
    # What no line shows costs nothing: where it was logged (as Python's guide to logging has it), threads, processes.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    logging.basicConfig(level={"warn": "WARNING"}.get(level, level.upper()), handlers=[handler], force=True)
