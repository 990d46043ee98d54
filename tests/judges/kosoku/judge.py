"""Runs every case against a WebSocket server: python judge.py <host:port/path>. One line of JSON for each."""

import asyncio
import json
import sys

from kosoku import FailureError, run_fuzzingclient

# Cases at a time. They wait for each other's closing handshakes more than for a processor.
AT_ONCE = 4


async def main() -> None:
    """All cases; how they came out stands in the failure, too, when some failed."""
    try:
        results = await run_fuzzingclient(sys.argv[1], concurrency=AT_ONCE)
    except FailureError as failure:
        results = failure.results
    for case in results:
        words = {"behavior": case.behavior.value, "close": case.behavior_close.value}
        print(json.dumps({"case": case.case_id} | words | {"result": case.result, "resultClose": case.result_close}))


asyncio.run(main())
