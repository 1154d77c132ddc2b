"""From metrics on the device to rows and bars, without making a step wait."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator

import jax

from flax_resnet.errors import InputError
from flax_resnet.training.display import Display
from flax_resnet.training.tasks import Metrics
from flax_resnet.training.writers import Writers

# Steps whose metrics are still on the device. Reading older ones than that finds them computed;
# it also keeps the host from running ahead of the device without bound.
LAG = 2
MEANS = ("loss", "accuracy")


class TrainingLog:
    """Average the metrics of `every` steps and send them to the writers and the display."""

    def __init__(
        self, writers: Writers, display: Display, *, every: int, batch_size: int, epoch_steps: float
    ) -> None:
        self._writers, self._display = writers, display
        self._every, self._batch_size, self._epoch_steps = every, batch_size, epoch_steps
        self._pending: deque[tuple[int, Metrics]] = deque()
        self._window: list[dict[str, float]] = []
        self._skipped = 0
        self._since = time.perf_counter()

    def add(self, step: int, metrics: Metrics, skipped: int = 0) -> None:
        """Take the metrics of the update that made `step` the number of updates done.

        Args:
          skipped: records of its batch that could not be decoded.
        """
        self._skipped += skipped
        self._pending.append((step, metrics))
        while len(self._pending) > LAG:
            self._read()

    def flush(self) -> None:
        """Read what is still on the device; returns when the last step is done."""
        while self._pending:
            self._read()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time that passes inside out of the images per second."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def _read(self) -> None:
        step, metrics = self._pending.popleft()
        values = {key: float(value) for key, value in jax.device_get(metrics).items()}
        if values["loss"] != values["loss"] or abs(values["loss"]) == float("inf"):
            raise InputError(
                f"the loss is {values['loss']} at step {step}: the run stops here and its last "
                "checkpoint stays; a lower config.schedule.learning_rate or a longer warm-up "
                "usually helps"
            )
        self._window.append(values)
        self._display.advance(step)
        if step % self._every == 0:
            self._emit(step)

    def _emit(self, step: int) -> None:
        now = time.perf_counter()
        count = len(self._window)
        row = dict(self._window[-1])
        for key in MEANS:
            row[key] = sum(values[key] for values in self._window) / count
        row["epoch"] = step / self._epoch_steps
        row["images_per_second"] = speed = count * self._batch_size / (now - self._since)
        row["skipped"] = self._skipped
        self._writers.write("train", step, row)
        self._display.log(step, row["epoch"], row["loss"], row["accuracy"], speed)
        self._window, self._since = [], now
