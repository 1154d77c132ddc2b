"""ResNet-50 beside timm's in one call: training and inference, speed, memory and compile time.

Run: benchmarks/gpu.sh (one GPU, at most 9 minutes), or benchmarks/gpu.sh --tiny (any CPU). Every
measurement is a process of its own, so that no framework's memory pool stands in another's way.
The JSON is written anew after each one: what is done stays when the rest does not fit the budget.
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
from benchmarks.environment import record_environment
from benchmarks.gpu_table import gpu_tables, merge_round, ratios, shares
from benchmarks.process import missing_modules, run_part
from benchmarks.report import QUICK_RESULTS, RESULTS, result_path, shown, write_json

# The parts, what matters most first: a budget that runs out cuts off the end.
PARTS = {
    "jax-train": ("train", "jit"),
    "torch-eager-train": ("train", "eager"),
    "jax-inference": ("inference", "jit"),
    "torch-eager-inference": ("inference", "eager"),
    "jax-ceilings": ("ceilings", "jit"),
    "torch-compile-train": ("train", "compile"),
    "torch-compile-inference": ("inference", "compile"),
}
MODULES = {"jax": ("jax", "flax", "optax", "jaxtyping"), "torch": ("torch", "timm")}
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
# Less than this is not enough to start a framework, compile and measure.
FEWEST_S = {"gpu": 40.0, "cpu": 10.0}
# A part that hangs does not take the time of all that follow.
PART_LIMIT_S = {"gpu": 230.0, "cpu": 600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print a table, and return 1 if a part failed, else 0."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    case = _case(options)
    result: dict[str, Any] = {
        "benchmark": "gpu",
        "settings": _settings(options, case),
        "environment": record_environment(options.note),
        "parts": {},
    }
    result["device"] = _device(case, result["environment"])
    kind = "tiny" if options.tiny else case.platform
    path = result_path(options.output, kind, result["device"])
    for name in options.parts * options.rounds:
        left = options.budget - (time.monotonic() - began)
        outcome = _outcome(name, case, left)
        merge_round(result["parts"], name, outcome, case.batch_size)
        result["ratios"], result["shares"] = ratios(result["parts"]), shares(result["parts"])
        result["elapsed_s"] = round(time.monotonic() - began, 1)
        write_json(path, result)
        print(f"[{result['elapsed_s']:5.1f} s] {name}: {_said(outcome)}", flush=True)
    print(f"\n{gpu_tables(result)}\n\nwritten to {shown(path)}")
    return int(any(part["status"] == "failed" for part in result["parts"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small network on the CPU, seconds")
    parser.add_argument("--platform", choices=("gpu", "cpu"), help="default: gpu; cpu when tiny")
    for name in ("model", "dtype"):
        parser.add_argument(f"--{name}")
    for name in ("batch-size", "image-size", "repeats"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("repeat-s", "warm-up-s"):
        parser.add_argument(f"--{name}", type=float, help="seconds")
    parser.add_argument("--rounds", type=int, default=1, help="go through all parts so often")
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--budget", type=float, default=515.0, help="seconds for all parts")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the JSON, seen from the repository; or $BENCHMARKS_OUTPUT",
    )
    parser.add_argument("--dump", help="folder for the optimised HLO of the jax parts")
    parser.add_argument("--note", help="what a reader must know about the machine")
    return parser


def _case(options: argparse.Namespace) -> Case:
    """Return what all parts have in common, and fill in the options that depend on it."""
    options.platform = options.platform or ("cpu" if options.tiny else "gpu")
    if options.parts is None:
        # torch.compile needs a compiler and a minute: for a CPU it is on demand.
        on_cpu = options.platform == "cpu"
        options.parts = [name for name in PARTS if not (on_cpu and PARTS[name][1] == "compile")]
    variable = os.environ.get("BENCHMARKS_OUTPUT")
    default = Path(variable) if variable else (QUICK_RESULTS if options.tiny else RESULTS)
    options.output = options.output or default
    names = {field.name for field in dataclasses.fields(Case)}
    given = {key: value for key, value in vars(options).items() if key in names and value}
    if "dump" in given:
        given["dump"] = str(Path(given["dump"]).resolve())
    return Case(phase="", mode="", **(TINY | given if options.tiny else given))


def _outcome(name: str, case: Case, left: float) -> dict[str, Any]:
    """Run a part, or say why not; `left` is what the budget still has, in seconds."""
    framework, (phase, mode) = name.partition("-")[0], PARTS[name]
    missing = missing_modules(MODULES[framework])
    if missing:
        # Without the peer there is still our own figure; without ours there is nothing.
        status = "failed" if framework == "jax" else "skipped"
        return {"status": status, "reason": f"not installed: {', '.join(missing)}"}
    if left < FEWEST_S[case.platform]:
        return {"status": "skipped", "reason": f"{max(left, 0):.0f} s of the budget were left"}
    case = dataclasses.replace(case, phase=phase, mode=mode)
    return run_part(f"benchmarks.{framework}_side", case, min(left, PART_LIMIT_S[case.platform]))


def _settings(options: argparse.Namespace, case: Case) -> dict[str, Any]:
    chosen = dataclasses.asdict(case)
    for name in ("phase", "mode", "limit_s", "dump"):  # of a part, not of the run
        del chosen[name]
    return chosen | {"rounds": options.rounds, "budget_s": options.budget, "tiny": options.tiny}


def _device(case: Case, environment: dict[str, Any]) -> str:
    if case.platform == "gpu":
        return environment["gpus"][0]["name"] if environment["gpus"] else "unknown"
    return f"{environment['cores']} cores"


def _said(outcome: dict[str, Any]) -> str:
    if outcome["status"] != "done":
        return f"{outcome['status']}: {outcome['reason']}"
    if "repeats" not in outcome:
        return "done"
    steps = sum(repeat["steps"] for repeat in outcome["repeats"])
    seconds = sum(repeat["seconds"] for repeat in outcome["repeats"])
    return f"{1000 * seconds / steps:,.1f} ms a step, first {outcome['first_step_s']:.1f} s"


if __name__ == "__main__":
    # An outer time limit ends this with SIGTERM; the part that runs must end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
