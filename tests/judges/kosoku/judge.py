"""Runs cases against a WebSocket server: python judge.py <host:port/path> [case…]. One line of JSON for each.

Without a case it runs them all, but of those on compression the first of each group: what they send takes half an hour.
"""

import asyncio
import json
import sys

from kosoku import FailureError, run_fuzzingclient

LONG = [f"12.{group}.*" for group in range(2, 6)] + [f"13.{group}.*" for group in range(2, 8)]
# Cases at a time. They wait for each other's closing handshakes more than for a processor.
AT_ONCE = 4


async def main() -> None:
    """How the cases came out stands in the failure, too, when some failed."""
    address, *cases = sys.argv[1:]
    try:
        results = await run_fuzzingclient(address, cases or None, None if cases else LONG, concurrency=AT_ONCE)
    except FailureError as failure:
        results = failure.results
    for case in results:
        words = {"behavior": case.behavior.value, "close": case.behavior_close.value}
        print(
            json.dumps({"case": case.case_id} | words | {"result": case.result, "resultClose": case.result_close}),
            flush=True,
        )


asyncio.run(main())
