"""Compare our training steps and inference with torch's, network by network, in turns.

    python -m benchmarks.peers.steps train --models resnet50 cifar_resnet20
    python -m benchmarks.peers.steps inference

`train` compares with torch eager and `torch.compile`; `inference` compares the network as trained
and with folded norms, and `frozen` is `torch.compile` with constant weights, which also folds
norms. The peers are timm's networks, or a short torch module for CIFAR networks; all use channels
last. The benchmark runs on a GPU if there is one, otherwise on the CPU.

Every measurement runs in its own process, so that the frameworks do not compete for memory or
threads. The JSON is rewritten after each one, so finished parts survive an exhausted budget.
"""

import argparse
import dataclasses
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import flax_resnet
from benchmarks.case import Case
from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    target_path,
    write_json,
)
from benchmarks.parts import (
    add_case_options,
    add_peer_option,
    case_settings,
    device_name,
    run_turn,
    said,
)
from benchmarks.peers.part_table import merge_round, part_tables, ratios, shares

# The quick mode only checks that everything works.
QUICK: dict[str, Any] = dict(
    batch_size=4,
    image_size=32,
    num_classes=10,
    shallow=True,
    repeats=2,
    repeat_s=0.05,
    warm_up_s=0.1,
)
QUICK_MODELS = ("resnet18",)
MODELS = ("resnet50", "cifar_resnet20")
PARTS = {
    "train": ("jax-train", "torch-eager-train", "torch-compile-train", "jax-ceilings"),
    "inference": (
        "jax-inference",
        "jax-folded-inference",
        "torch-eager-inference",
        "torch-compile-inference",
        "torch-frozen-inference",
        "jax-ceilings",
    ),
}
# The names of the benchmarks in their results.
BENCHMARKS = {"train": "train_step", "inference": "inference"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts of each network, print tables, and return 1 if a part failed, else 0."""
    # An outer time limit ends this with SIGTERM; the running part must end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parser().parse_args(arguments)
    benchmark = BENCHMARKS[options.kind]
    parts = options.parts or PARTS[options.kind]
    began = time.monotonic()
    platform = options.platform or default_platform(options.quick)
    models = options.models or (QUICK_MODELS if options.quick else MODELS)
    environment = record_environment(options.note)
    device = device_name(platform, environment)
    entries: list[dict[str, Any]] = []
    rounds: int = options.rounds or (1 if options.quick else 3)
    result = {
        "benchmark": benchmark,
        "environment": environment,
        "device": device,
        "rounds": rounds,
        "cases": entries,
    }
    path = target_path(options, f"{benchmark} {' '.join(models)}", device)
    for name in models:
        case = make_case(name, platform, options)
        entry: dict[str, Any] = {"settings": case_settings(case), "device": device, "parts": {}}
        entries.append(entry)
        for part in [*parts] * rounds:
            left = options.budget - (time.monotonic() - began)
            outcome = run_turn(part, case, left, options.peer_python)
            environment["packages"].update(outcome.get("packages", {}))
            merge_round(entry["parts"], part, outcome, case.batch_size)
            entry |= {"ratios": ratios(entry["parts"]), "shares": shares(entry["parts"])}
            entry["elapsed_s"] = round(time.monotonic() - began, 1)
            write_json(path, result)
            print(f"[{entry['elapsed_s']:6.1f} s] {name}, {part}: {said(outcome)}", flush=True)
    for entry in entries:
        print(f"\n{part_tables(entry)}")
    print(f"\nwritten to {shown(path)}")
    statuses = [part["status"] for entry in entries for part in entry["parts"].values()]
    return int("failed" in statuses)


def make_case(name: str, platform: str, options: argparse.Namespace) -> Case:
    """Return the case that all parts of a network share: its own sizes unless others are given.

    The default batch is 16 large images on a CPU and 256 on a GPU, or more small ones.
    """
    model = flax_resnet.create_model(name)
    small = model.image_size <= 64
    sizes = {("cpu", False): 16, ("cpu", True): 128, ("gpu", False): 256, ("gpu", True): 1024}
    chosen: dict[str, Any] = dict(
        dtype="float32" if platform == "cpu" else "bfloat16",
        batch_size=sizes[platform, small],
        image_size=model.image_size,
        num_classes=model.num_classes,
    )
    fields = {field.name for field in dataclasses.fields(Case)}
    given = {key: value for key, value in vars(options).items() if key in fields and value}
    if options.quick:
        # A network of three stages is small enough already.
        chosen |= QUICK | dict(shallow=not small)
    given["platform"] = platform
    return Case(phase="", mode="", model=name, **(chosen | given))


def default_platform(quick: bool = False) -> str:
    """Return gpu if a driver is installed, else cpu."""
    return "gpu" if shutil.which("nvidia-smi") and not quick else "cpu"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    names = sorted({part for parts in PARTS.values() for part in parts})
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("kind", choices=PARTS, help="what to measure")
    made.add_argument("--models", nargs="+", help=f"default: {' '.join(MODELS)}")
    made.add_argument("--platform", choices=("gpu", "cpu"), help="default: gpu if there is one")
    add_case_options(made)
    made.add_argument("--rounds", type=int, help="passes over all parts; default: 3")
    made.add_argument(
        "--parts", nargs="+", choices=names, metavar="PART", help="default: all of that kind"
    )
    made.add_argument("--budget", type=float, default=3600.0, help="seconds for all parts")
    add_peer_option(made)
    add_result_options(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
