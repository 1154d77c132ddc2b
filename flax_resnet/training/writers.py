"""Where metrics go: `metrics.jsonl` and TensorBoard, in the run's folder."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from tensorboardX import SummaryWriter

from flax_resnet.errors import InputError
from flax_resnet.files import replace_text

Row = dict[str, Any]


class Writer(Protocol):
    """A sink for rows of metrics."""

    def write(self, row: Row) -> None:
        """Take a row: `kind`, `step`, and names with numbers."""

    def close(self) -> None:
        """Finish what is still to be written."""


class JsonLines:
    """Append rows to a file, one JSON object a line.

    It starts with the rows of the checkpoint that the run goes on from: what a dead run wrote
    after it will be written again.
    """

    def __init__(self, path: Path, history: list[str]) -> None:
        replace_text(path, "".join(f"{line}\n" for line in history))
        self._file = path.open("a")
        self.lines = list(history)

    def write(self, row: Row) -> None:
        """Write a row at once: a run that dies loses no line."""
        # JSON has no word for what is not finite.
        line = json.dumps(
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
        )
        self.lines.append(line)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Write numbers as scalars called `kind/name`; later ones replace those past `start`."""

    def __init__(self, folder: Path, start: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def write(self, row: Row) -> None:
        """Write every number of a row."""
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Writers:
    """All sinks of a run as one; none where this process is not the one that writes."""

    def __init__(
        self, workdir: Path, start: int, history: list[str] | None = None, active: bool = True
    ) -> None:
        self._workdir = workdir
        self._rows: JsonLines | None = None
        self._board: TensorBoard | None = None
        if active:
            with self._explained():
                self._rows = JsonLines(workdir / "metrics.jsonl", history or [])
                self._board = TensorBoard(workdir / "tensorboard", start)

    @property
    def history(self) -> list[str]:
        """Return the rows so far, as lines of JSON."""
        return list(self._rows.lines) if self._rows else []

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Send a row to every sink.

        Raises:
          InputError: it cannot be written.
        """
        with self._explained():
            for writer in self._writers():
                writer.write({"kind": kind, "step": step, **values})

    def close(self) -> None:
        """Close every sink."""
        for writer in self._writers():
            with contextlib.suppress(OSError):  # What cannot be written was told by `write`.
                writer.close()

    def _writers(self) -> list[Writer]:
        return [writer for writer in (self._rows, self._board) if writer is not None]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"metrics could not be written to {self._workdir}: {error.strerror or error}. Make "
                "room, or mend what is wrong, and run the same command again"
            ) from error
