"""Runs a measurement; see the package's description."""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_ai.measure import answer, search, serving

_MEASURES: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    name: functools.partial(serving.main, name) for name in serving.MEASURES
} | {"answer": answer.main, "search": search.main}


def main() -> int:
    parser = argparse.ArgumentParser(prog="hybrid_ai.measure", add_help=False)
    parser.add_argument("what", choices=sorted(_MEASURES))
    parser.add_argument("--json", default="", metavar="FILE", help="writes the figures to a file, too")
    known, rest = parser.parse_known_args()
    text = json.dumps(_MEASURES[known.what](rest), indent=2)
    if known.json:
        Path(known.json).write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
