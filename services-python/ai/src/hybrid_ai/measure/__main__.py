"""Runs a measurement: python -m hybrid_ai.measure NAME [--json] [its options]. NAME is a module beside this one.

Each such module has `main(arguments) -> dict`; the figures are printed, for people or as one JSON document.
"""

import importlib
import json
import pkgutil
import sys

from hybrid_ai import measure


def main() -> int:
    modules = [found.name for found in pkgutil.iter_modules(measure.__path__)]
    names = [name for name in modules if name not in ("__main__", "common", "corpus")]
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"python -m hybrid_ai.measure NAME [--json]; NAME is one of {', '.join(names)}", file=sys.stderr)
        return 2
    arguments = sys.argv[2:]
    figures = importlib.import_module(f"hybrid_ai.measure.{sys.argv[1]}").main([a for a in arguments if a != "--json"])
    if "--json" in arguments:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<40} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
