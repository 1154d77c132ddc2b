"""Where metrics go: `metrics.jsonl` and TensorBoard, in the run's folder."""

import json
from pathlib import Path
from typing import Any, Protocol

from tensorboardX import SummaryWriter

Row = dict[str, Any]


class Writer(Protocol):
    """A sink for rows of metrics."""

    def write(self, row: Row) -> None:
        """Take a row: `kind`, `step`, and names with numbers."""

    def close(self) -> None:
        """Finish what is still to be written."""


class JsonLines:
    """Append rows to a file, one JSON object a line.

    Rows past `start` are left over from a run that died after its last checkpoint: the resumed
    run writes them again, so they are dropped first.
    """

    def __init__(self, path: Path, start: int) -> None:
        kept = [line for line in _lines(path) if _step(line) <= start]
        replacement = path.with_suffix(".tmp")
        replacement.write_text("".join(kept))
        replacement.replace(path)
        self._file = path.open("a")

    def write(self, row: Row) -> None:
        """Write a row at once: a run that dies loses no line."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Write numbers as scalars called `kind/name`; later ones replace those past `start`."""

    def __init__(self, folder: Path, start: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

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

    def __init__(self, workdir: Path, start: int, active: bool = True) -> None:
        self._writers: list[Writer] = []
        if active:
            self._writers = [
                JsonLines(workdir / "metrics.jsonl", start),
                TensorBoard(workdir / "tensorboard", start),
            ]

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Send a row to every sink."""
        for writer in self._writers:
            writer.write({"kind": kind, "step": step, **values})

    def close(self) -> None:
        """Close every sink."""
        for writer in self._writers:
            writer.close()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def _step(line: str) -> float:
    """Return a row's step; a line torn by a dying run counts as past every step."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
