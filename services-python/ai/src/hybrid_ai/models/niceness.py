"""Threads that give way to others where both want the same core. Only Linux knows a niceness for each thread."""

import os
import sys
import threading


def lower(by: int) -> None:
    """Lowers the priority of the calling thread; those that it starts inherit it."""
    if by and sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)
