"""Count what devices exchange in a training step, by their number, from the compiled program.

The program for 1 to 8 devices (parts of the CPU, on a CPU) names every collective and its shape.
Relative to the bytes of the parameters, it shows what is sent besides the gradient, which every
data-parallel trainer sends: batch-norm statistics over the global batch, unless each device has its
own. Time is measured on real devices.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks import program
from benchmarks.case import Case, timed_repeats
from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    summarize,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import add_case_options, case_settings, device_name
from benchmarks.peers import jax_side
from benchmarks.peers.steps import make_case
from flax_resnet.models import count_parameters

MODELS = ("resnet50", "cifar_resnet20")
COUNTS = (1, 2, 4, 8)
FLAG = "--xla_force_host_platform_device_count"
NORMS = ("global", "per device")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile for each number of devices, write the JSON, print a table."""
    options = _parser().parse_args(arguments)
    if FLAG not in os.environ.get("XLA_FLAGS", ""):
        # Read when jax starts its backend; does not affect the number of GPUs.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}={max(COUNTS)}".strip()
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    environment = record_environment(options.note)
    device = device_name(platform, environment)
    models = options.models or (("resnet18",) if options.quick else MODELS)
    counts = options.devices or ((1, 8) if options.quick else COUNTS)
    entries: list[dict[str, Any]] = []
    result = {
        "benchmark": "scaling",
        "environment": environment,
        "device": device,
        "cases": entries,
    }
    path = target_path(options, "scaling", device)
    for name in models:
        case = make_case(name, platform, options)
        case = dataclasses.replace(case, batch_size=options.batch_size or 8 * max(counts))
        for norm in NORMS:
            for count in counts:
                if count > jax.device_count():
                    print(f"{count} devices: skipped, {jax.device_count()} are here")
                    continue
                entries.append(measure(case, norm, count, timed=platform != "cpu"))
                write_json(path, result)
                print("  ".join(_row(entries[-1])), flush=True)
    print(f"\n{summary(entries)}\n\nwritten to {shown(path)}")
    return 0


def measure(case: Case, norm: str, count: int, timed: bool) -> dict[str, Any]:
    """Return what a step on `count` devices sends, and if `timed` its images per second."""
    group = None if norm == "global" else case.batch_size // count
    case = dataclasses.replace(case, norm_group=group)
    mesh = Mesh(np.asarray(jax.devices()[:count]), ("data",))
    step, arguments, advance = jax_side.train_program(case, mesh)
    compiled = step.lower(*arguments).compile()
    sent = program.communication(compiled.as_text())
    total = sum(entry["bytes"] for entry in sent.values())
    parameters = 4 * count_parameters(jax_side.make_model(case))
    return {
        "settings": case_settings(case),
        "norm": norm,
        "devices": count,
        "parameter_bytes": parameters,
        "collectives": sent,
        "bytes": total,
        "over_parameters": total / parameters,
        # What each device sends in a ring all-reduce, which is the minimum.
        "ring_bytes_a_device": 2 * (count - 1) / count * total,
        "program": program.cost(compiled),
        "images_per_second": _speed(case, compiled, arguments, advance) if timed else None,
    }


def summary(entries: Sequence[dict[str, Any]]) -> str:
    """Return the cases as a table."""
    header = ("", "devices", "collectives", "MiB", "of parameters", "ring MiB", "images/s")
    return table(header, [_row(entry) for entry in entries])


def _speed(case: Case, compiled: Any, arguments: Any, advance: Any) -> dict[str, Any]:
    state = [arguments]

    def run(steps: int) -> Any:
        for _ in range(steps):
            outcome = compiled(*state[0])
            state[0] = advance(state[0], outcome)
        return jax.block_until_ready(outcome)

    repeats = timed_repeats(run, case, time.perf_counter())
    return summarize([case.batch_size * repeat.steps / repeat.seconds for repeat in repeats])


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    speed = entry["images_per_second"]
    return (
        f"{entry['settings']['model']}, norm {entry['norm']}",
        str(entry["devices"]),
        str(sum(found["count"] for found in entry["collectives"].values())),
        f"{entry['bytes'] / 2**20:.2f}",
        f"{entry['over_parameters']:.4f}",
        f"{entry['ring_bytes_a_device'] / 2**20:.2f}",
        f"{speed['median']:,.0f}" if speed else "",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainer.scaling", description=__doc__
    )
    parser.add_argument("--models", nargs="+", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--devices", nargs="+", type=int, help="default: 1 2 4 8")
    add_case_options(parser)
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
