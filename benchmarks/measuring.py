"""Timing, the description of the machine, and results as JSON and as plain-text tables."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch", "torchvision", "timm")
# Plug-ins and libraries that determine what accelerators run; some have CUDA's version in the name.
_PLUGINS = ("jax-cuda", "libtpu", "nvidia-cudnn", "nvidia-cublas", "nvidia-cuda-runtime", "triton")
_VARIABLES = ("XLA_FLAGS", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE")
_GPU_FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


def record_environment(note: str | None = None) -> dict[str, Any]:
    """Return JSON values that describe this machine without identifying it.

    Args:
      note: what else a reader must know, such as that the cores were shared.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "note": note,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "packages": _versions(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def _versions() -> dict[str, str]:
    found = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "").lower()
        if name in _PACKAGES or name.startswith(_PLUGINS):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _gpus() -> list[dict[str, str]]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    rows = _output(command).splitlines()
    values = ([value.strip() for value in row.split(",")] for row in rows)
    return [dict(zip(_GPU_FIELDS, row, strict=False)) for row in values]


def _commit() -> str | None:
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
    # benchmarks/results is left out: a new result does not affect the next measurement.
    status = ["status", "--porcelain", "--", ".", ":!benchmarks/results"]
    changed = bool(commit) and bool(_output(["git", "-C", str(ROOT), *status]).strip())
    return f"{commit} with changes" if changed else commit or None


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


# Fewer repeats have no meaningful spread, so a deadline does not cut below this.
FEWEST_REPEATS = 2


@dataclass(frozen=True)
class Repeat:
    """A number of steps and the seconds that they took together.

    Attributes:
      cpu_seconds: the time of all threads on the processor, which others on it hardly change.
    """

    steps: int
    seconds: float
    cpu_seconds: float = 0.0


def measure(
    run: Callable[[int], Any],
    *,
    repeats: int,
    repeat_s: float,
    warm_up_s: float,
    deadline: float = float("inf"),
) -> list[Repeat]:
    """Warm up, then time `repeats` times as many steps as fill `repeat_s`, at least one each.

    Args:
      run: takes a number of steps and returns when the device has finished the last one.
      deadline: value of `time.perf_counter()` after which no repeat starts, except
        the first two.
    """
    began, fastest = time.perf_counter(), float("inf")
    while fastest == float("inf") or time.perf_counter() - began < warm_up_s:
        fastest = min(fastest, _timed(run, 1).seconds)
    steps = max(1, round(repeat_s / fastest))
    taken: list[Repeat] = []
    while len(taken) < repeats:
        if len(taken) >= FEWEST_REPEATS and time.perf_counter() > deadline:
            break
        taken.append(_timed(run, steps))
    return taken


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Return median, min, max, spread = (max - min) / median, and the values themselves."""
    if not values:
        raise ValueError("there is nothing to summarize: expected at least one value")
    median = statistics.median(values)
    low, high = min(values), max(values)
    return {
        "median": median,
        "min": low,
        "max": high,
        "spread": (high - low) / median,
        "values": list(values),
    }


def _timed(run: Callable[[int], Any], steps: int) -> Repeat:
    began, cpu_began = time.perf_counter(), time.process_time()
    run(steps)
    seconds = max(time.perf_counter() - began, 1e-9)
    return Repeat(steps, seconds, time.process_time() - cpu_began)


# Results worth keeping are committed; those of a quick mode are not, and are stored apart.
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "build" / "benchmarks"


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all benchmarks: quick mode, folder of the result, and a note."""
    parser.add_argument("--quick", action="store_true", help="only check that it works")
    parser.add_argument("--output", type=Path, help="folder of the JSON")
    parser.add_argument("--note", help="what a reader must know about the machine")


def target_path(options: argparse.Namespace, kind: str, device: str) -> Path:
    """Return where a benchmark with these options writes; quick results go to their own folder."""
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    return result_path(folder, f"{'quick ' if options.quick else ''}{kind}", device)


def result_path(folder: Path, kind: str, device: str) -> Path:
    """Return an unused path `KIND_DEVICE_DATE.json` in `folder`."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    stem = f"{_slug(kind)}_{_slug(device)}_{today}"
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result atomically, and create its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def shown(path: Path) -> str:
    """Return a path relative to the repository if it is inside, else the absolute path."""
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header, the first column left-aligned and the others right-aligned."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    texts = []
    for cells in lines:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        texts.append("  ".join((first, *rest)).rstrip())
    return "\n".join(texts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
