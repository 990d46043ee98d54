"""Runs a measurement; see the package's description."""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_ai.measure import answer, search, serving
from hybrid_ai.measure.common import stolen_seconds

_MEASURES: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    name: functools.partial(serving.main, name) for name in serving.MEASURES
} | {"answer": answer.main, "search": search.main}


def main() -> int:
    parser = argparse.ArgumentParser(prog="hybrid_ai.measure", add_help=False)
    parser.add_argument("what", choices=sorted(_MEASURES))
    parser.add_argument("--json", default="", metavar="FILE", help="writes the figures to a file, too")
    known, rest = parser.parse_known_args()
    started, stolen = time.perf_counter(), stolen_seconds()
    report = _MEASURES[known.what](rest)
    # Latencies and rates of a minute in which the host gave the cores to others say little about the service.
    share = (stolen_seconds() - stolen) / (time.perf_counter() - started) / (os.cpu_count() or 1)
    text = json.dumps(report | {"stolen_share_of_cores": round(share, 3)}, indent=2)
    if known.json:
        Path(known.json).write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
