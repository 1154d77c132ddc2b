"""Ctrl-C and SIGTERM ask the loop to finish its step; only a second Ctrl-C cuts it short."""

import contextlib
import signal as signals
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(SystemExit):
    """Training was asked to stop and has saved; exits with 128 + the signal's number."""


class StopRequest:
    """The signal that asked for a stop, if any."""

    signal: signals.Signals | None = None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM instead of dying of them; other threads get an idle request."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is not None and number == signals.SIGINT:
            raise KeyboardInterrupt
        request.signal = signals.Signals(number)

    before = {number: signals.signal(number, note) for number in (signals.SIGINT, signals.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signals.signal(number, handler)
