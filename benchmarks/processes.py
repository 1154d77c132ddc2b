"""Train the same recipe with one process and with several, and show that it is the same training.

The digits are trained by `train.py` with 1, 2 and 4 processes that have 1 or 2 devices each, and by
4, then 2, then 1 that take over from each other. All are processes of this machine and their
devices are parts of its CPU; they sum over gloo as hosts would over a network. Each run is compared
with that of one process and one device: the examples of every global batch (their records, their
order, their pixels after augmentation), the loss of every step, the accuracy, how many images were
evaluated, and who wrote the metrics.

The network computes in float64. In float32 the losses are the same only for some 20 steps, and that
is what is asked of two runs in float32, which end the table: gradients and the statistics of batch
norm are sums over devices, another order rounds otherwise, and training amplifies that without
bound. The exit status is 1 where anything else differs, or the losses by more than --bound.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.batch_record import read_records
from benchmarks.environment import record_environment
from benchmarks.local_cluster import start_together, wait_for_all
from benchmarks.process_counts import CASES, QUICK_CASES, Case, Outcome, compare
from benchmarks.recorded_digits import RECORD, get_config
from benchmarks.report import (
    QUICK_RESULTS,
    RESULTS,
    add_result_options,
    result_path,
    shown,
    write_json,
)
from benchmarks.run_folder import read_rows
from benchmarks.run_process import run_variables
from flax_resnet.data import open_source
from flax_resnet.training.parsing import parse

STEPS, QUICK_STEPS = 100, 6
# With more processes than cores each is slow, and slow is not lost.
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
    """Return what came of each case as JSON values.

    Raises:
      SystemExit: the run failed that others are held to.
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
    """Train with one number of processes after the other; return what came of it, and faults."""
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
        # Not a divisor of either split: the last batch is part padding.
        "data.eval_batch_size": 64,
    }
    own = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["--config=benchmarks/recorded_digits.py", *own]


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
        prog="python -m benchmarks.processes",
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
