"""Agreement among the processes of a run: on values, and on when to stop."""

import contextlib
import signal as signals
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from flax_resnet.interrupts import SIGNALS
from flax_resnet.steps.mesh import device_rows, put_batch

# Length of the text that is sent: a list of differing settings can be long.
_BYTES = 2**14


def from_first(text: str) -> str:
    """Return the text of process 0, in every process."""
    if jax.process_count() == 1:
        return text
    sent = np.zeros(_BYTES, np.uint8)
    encoded = np.frombuffer(text.encode()[:_BYTES], np.uint8)
    sent[: len(encoded)] = encoded
    received = np.asarray(multihost_utils.broadcast_one_to_all(sent))
    return received.tobytes().rstrip(b"\0").decode(errors="ignore")


def all_say(yes: bool) -> bool:
    """Return whether `yes` is true in every process."""
    if jax.process_count() == 1:
        return yes
    return bool(np.all(multihost_utils.process_allgather(np.asarray(yes))))


def meet(name: str) -> None:
    """Wait until every process has called this."""
    multihost_utils.sync_global_devices(name)


class Stopped(SystemExit):
    """Training was asked to stop and has saved; exits with status 75."""


class StopRequest:
    """A request to stop training, by a signal to any process."""

    def __init__(self) -> None:
        self.signal: signals.Signals | None = None
        self._agreed = False

    @property
    def asked(self) -> bool:
        """Return whether to stop now; the same in every process."""
        return self._agreed if jax.process_count() > 1 else self.signal is not None

    def put_batch(self, batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
        """Send a loader's batch to the devices, with this process's vote if there are several."""
        rows = device_rows(batch)
        if jax.process_count() > 1:
            rows["stop"] = np.full(len(batch["skipped"]), self.signal is not None)
        return put_batch(rows, mesh)

    def take_outcome(self, metrics: dict[str, Any]) -> None:
        """Remove the outcome of the vote from the metrics of a step, and remember it."""
        self._agreed |= bool(metrics.pop("stop", False))


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM, which then do not end the process; only in the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is not None and number == signals.SIGINT:
            raise KeyboardInterrupt
        request.signal = signals.Signals(number)

    before = {number: signals.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signals.signal(number, handler)
