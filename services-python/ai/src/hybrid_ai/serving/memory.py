"""Keeps what the process holds near to what it uses: glibc keeps freed memory for itself, in a heap for each thread."""

import ctypes

_libc = ctypes.CDLL(None)
# mallopt's M_ARENA_MAX, and how many heaps the threads share. Eight for each core, as it is by itself, hold 30 MB more.
_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> None:
    """To be called before threads are started. Does nothing where the C library is another one."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Takes some milliseconds. Does nothing where the C library is another one."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
