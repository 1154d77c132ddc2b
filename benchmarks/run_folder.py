"""What the folder of a run shows to somebody outside, while the run goes and after."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
# Orbax writes into such a folder and renames it to the bare step when all is there.
_PARTIAL = ".orbax-checkpoint-tmp"


def whole_checkpoints(workdir: Path) -> list[int]:
    """Return the steps whose checkpoints are complete, in order."""
    return sorted(int(name) for name in _names(workdir) if name.isdigit())


def newest_checkpoint(workdir: Path) -> int:
    """Return the step that the run goes on from, 0 where nothing was saved."""
    return max(whole_checkpoints(workdir), default=0)


def partial_checkpoints(workdir: Path) -> list[int]:
    """Return the steps whose checkpoints are being written, or were when their run died."""
    steps = (name.partition(_PARTIAL) for name in _names(workdir))
    return sorted(int(step) for step, mark, _ in steps if mark and step.isdigit())


def reached(workdir: Path) -> int:
    """Return the last step that left a trace: a row, or a checkpoint, whole or not."""
    logged = [int(row["step"]) for row in _whole_rows(workdir)]
    saved = whole_checkpoints(workdir) + partial_checkpoints(workdir)
    return max(logged + saved, default=0)


def read_rows(workdir: Path) -> list[dict[str, Any]]:
    """Return the rows of the metrics.

    Raises:
      ValueError: a line is no JSON.
    """
    path = workdir / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _whole_rows(workdir: Path) -> Iterator[dict[str, Any]]:
    """Yield the last rows that are complete: the run may be writing one, and was cut off before."""
    path = workdir / METRICS
    for line in path.read_text().splitlines()[-2:] if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _names(workdir: Path) -> list[str]:
    try:
        return [path.name for path in (workdir / CHECKPOINTS).iterdir()]
    except FileNotFoundError:
        return []
