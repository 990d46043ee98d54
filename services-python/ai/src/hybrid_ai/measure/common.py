"""What measurements share: percentiles, this process' memory, and the machine's load while they ran."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hybrid_ai import config


def percentiles(milliseconds: Sequence[float], shares: Sequence[int] = (50, 99)) -> dict[str, float]:
    """Times by the share of them that are no longer, by nearest rank."""
    ordered = sorted(milliseconds)
    at = {share: ordered[min(len(ordered) - 1, -(-share * len(ordered) // 100) - 1)] for share in shares}
    return {f"p{share}_ms": round(value, 2) for share, value in at.items()}


def environment() -> dict[str, float]:
    """What figures depend on besides the code: how busy the machine was, on how many cores."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss MB": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "load average of the last minute": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count() or 1,
    }


def stolen_seconds() -> float:
    """What the machine's host has withheld from its cores since it started; 0 where it is no virtual one."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def settings(**overrides: str) -> config.Config:
    """The configuration of the environment, with a secret that nobody else knows."""
    secret = {"SERVICE_SECRET": os.urandom(32).hex(), "SERVICE_SECRET_FILE": ""}
    return config.load(os.environ | secret | overrides)


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)
