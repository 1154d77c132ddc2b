"""Train a recipe in several variants, several seeds each, and show how well each ends.

    python -m benchmarks.accuracy --config configs/fashion_mnist.py --set epochs=2
        --variant "plain: data.crop=none data.flip=False" --variant "as it is:" --seeds 3

Every run is `train.py` in a process of its own, one after the other; its curve, its settings and
its seed go into the JSON. Runs in `--keep FOLDER` go on where they stopped.
"""

import argparse
import contextlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.environment import record_environment
from benchmarks.report import (
    QUICK_RESULTS,
    RESULTS,
    add_result_options,
    result_path,
    shown,
    write_json,
)
from benchmarks.run_folder import read_rows
from benchmarks.run_process import RunProcess, run_variables

QUICK = ("steps=4", "log_every=2", "data.source=synthetic:10", "data.train_split=train")
QUICK_SPLITS = ("data.eval_split=validation", "data.test_split=test", "data.batch_size=8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print a table, write the JSON."""
    options = _parser().parse_args(arguments)
    variants = dict(map(parse_variant, options.variant or ["as it is:"]))
    shared = [*options.set, *(QUICK + QUICK_SPLITS if options.quick else ())]
    runs = []
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(1 if options.quick else options.seeds):
            for name, settings in variants.items():
                run = train_once(options, name, [*shared, *settings], seed, folder.resolve())
                print(f"{name}, seed {seed}: {_line(run)}", flush=True)
                runs.append(run)
    result = {
        "benchmark": "accuracy",
        "config": options.config,
        "shared": shared,
        "variants": variants,
        "environment": record_environment(options.note),
        "runs": runs,
    }
    kind = f"{'quick ' if options.quick else ''}accuracy {_stem(options.config)}"
    target = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    path = result_path(target, kind, _device(result))
    write_json(path, result)
    console = Console()
    console.print(_table(result))
    console.print(f"written to {shown(path)}")
    return 0


def parse_variant(text: str) -> tuple[str, list[str]]:
    """Return name and settings of "NAME: KEY=VALUE KEY=VALUE"."""
    name, colon, settings = text.partition(":")
    changes = settings.split()
    if not colon or not all("=" in change for change in changes):
        raise SystemExit(f'--variant is {text!r}; expected "NAME: KEY=VALUE KEY=VALUE"')
    return name.strip(), changes


def train_once(
    options: argparse.Namespace, variant: str, settings: list[str], seed: int, folder: Path
) -> dict[str, Any]:
    """Return what became of one run, as JSON values."""
    name = re.sub(r"\W+", "-", f"{_stem(options.config)} {variant} {seed}")
    workdir = folder / name
    overrides = [f"--config.{setting}" for setting in (*settings, f"seed={seed}")]
    began = time.monotonic()
    process = RunProcess(
        ["--config", options.config, "--workdir", str(workdir), *overrides],
        folder / f"{name}.log",
        run_variables(options.platform, folder / "cache"),
    )
    try:
        code = process.wait(options.limit)
    finally:
        process.end()
    if code != 0:
        raise SystemExit(f"{name} ended with {code}:\n" + "\n".join(process.complaint()[-20:]))
    rows = read_rows(workdir)
    return {
        "variant": variant,
        "seed": seed,
        "settings": settings,
        "seconds": round(time.monotonic() - began, 1),
        "evaluations": [row for row in rows if row["kind"] == "eval"],
        "test": next((row for row in rows if row["kind"] == "test"), None),
    }


def figures(run: dict[str, Any]) -> dict[str, float]:
    """Return the accuracies that the run ends with: on the test images where it has them."""
    last = run["test"] or run["evaluations"][-1]
    return {key: value for key, value in last.items() if key.endswith("top1")}


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return mean, least and largest of each accuracy by variant."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for key, value in figures(run).items():
            found.setdefault(run["variant"], {}).setdefault(key, []).append(value)
    return {
        variant: {key: (statistics.mean(all_), min(all_), max(all_)) for key, all_ in each.items()}
        for variant, each in found.items()
    }


def _line(run: dict[str, Any]) -> str:
    accuracies = ", ".join(f"{key} {value:.2%}" for key, value in figures(run).items())
    return f"{accuracies} after {run['seconds']:.0f} s"


def _table(result: dict[str, Any]) -> Table:
    table = Table("variant", "figure", "mean", "least", "largest", "runs", "seconds a run")
    for variant, each in summary(result["runs"]).items():
        mine = [run for run in result["runs"] if run["variant"] == variant]
        seconds = statistics.mean(run["seconds"] for run in mine)
        for key, numbers in each.items():
            shares = (f"{number:.2%}" for number in numbers)
            table.add_row(variant, key, *shares, str(len(mine)), f"{seconds:.0f}")
    return table


def _device(result: dict[str, Any]) -> str:
    return f"{result['environment']['cores']} cores"


def _stem(config: str) -> str:
    path, _, argument = config.partition(":")
    return f"{Path(path).stem} {argument}".strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/digits.py", help="a recipe")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all variants"
    )
    parser.add_argument(
        "--variant", action="append", metavar="NAME: KEY=VALUE ...", help="may be given repeatedly"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of a variant")
    parser.add_argument("--platform", default="cpu", help="cpu, cuda or tpu")
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds of one run")
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
