"""Log metrics from the device without making a step wait."""

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax

from flax_resnet.steps.tasks.table import Metrics
from flax_resnet.training.cluster.agreement import StopRequest
from flax_resnet.training.logging.display import Display
from flax_resnet.training.logging.writers import Writers

# Steps whose metrics are still on the device. Older ones are already computed when they are read;
# reading them also keeps the host from running ahead of the device without bound.
LAG = 2
MEANS = ("loss", "accuracy")


class NonFiniteError(Exception):
    """The loss or gradient of update number `step` is not finite."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class TrainingLog:
    """Average the metrics of `every` steps and send them to the writers and the display."""

    def __init__(
        self,
        writers: Writers,
        display: Display,
        request: StopRequest,
        *,
        every: int,
        batch_size: int,
        epoch_steps: float,
        max_nonfinite: int = 0,
        carried: dict[str, Any] | None = None,
    ) -> None:
        """Continue from `carried`, the state of the log at a checkpoint."""
        self._writers, self._display, self._request = writers, display, request
        self._every, self._batch_size, self._epoch_steps = every, batch_size, epoch_steps
        self._max_nonfinite = max_nonfinite
        self._pending: deque[tuple[int, Metrics]] = deque()
        carried = carried or {"window": [], "skipped": 0}
        self._window: list[dict[str, float]] = list(carried["window"])
        self._skipped = int(carried["skipped"])
        # The duration of steps before a restart is unknown.
        self._untimed = len(self._window)
        self._since = time.perf_counter()

    def carried(self) -> dict[str, Any]:
        """Return the state of the log, as JSON values."""
        return {"window": list(self._window), "skipped": self._skipped}

    def add(self, step: int, metrics: Metrics, skipped: int = 0) -> None:
        """Take the metrics of update number `step`, counted from 1.

        Args:
          skipped: records of its batch that could not be decoded.
        """
        self._skipped += skipped
        self._pending.append((step, metrics))
        while len(self._pending) > LAG:
            self._read()

    def flush(self) -> None:
        """Read all metrics from the device; return when the last step is done."""
        while self._pending:
            self._read()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time in this context from the images per second."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def _read(self) -> None:
        step, metrics = self._pending.popleft()
        values = {key: float(value) for key, value in jax.device_get(metrics).items()}
        self._request.take_outcome(values)
        if values.pop("nonfinite") > self._max_nonfinite:
            raise NonFiniteError(step)
        self._window.append(values)
        self._display.advance(step)
        if step % self._every == 0:
            self._emit(step)

    def _emit(self, step: int) -> None:
        now = time.perf_counter()
        timed = len(self._window) - self._untimed
        row = dict(self._window[-1])
        for key in MEANS:
            # A skipped update has no finite value.
            finite = [values[key] for values in self._window if math.isfinite(values[key])]
            row[key] = sum(finite) / len(finite) if finite else math.nan
        row["epoch"] = step / self._epoch_steps
        row["images_per_second"] = speed = timed * self._batch_size / (now - self._since)
        row["skipped"] = self._skipped
        self._writers.write("train", step, row)
        self._display.log(step, row["epoch"], row["loss"], row["accuracy"], speed)
        self._window, self._untimed, self._since = [], 0, now
