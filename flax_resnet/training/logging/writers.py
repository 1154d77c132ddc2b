"""All logs of a run: `metrics.jsonl`, TensorBoard and Weights & Biases."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_resnet.errors import InputError, require_free, require_registered
from flax_resnet.files import replace_text
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.boards import Images, Row, TensorBoard, WeightsAndBiases, Writer


class JsonLines:
    """Append rows to a file, one JSON object a line.

    It starts with the rows of the checkpoint that the run resumes from: later rows of a killed run
    will be written again.
    """

    def __init__(self, path: Path, history: list[str]) -> None:
        replace_text(path, "".join(f"{line}\n" for line in history))
        self._file = path.open("a")
        self.lines = list(history)

    def write(self, row: Row) -> None:
        """Write a row immediately, so that a killed run loses none."""
        # JSON cannot represent values that are not finite.
        line = json.dumps(
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
        )
        self.lines.append(line)
        self._file.write(line + "\n")
        self._file.flush()

    def images(self, step: int, images: Images) -> None:
        """Ignore images."""

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Ignore distributions."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class OwnWriter:
    """A user-defined destination of rows, which needs only one method of `Writer`."""

    def __init__(self, given: Any) -> None:
        """Take an object with `write(row)`, or a function of a row."""
        write = getattr(given, "write", given)
        if not callable(write):
            raise InputError(f"the writer is {given!r}; expected an object with write(row)")
        self._given, self._write = given, write

    def write(self, row: Row) -> None:
        """Pass a row on."""
        self._write(row)

    def images(self, step: int, images: Images) -> None:
        """Pass images on where they are taken."""
        self._call("images", step, images)

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Pass arrays on where they are taken."""
        self._call("histograms", step, arrays)

    def close(self) -> None:
        """Close it where it can be closed."""
        self._call("close")

    def _call(self, method: str, *values: Any) -> None:
        function = getattr(self._given, method, None)
        if function is not None:
            function(*values)


MakeWriter = Callable[[Path, TrainConfig], Any]
# What `config.logging.writer` can name.
WRITERS: dict[str, MakeWriter] = {}


def register_writer(name: str, make: MakeWriter) -> None:
    """Add a writer of metrics of your own under a name for `config.logging.writer`.

    Args:
      make: `(workdir, config) -> writer`, an object with `write(row)` and, if it likes, `images`,
        `histograms` and `close`; or a function of a row. A row has `kind` (train, eval or test),
        `step` and numbers by name.

    Raises:
      InputError: the name cannot be used.
    """
    require_free("a writer", name, WRITERS, WRITERS)
    WRITERS[name] = make


def find_writer(config: TrainConfig) -> MakeWriter | None:
    """Return what makes the writer that the settings name; None if they name none."""
    name = config.logging.writer
    if name is None:
        return None
    require_registered("config.logging.writer", name, WRITERS, register_writer.__name__)
    return WRITERS[name]


class Writers:
    """All logs of a run together; none in processes that do not write."""

    def __init__(
        self,
        workdir: Path,
        config: TrainConfig,
        start: int = 0,
        history: list[str] | None = None,
        active: bool = True,
        own: Any = None,
    ) -> None:
        """Open the logs of a run that resumes from step `start` with the rows `history`.

        Args:
          own: a user-defined writer.

        Raises:
          InputError: one cannot be opened.
        """
        self._workdir = workdir
        self._rows: JsonLines | None = None
        self._writers: list[Writer] = []
        if not active:
            return
        with self._explained():
            self._rows = JsonLines(workdir / "metrics.jsonl", history or [])
            self._writers = [self._rows, TensorBoard(workdir / "tensorboard", start)]
            if config.logging.wandb is not None:
                board = WeightsAndBiases(config.logging.wandb, workdir, config.to_dict())
                self._writers.append(board)
        if (make := find_writer(config)) is not None:
            self._writers.append(OwnWriter(make(workdir, config)))
        if own is not None:
            self._writers.append(OwnWriter(own))

    @property
    def history(self) -> list[str]:
        """Return the rows so far, as lines of JSON."""
        return list(self._rows.lines) if self._rows else []

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Send a row to every log.

        Raises:
          InputError: it cannot be written.
        """
        self._each(lambda writer: writer.write({"kind": kind, "step": step, **values}))

    def images(self, step: int, images: Images) -> None:
        """Send images to every log, with the errors of `write`."""
        self._each(lambda writer: writer.images(step, images))

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Send the values of arrays to every log, with the errors of `write`."""
        self._each(lambda writer: writer.histograms(step, arrays))

    def close(self) -> None:
        """Close every log."""
        for writer in self._writers:
            with contextlib.suppress(OSError):  # `write` has reported the error.
                writer.close()

    def _each(self, send: Callable[[Writer], None]) -> None:
        with self._explained():
            for writer in self._writers:
                send(writer)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"metrics could not be written to {self._workdir}: {error.strerror or error}. Free "
                "some space, or fix the cause, and run the same command again"
            ) from error


def read_rows(workdir: Path) -> list[Row]:
    """Return the rows of a run's metrics; an incomplete line of a killed run is left out."""
    rows = []
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
