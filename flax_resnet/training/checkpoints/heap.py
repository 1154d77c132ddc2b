"""Freed memory that the C library keeps, given back to the system."""

import contextlib
import ctypes


def trim_heap() -> None:
    """Give freed memory back, where the C library is glibc.

    Saving happens in many threads, and glibc keeps what each of them freed for itself: a third of
    what a small run holds, and more from hour to hour.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Another library has no such.
        ctypes.CDLL(None).malloc_trim(0)
