"""For whom work is done, until when, and how urgently: set once for each call, read wherever its work is queued.

A context variable, so that what lies between a service and a model need not pass it on. Work of the service itself
(indexing its own documents, say) has no caller and no deadline.
"""

import enum
import math
from contextvars import ContextVar
from typing import NamedTuple


class Priority(enum.IntEnum):
    """What goes first. Bulk work still gets a share (see queue.py)."""

    INTERACTIVE = 0
    BULK = 1


class Caller(NamedTuple):
    """`deadline` is a moment of time.monotonic(). Without a priority, the model decides by the work's size.

    `alone`: one answer is wanted, and no other call was being answered when this one came.
    """

    subject: str = ""
    deadline: float = math.inf
    priority: Priority | None = None
    alone: bool = False


NOBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
