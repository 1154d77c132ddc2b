"""Train the same recipe with one process and with several, and check that the training is the same.

`train.py` trains on the digits with 1, 2 and 4 processes that have 1 or 2 devices each, and with
4, then 2, then 1 processes that continue each other's run. All processes are on this machine, and
their devices are parts of its CPU; they sum over gloo as hosts would over a network. Each run is
compared with the run on one process and one device: the examples of every global batch (records,
order, pixels after augmentation), the loss of every step, the accuracy, the number of evaluated
images, and which processes wrote the metrics.

The network computes in float64. In float32 the losses agree for only about 20 steps, and no more is
required of the two float32 runs at the end of the table: gradients and batch-norm statistics are
sums over devices, a different order rounds differently, and training amplifies the difference
without bound. The exit status is 1 if anything else differs, or if losses differ by more than
--bound.
"""

import argparse
import dataclasses
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    add_result_options,
    record_environment,
    result_path,
    shown,
    write_json,
)
from benchmarks.training_run import read_rows, run_variables, start_together, wait_for_all
from flax_resnet.data import open_source
from flax_resnet.training.parsing import parse
from tests.endurance.batch_record import (
    RECORD,
    Record,
    compare_streams,
    get_config,
    merge,
    read_records,
)

Row = dict[str, Any]

# For this many steps rounding differences stay small.
FLOAT32_STEPS = 20


@dataclass(frozen=True)
class Case:
    """A run to compare.

    Attributes:
      processes: the numbers of processes that train it in turn.
      devices: number per process.
      dtype: the dtype in which the network computes, float64 or float32.
    """

    processes: tuple[int, ...]
    devices: int
    dtype: str = "float64"

    @property
    def name(self) -> str:
        """Return its name in messages."""
        counts = " then ".join(map(str, self.processes))
        return f"processes {counts}, devices {self.devices}, {self.dtype}"

    @property
    def compared_steps(self) -> int | None:
        """Return the number of steps that must have the same loss; None: all, and accuracy."""
        return FLOAT32_STEPS if self.dtype == "float32" else None

    @property
    def slug(self) -> str:
        """Return its folder's name."""
        return re.sub(r"\W+", "-", self.name)


# The first run of each dtype is the reference for the others.
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
    """The result of a run: its metrics, and the records of each process and life."""

    rows: Sequence[Row]
    records: Mapping[int, Sequence[Record]]


