"""What Ctrl-C and SIGTERM do to a program: one line and status 75, from its first line to its last.

A program ends at once while it is loaded and while it exits, when nothing is at stake: an exception
would appear as a traceback of whatever was running. While a command runs, it is unwound by
`KeyboardInterrupt`. Training takes over both signals, in order to save.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

# EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later.
EXIT_STOPPED = 75
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LINE = "interrupted: the same command starts again, or continues from what is complete"


def end_at_once() -> None:
    """Let both signals end this process without unwinding it."""
    for number in SIGNALS:
        signal.signal(number, _end)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let both signals raise `KeyboardInterrupt` in this context; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, _raise_later
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"{LINE}\n".encode())
    os._exit(EXIT_STOPPED)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _raise_later(unraisable: Any) -> None:
    # Python swallows an exception in a destructor or a callback of the garbage collector.
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # From another thread, so that it arrives after this function.
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)
