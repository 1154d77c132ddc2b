"""Which numbers of processes are compared, and whether two runs were the same training."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.batch_record import Record, compare_streams, merge

Row = dict[str, Any]

# So long what is rounded otherwise stays small.
FLOAT32_STEPS = 20


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
      processes: how many train it, one number after the other.
      devices: of each process.
      dtype: float64 or float32, in which the network computes.
    """

    processes: tuple[int, ...]
    devices: int
    dtype: str = "float64"

    @property
    def name(self) -> str:
        """Return what it is called where something is wrong with it."""
        counts = " then ".join(map(str, self.processes))
        return f"processes {counts}, devices {self.devices}, {self.dtype}"

    @property
    def compared_steps(self) -> int | None:
        """Return how many steps must have the same loss; None: all, and the same accuracy."""
        return FLOAT32_STEPS if self.dtype == "float32" else None

    @property
    def slug(self) -> str:
        """Return its folder's name."""
        return re.sub(r"\W+", "-", self.name)


# Of each dtype, the first run is what the others are held to.
CASES = (
    Case((1,), 1),
    Case((1,), 2),
    Case((2,), 1),
    Case((2,), 2),
    Case((4,), 1),
    Case((4,), 2),
    Case((4, 2, 1), 1),
    Case((1,), 1, "float32"),
    Case((2,), 2, "float32"),
)
QUICK_CASES = (Case((1,), 1), Case((2,), 1))


@dataclass(frozen=True)
class Outcome:
    """What a run left: the rows of its metrics, and by process what each noted in each life."""

    rows: Sequence[Row]
    records: Mapping[int, Sequence[Record]]


def compare(
    expected: Outcome,
    found: Outcome,
    images: Mapping[str, int],
    bound: float,
    steps: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of a run beside those of another, and where it is not the same training.

    Args:
      images: how many there are to be evaluated, by kind of row.
      bound: of the losses' relative difference.
      steps: so many have to have the same losses, and accuracies if any; None: all.
    """
    stream, _ = merge(_all(expected))
    stream_found, faults = merge(_all(found))
    faults += compare_streams(stream, stream_found)
    faults += compare_accuracies(_until(steps, expected.rows), _until(steps, found.rows))
    faults += compare_counts(found.rows, images)
    difference = loss_difference(_until(steps, expected.rows), _until(steps, found.rows))
    if difference > bound:
        faults.append(f"the losses differ by {difference:.1e}, bound {bound:.0e}")
    names, names_found = ([_name(row) for row in rows] for rows in (expected.rows, found.rows))
    if names != names_found:
        faults.append(f"{len(names_found)} rows of metrics, expected each of {len(names)} once")
    writers = [index for index, noted in found.records.items() if any(x["writes"] for x in noted)]
    if writers != [0]:
        faults.append(f"metrics were written by processes {writers}, expected 0 alone")
    last = {row["kind"]: row for row in found.rows}
    figures = {
        "same_examples": sum(stream.get(at) == row for at, row in stream_found.items()),
        "loss_difference": loss_difference(expected.rows, found.rows),
        "losses": list(losses(found.rows).values()),
        "accuracy": {kind: last[kind]["top1"] for kind in images if kind in last},
        "images": {kind: last[kind]["count"] for kind in images if kind in last},
        "rows": len(found.rows),
        "writers": writers,
    }
    return figures, faults


def losses(rows: Sequence[Row]) -> dict[int, float]:
    """Return the loss of every step."""
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def loss_difference(expected: Sequence[Row], found: Sequence[Row]) -> float:
    """Return the largest relative difference of two curves, where both have a loss."""
    curve, curve_found = losses(expected), losses(found)
    both = curve.keys() & curve_found.keys()
    return max((abs(curve_found[at] / curve[at] - 1) for at in both), default=0.0)


def compare_accuracies(expected: Sequence[Row], found: Sequence[Row]) -> list[str]:
    """Return whether evaluations have another accuracy."""
    accuracy, accuracy_found = (
        {_name(row): row["top1"] for row in rows if "top1" in row} for rows in (expected, found)
    )
    if accuracy == accuracy_found:
        return []
    return [f"accuracies {json.dumps(accuracy_found)}, expected {json.dumps(accuracy)}"]


def compare_counts(rows: Sequence[Row], images: Mapping[str, int]) -> list[str]:
    """Return which evaluations counted other than every image once."""
    return [
        f"{_name(row)} counted {row['count']:.0f} images, expected {images[row['kind']]}"
        for row in rows
        if row["kind"] in images and row["count"] != images[row["kind"]]
    ]


def _until(steps: int | None, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if steps is None or row["step"] <= steps]


def _all(outcome: Outcome) -> list[Record]:
    return [record for records in outcome.records.values() for record in records]


def _name(row: Row) -> str:
    return f"{row['kind']} {row['step']}"