def compare(
    expected: Outcome,
    found: Outcome,
    images: Mapping[str, int],
    bound: float,
    steps: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Compare a run with the reference; return its numbers, and how its training differs.

    Args:
      images: the number of images to evaluate, by kind of row.
      bound: largest allowed relative difference of losses.
      steps: the number of first steps that must have the same losses and accuracies; None: all.
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
    """Return the largest relative difference of two loss curves at their common steps."""
    curve, curve_found = losses(expected), losses(found)
    both = curve.keys() & curve_found.keys()
    return max((abs(curve_found[at] / curve[at] - 1) for at in both), default=0.0)


def compare_accuracies(expected: Sequence[Row], found: Sequence[Row]) -> list[str]:
    """Return a fault if evaluations have different accuracies."""
    accuracy, accuracy_found = (
        {_name(row): row["top1"] for row in rows if "top1" in row} for rows in (expected, found)
    )
    if accuracy == accuracy_found:
        return []
    return [f"accuracies {json.dumps(accuracy_found)}, expected {json.dumps(accuracy)}"]


def compare_counts(rows: Sequence[Row], images: Mapping[str, int]) -> list[str]:
    """Return which evaluations did not count every image once."""
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


STEPS, QUICK_STEPS = 100, 6
# With more processes than cores each one is slow, which must not count as lost.
LIMIT_S, PATIENCE_S = 1200.0, 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare; print a table and the verdict and write the JSON."""
    options = _parser().parse_args(arguments)
    options.steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    environment = record_environment(options.note)
    with tempfile.TemporaryDirectory() as name:
        folder = (options.keep or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        results = run_all(options, folder)
    result = {
        "benchmark": "processes",
        "settings": _settings(options),
        "bound": options.bound,
        "environment": environment,
        "runs": results,
    }
    kind = f"{'quick ' if options.quick else ''}processes"
    target = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    path = result_path(target, kind, f"{environment['cores']} cores")
    write_json(path, result)
    console = Console()
    console.print(_table(results))
    faults = [f"{run['name']}: {fault}" for run in results for fault in run["faults"]]
    for fault in faults:
        console.print(fault, style="red", markup=False, highlight=False)
    if not faults:
        largest = max(run["loss_difference"] for run in results if run["dtype"] == "float64")
        console.print(
            f"the same training, however many processes: in float64 the losses differ by "
            f"{largest:.1e} at most, bound {options.bound:.0e}; process 0 wrote all metrics, once",
            style="green",
            highlight=False,
        )
    console.print(f"written to {shown(path)}")
    return 1 if faults else 0


def run_all(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return the result of each case as JSON values.

    Raises:
      SystemExit: a reference run failed.
    """
    config = parse(get_config())
    splits = {"eval": config.data.eval_split, "test": str(config.data.test_split)}
    images = {kind: len(open_source(config.data, split)) for kind, split in splits.items()}
    results, references = list[dict[str, Any]](), dict[str, Outcome]()
    for case in QUICK_CASES if options.quick else CASES:
        began = time.monotonic()
        outcome, faults = _run(case, options, folder)
        seconds = time.monotonic() - began
        expected = references.setdefault(case.dtype, outcome)
        if expected is outcome and faults:
            raise SystemExit(f"{case.name}: {'; '.join(faults)}")
        figures, differences = compare(
            expected, outcome, images, options.bound, case.compared_steps
        )
        run = {"name": case.name, **dataclasses.asdict(case), **figures, "seconds": seconds}
        results.append({**run, "faults": faults + differences})
        print(f"{case.name}: {seconds:.0f} s", flush=True)
    return results


def _run(case: Case, options: argparse.Namespace, folder: Path) -> tuple[Outcome, list[str]]:
    """Train with each number of processes in turn; return the outcome, and faults."""
    workdir, logs = folder / case.slug, folder / f"{case.slug}-logs"
    logs.mkdir()
    variables = run_variables("cpu", folder / "cache")
    variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={case.devices}"
    variables["JAX_ENABLE_X64"] = str(int(case.dtype == "float64"))
    settings = [
        *_settings(options),
        f"--config.model.dtype={case.dtype}",
        f"--workdir={workdir}",
        f"--patience={PATIENCE_S}",
    ]
    faults: list[str] = []
    for life, count in enumerate(case.processes):
        stop = options.steps * (life + 1) // len(case.processes)
        records = [logs / f"{life}-{index}.json" for index in range(count)]
        processes = start_together(
            [*settings, f"--stop_after={stop}"],
            logs / str(life),
            [{**variables, RECORD: str(record)} for record in records],
        )
        faults += wait_for_all(processes, LIMIT_S)
    return Outcome(read_rows(workdir), read_records(logs)), faults


def _settings(options: argparse.Namespace) -> list[str]:
    settings = {
        "steps": options.steps,
        "log_every": 1,
        "eval_every_epochs": 2.0,
        "test_when_done": True,
        # Divides neither split, so the last batch is partly padding.
        "data.eval_batch_size": 64,
    }
    own = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["--config=tests/endurance/batch_record.py", *own]


def _table(results: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="the same training, by processes and devices")
    table.add_column("processes\nx devices", no_wrap=True)
    figures = ("examples\nthe same", "losses\ndiffer by", "accuracy", "test", "images")
    for column in ("computed\nin", *figures):
        table.add_column(column, justify="right", no_wrap=True)
    for run in results:
        table.add_row(
            f"{', '.join(map(str, run['processes']))} x {run['devices']}",
            run["dtype"],
            f"{run['same_examples']:,}",
            f"{run['loss_difference']:.1e}",
            *(f"{run['accuracy'].get(kind, 0):.2%}" for kind in ("eval", "test")),
            "+".join(f"{run['images'].get(kind, 0):.0f}" for kind in ("eval", "test")),
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance.processes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, help=f"default: {STEPS}, quick {QUICK_STEPS}")
    parser.add_argument(
        "--bound", type=float, default=1e-4, help="of the losses, relative; default: 1e-4"
    )
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps runs and their logs")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
