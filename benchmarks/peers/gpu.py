"""Compare ResNet-50 with timm's in one call: training and inference, speed, memory, compilation.

Run: benchmarks/gpu.sh (one GPU, at most 9 minutes), or benchmarks/gpu.sh --tiny (any CPU). Every
measurement runs in its own process, so that the frameworks do not compete for memory. The JSON is
rewritten after each one, so finished parts survive an exhausted budget.
"""

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    record_environment,
    result_path,
    shown,
    write_json,
)
from benchmarks.parts import add_case_options, case_settings, device_name, run_turn, said
from benchmarks.peers.part_table import merge_round, part_tables, ratios, shares

# The most important first: an exhausted budget cuts off the end.
PARTS = (
    "jax-train",
    "torch-eager-train",
    "jax-inference",
    "torch-eager-inference",
    "jax-ceilings",
    "torch-compile-train",
    "torch-compile-inference",
)
TINY: dict[str, Any] = dict(
    model="resnet18",
    batch_size=4,
    image_size=32,
    num_classes=10,
    shallow=True,
    repeats=3,
    repeat_s=0.05,
    warm_up_s=0.1,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print a table, and return 1 if a part failed, else 0."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    case = _case(options)
    result: dict[str, Any] = {
        "benchmark": "gpu",
        "settings": case_settings(case)
        | {"rounds": options.rounds, "budget_s": options.budget, "tiny": options.tiny},
        "environment": record_environment(options.note),
        "parts": {},
    }
    result["device"] = device_name(case.platform, result["environment"])
    kind = "tiny" if options.tiny else case.platform
    path = result_path(options.output, kind, result["device"])
    for name in options.parts * options.rounds:
        left = options.budget - (time.monotonic() - began)
        outcome = run_turn(name, case, left)
        merge_round(result["parts"], name, outcome, case.batch_size)
        result["ratios"], result["shares"] = ratios(result["parts"]), shares(result["parts"])
        result["elapsed_s"] = round(time.monotonic() - began, 1)
        write_json(path, result)
        print(f"[{result['elapsed_s']:5.1f} s] {name}: {said(outcome)}", flush=True)
    print(f"\n{part_tables(result)}\n\nwritten to {shown(path)}")
    return int(any(part["status"] == "failed" for part in result["parts"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small network on the CPU, seconds")
    parser.add_argument("--platform", choices=("gpu", "cpu"), help="default: gpu; cpu when tiny")
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=1, help="passes over all parts")
    add_case_options(parser)
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--budget", type=float, default=515.0, help="seconds for all parts")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the JSON, relative to the repository; or $BENCHMARKS_OUTPUT",
    )
    parser.add_argument("--dump", help="folder for the optimized HLO of the jax parts")
    parser.add_argument("--note", help="what a reader must know about the machine")
    return parser


def _case(options: argparse.Namespace) -> Case:
    """Return the case that all parts share, and fill in the options that depend on it."""
    options.platform = options.platform or ("cpu" if options.tiny else "gpu")
    if options.parts is None:
        # torch.compile needs a compiler and a minute, so on a CPU it runs only if requested.
        on_cpu = options.platform == "cpu"
        options.parts = [name for name in PARTS if not (on_cpu and "compile" in name)]
    variable = os.environ.get("BENCHMARKS_OUTPUT")
    default = Path(variable) if variable else (QUICK_RESULTS if options.tiny else RESULTS)
    options.output = options.output or default
    names = {field.name for field in dataclasses.fields(Case)}
    given = {key: value for key, value in vars(options).items() if key in names and value}
    if "dump" in given:
        given["dump"] = str(Path(given["dump"]).resolve())
    return Case(phase="", mode="", **(TINY | given if options.tiny else given))


if __name__ == "__main__":
    # An outer time limit ends this with SIGTERM; the running part must end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
