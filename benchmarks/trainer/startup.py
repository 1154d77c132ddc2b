"""Measure the seconds until a process has imported or taken its first step; and torch's.

Imports run in a fresh interpreter, whose own startup is subtracted. The first step is that of a
small network: its process starts, imports, initializes, compiles and takes one step, with and
without the cache of an earlier process. `train.py` runs one step of the digits recipe, including
data, evaluation and checkpoint.
"""

import argparse
import dataclasses
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.measuring import (
    ROOT,
    add_result_options,
    record_environment,
    shown,
    summarize,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import add_peer_option, device_name, run_turn
from benchmarks.training_run import RunProcess, run_variables

IMPORTS = {
    "python": "pass",
    "jax, flax": "import jax, flax.linen",
    "flax_resnet": "import flax_resnet",
    "flax_resnet.train": "import flax_resnet; flax_resnet.train",
    "torch": "import torch",
    "torch, torchvision": "import torch, torchvision",
}
STEPS = {
    "flax_resnet": "jax-train",
    "torch eager": "torch-eager-train",
    "torch.compile": "torch-compile-train",
}
PAIRS = (
    ("import torch", "import flax_resnet"),
    ("import torch, torchvision", "import flax_resnet"),
    ("first step, torch eager, cold", "first step, flax_resnet, cold"),
    ("first step, torch.compile, cold", "first step, flax_resnet, cold"),
    ("first step, torch.compile, cached", "first step, flax_resnet, cached"),
    ("first step, torch eager, cold", "first step, flax_resnet, cached"),
)
SMALL = Case(
    phase="",
    mode="",
    platform="cpu",
    model="resnet18",
    dtype="float32",
    batch_size=4,
    image_size=32,
    num_classes=10,
    shallow=True,
    repeats=1,
    repeat_s=1e-3,
    warm_up_s=1e-3,
)
LIMIT_S = 600.0
# Settings of the recipe `digits` for its shortest run.
ONE_STEP = (
    "steps=1",
    "log_every=2",
    "data.source=synthetic:10",
    "data.train_split=train",
    "data.eval_split=validation",
    "data.test_split=test",
    "data.batch_size=8",
)
# Returns seconds, or the reason why there are none.
Run = Callable[[], float | str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Start each process in turns, write the JSON, print a table; return 1 if ours failed."""
    options = _parser().parse_args(arguments)
    environment = record_environment(options.note)
    device = device_name("cpu", environment)
    seconds: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(options, Path(folder).resolve())
        for turn in range(options.rounds or (1 if options.quick else 5)):
            for name, run in runs.items():
                found = run() if name not in reasons else reasons[name]
                if isinstance(found, str):
                    reasons[name] = found
                    print(f"{name}: {found}", flush=True)
                else:
                    seconds.setdefault(name, []).append(found)
                    print(f"{name}, turn {turn + 1}: {found:.2f} s", flush=True)
    result = {
        "benchmark": "startup",
        "environment": environment,
        "device": device,
        "seconds": {name: summarize(values) for name, values in seconds.items()},
        "skipped": reasons,
        "ratios": ratios(seconds),
    }
    path = target_path(options, "startup", device)
    write_json(path, result)
    print(f"\n{summary(result)}\n\nwritten to {shown(path)}")
    return int(any("torch" not in name for name in reasons))


def ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return the peers' seconds over ours, turn by turn, summarized; above 1 ours is faster.

    The interpreter's own startup is subtracted from imports.
    """
    bare = seconds.get("import python", [])

    def own(name: str) -> list[float]:
        values = seconds.get(name, [])
        if name.startswith("import"):
            return [value - idle for value, idle in zip(values, bare, strict=False)]
        return values

    found = {}
    for theirs, ours in PAIRS:
        values = [peer / mine for peer, mine in zip(own(theirs), own(ours), strict=False)]
        if values:
            found[f"{theirs} / {ours}"] = summarize(values)
    return found


def summary(result: dict[str, Any]) -> str:
    """Return a table of seconds, and the ratios."""
    rows = [
        (name, f"{values['median']:.2f}", f"{values['spread']:.0%}")
        for name, values in result["seconds"].items()
    ]
    lines = [table(("", "s", "spread"), rows), ""]
    for name, ratio in result["ratios"].items():
        lines.append(f"{name}: {ratio['median']:.2f}")
    return "\n".join(lines)


def _runs(options: argparse.Namespace, folder: Path) -> dict[str, Run]:
    """Return the measurements, ordered so that each cache is filled before it is used."""
    python = {True: options.peer_python, False: sys.executable}
    runs: dict[str, Run] = {
        f"import {name}": functools.partial(_import, program, python["torch" in program])
        for name, program in IMPORTS.items()
    }
    for name, part in STEPS.items():
        if part == "torch-compile-train" and options.quick:
            continue  # a minute
        cached = dataclasses.replace(SMALL, cache=str(folder / part))
        for cache, case in (("cold", SMALL), ("cached", cached)):
            if (name, cache) != ("torch eager", "cached"):
                runs[f"first step, {name}, {cache}"] = _first_step(part, case, options.peer_python)
    cases = ("cold",) if options.quick else ("cold", "cached")
    return runs | {f"train.py, {cache}": _trainer(folder, cache == "cold") for cache in cases}


def _import(program: str, python: str) -> float | str:
    began = time.perf_counter()
    command = [python, "-c", program]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    except OSError as error:
        raise SystemExit(f"{python} is not a Python interpreter: {error}") from error
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return time.perf_counter() - began


def _first_step(part: str, case: Case, peer_python: str) -> Run:
    def once(case: Case) -> float | str:
        outcome = run_turn(part, case, LIMIT_S, peer_python)
        if outcome["status"] != "done":
            return str(outcome["reason"])
        return float(outcome["first_step_at"] - outcome["started_at"])

    def run() -> float | str:
        if case.cache and not Path(case.cache).exists():
            Path(case.cache).mkdir()
            once(case)  # fills the cache
        return once(case)

    return run


def _trainer(folder: Path, cold: bool) -> Run:
    settings = [f"--config.{setting}" for setting in ONE_STEP]

    def once() -> float | str:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            workdir = Path(name)
            cache = workdir / "cache" if cold else folder / "trainer"
            flags = ["--config", "configs/digits.py", "--workdir", str(workdir / "run"), *settings]
            process = RunProcess(flags, workdir / "log", run_variables("cpu", cache))
            try:
                code = process.wait(LIMIT_S)
                seconds = time.monotonic() - process.began
            finally:
                process.end()
            return seconds if code == 0 else (process.complaint() or [f"ended with {code}"])[-1]

    def run() -> float | str:
        if not cold and not (folder / "trainer").exists():
            once()
        return once()

    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainer.startup", description=__doc__
    )
    parser.add_argument("--rounds", type=int, help="default: 5")
    add_peer_option(parser)
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
