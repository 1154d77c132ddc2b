"""Train for a long time and watch what the run uses: memory, open files, threads, processes.

The run evaluates and saves about once a minute, far more often than a real one. The first third of
the time is warm-up, while caches fill and allocators settle. A line is fitted to the rest. The run
is flat if its own memory (what it allocated, without mapped files) grows by less than
--memory-bound along that line, and if the medians of files, threads and processes in the first and
second half differ by no more than --count-bound.

The exit status is 1 if the run is not flat. Linux only: the numbers come from /proc.
"""

import argparse
import dataclasses
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from benchmarks.proc import Holding, holding, require_proc, session_processes
from benchmarks.training_run import RunProcess, reached, run_variables


@dataclass(frozen=True)
class Line:
    """The least-squares line through values over time.

    Attributes:
      per_hour: its slope.
      growth: its rise from the first time to the last, as a share of the values' mean.
      lowest: the smallest value.
      highest: the largest value.
    """

    per_hour: float
    growth: float
    lowest: float
    highest: float


def fit_line(seconds: Sequence[float], values: Sequence[float]) -> Line:
    """Return the line through values at times in seconds.

    Raises:
      ValueError: there are fewer than three values, or their number differs from that of the times.
    """
    if len(values) < 3 or len(values) != len(seconds):
        raise ValueError(f"a line needs 3 values or more, found {len(values)} at {len(seconds)}")
    slope, _ = np.polyfit(np.asarray(seconds) - seconds[0], values, 1)
    mean = float(np.mean(values))
    growth = float(slope) * (seconds[-1] - seconds[0]) / mean if mean else 0.0
    return Line(float(slope) * 3600, growth, float(min(values)), float(max(values)))


ENDLESS = 10_000_000
# Only allocated memory is judged: mapped files depend on what else the machine does.
MEMORY, SEEN, COUNTS = "own_bytes", "resident_bytes", ("files", "threads", "processes")
WARM_UP = 1 / 3
LEAVING_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, sample, fit; print a table and the verdict and write the JSON."""
    options = _parser().parse_args(arguments)
    require_proc()
    minutes = options.minutes or (0.2 if options.quick else 30.0)
    environment = record_environment(options.note)
    settings = _settings(options)
    with tempfile.TemporaryDirectory() as name:
        samples, steps = sample_run(settings, Path(name), options.platform, 60 * minutes)
    result = {
        "benchmark": "soak",
        "settings": settings,
        "minutes": minutes,
        "steps": steps,
        "environment": environment,
        **judge(samples, options.memory_bound, options.count_bound),
        "samples": [{"seconds": round(at, 1), **dataclasses.asdict(held)} for at, held in samples],
    }
    kind = f"{'quick ' if options.quick else ''}soak {options.workers} workers"
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    path = result_path(folder, kind, f"{environment['cores']} cores")
    write_json(path, result)
    console = Console()
    console.print(_table(result))
    flat = not result["faults"]
    console.print(_verdict(result), style="green" if flat else "red", highlight=False)
    console.print(f"written to {shown(path)}")
    return 0 if flat or options.quick else 1


def sample_run(
    settings: Sequence[str], folder: Path, platform: str, seconds: float
) -> tuple[list[tuple[float, Holding]], int]:
    """Train for `seconds`; return samples of (second, resources in use), and the steps taken.

    Raises:
      SystemExit: the run ended by itself; the message contains its last output.
    """
    workdir, samples = folder / "run", list[tuple[float, Holding]]()
    variables = run_variables(platform, folder / "cache")
    process = RunProcess([*settings, f"--workdir={workdir}"], folder / "log", variables)
    every = max(min(5.0, seconds / 100), 0.2)
    try:
        while not reached(workdir) and process.code is None:
            time.sleep(every)
        began = time.monotonic()
        while process.code is None and time.monotonic() - began < seconds:
            held = holding(session_processes(process.pid))
            samples.append((time.monotonic() - began, held))
            time.sleep(every)
        if process.code is not None:
            raise SystemExit(
                f"the run ended with {process.code}: " + "\n".join(process.complaint()[-30:])
            )
        process.send(signal.SIGTERM)
        process.wait(LEAVING_S)
    finally:
        process.end()
    return samples, reached(workdir)


def judge(
    samples: Sequence[tuple[float, Holding]], memory_bound: float, count_bound: int
) -> dict[str, Any]:
    """Return the lines fitted after the warm-up, and in `faults` what is not flat."""
    until = WARM_UP * samples[-1][0]
    times = [at for at, _ in samples if at >= until]
    held = [dataclasses.asdict(held) for at, held in samples if at >= until]
    lines, faults = {}, []
    for name in (MEMORY, SEEN, *COUNTS):
        values = [sample[name] for sample in held]
        half = len(values) // 2
        line = fit_line(times, values)
        change = statistics.median(values[half:]) - statistics.median(values[:half])
        lines[name] = dataclasses.asdict(line) | {"between_halves": change}
        if name == MEMORY and line.growth > memory_bound:
            faults.append(f"memory grows by {line.growth:.1%}, more than {memory_bound:.1%}")
        if name in COUNTS and abs(change) > count_bound:
            faults.append(f"{name} change by {change:+.0f}, more than {count_bound}")
    window = times[-1] - times[0]
    bounds = {"memory": memory_bound, "counts": count_bound}
    return {"window_s": round(window, 1), "lines": lines, "bounds": bounds, "faults": faults}


def _settings(options: argparse.Namespace) -> list[str]:
    """Return settings of an endless run on the digits that evaluates and saves regularly."""
    settings = {
        "steps": ENDLESS,
        "log_every": 20,
        "eval_every_epochs": 5.0 if options.quick else 50.0,
        "data.workers": options.workers,
    }
    own = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["--config=configs/digits.py", *own, *(f"--config.{text}" for text in options.set)]


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['steps']:,} steps; {result['window_s'] / 60:.1f} minutes judged")
    table.add_column("resource")
    for column in ("least", "most", "growth per hour", "growth", "second half - first"):
        table.add_column(column, justify="right")
    for name, line in result["lines"].items():
        scale, unit = (1, "") if name in COUNTS else (2**20, " MiB")
        table.add_row(
            {MEMORY: "own memory", SEEN: "resident memory"}.get(name, name),
            f"{line['lowest'] / scale:,.0f}{unit}",
            f"{line['highest'] / scale:,.0f}{unit}",
            f"{line['per_hour'] / scale:+,.1f}{unit}",
            f"{line['growth']:+.2%}",
            f"{line['between_halves'] / scale:+,.1f}{unit}",
        )
    return table


def _verdict(result: dict[str, Any]) -> str:
    if result["faults"]:
        return "not flat: " + "; ".join(result["faults"])
    bounds = result["bounds"]
    return (
        f"flat: memory within {bounds['memory']:.1%}, files, threads and processes within "
        f"{bounds['counts']}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, help="default: 30, quick 0.2")
    parser.add_argument("--workers", type=int, default=0, help="worker processes; default: 0")
    parser.add_argument("--memory-bound", type=float, default=0.02, help="a share; default: 0.02")
    parser.add_argument("--count-bound", type=int, default=2, help="default: 2")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"
    )
    parser.add_argument("--platform", default="cpu", help="JAX's; default: cpu")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
