"""Runs cases one after the other and says how each went, as lines of JSON; the test reads them."""

import json
import traceback
from collections.abc import Awaitable, Callable

failed = 0


def _say(name: str, error: str | None) -> None:
    global failed  # noqa: PLW0603 - the program's result
    failed += error is not None
    print(json.dumps({"name": name} | ({"error": error} if error else {})), flush=True)


def check(name: str, case: Callable[[], None]) -> None:
    """Runs a case; every call in it has a deadline, so it ends."""
    try:
        case()
        _say(name, None)
    except Exception:
        _say(name, traceback.format_exc())


async def check_async(name: str, case: Callable[[], Awaitable[None]]) -> None:
    """The same of a coroutine."""
    try:
        await case()
        _say(name, None)
    except Exception:
        _say(name, traceback.format_exc())
