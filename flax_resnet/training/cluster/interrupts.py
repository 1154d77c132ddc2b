"""Ctrl-C and SIGTERM ask the loop to finish its step; only a second Ctrl-C cuts it short.

Several processes have to stop at the same step, whichever of them was asked. Each sends its vote
along with its rows of every batch; the jitted step joins them, so all learn of a vote at once.
"""

import contextlib
import signal as signals
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
import numpy as np

# EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later.
EXIT_STOPPED = 75


class Stopped(SystemExit):
    """Training was asked to stop and has saved; exits with status 75."""


class StopRequest:
    """Whether training was asked to stop."""

    def __init__(self) -> None:
        self.signal: signals.Signals | None = None
        self._agreed = False

    @property
    def asked(self) -> bool:
        """Say whether to stop now; the same in every process."""
        return self._agreed if jax.process_count() > 1 else self.signal is not None

    def votes(self, rows: int) -> dict[str, np.ndarray]:
        """Return what to send along with so many rows of a batch; nothing from a lone process."""
        if jax.process_count() == 1:
            return {}
        return {"stop": np.full(rows, self.signal is not None)}

    def count(self, metrics: dict[str, Any]) -> None:
        """Take the outcome of a vote out of what a step returned."""
        self._agreed |= bool(metrics.pop("stop", False))


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
