"""Record the cost of small compiled programs, so that a test detects increases.

    python -m tools.program_bounds

Each case is compiled for one CPU device. XLA's flops and bytes, the memory, transposes and copies
are written to tests/goldens/programs.json, under the version of jax. Run it after a change that is
intended to change the cost, and with each version of jax that the tests use. Nothing is timed, so a
busy machine gives the same numbers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks import program
from benchmarks.case import Case
from benchmarks.measuring import ROOT, shown, table, write_json
from benchmarks.peers import jax_side

BOUNDS = ROOT / "tests" / "goldens" / "programs.json"
_SMALL: dict[str, Any] = dict(
    platform="cpu", dtype="float32", batch_size=8, image_size=32, num_classes=10
)
CASES = {
    "cifar_resnet20, train": Case("train", "jit", model="cifar_resnet20", **_SMALL),
    "cifar_resnet20, bfloat16, train": Case(
        "train", "jit", model="cifar_resnet20", **(_SMALL | dict(dtype="bfloat16"))
    ),
    "bottleneck, train": Case("train", "jit", model="resnet50", shallow=True, **_SMALL),
    "bottleneck, remat, train": Case(
        "train", "jit", model="resnet50", shallow=True, remat=True, **_SMALL
    ),
    "pre-activation, train": Case("train", "jit", model="resnetv2_50", shallow=True, **_SMALL),
    "bottleneck, inference": Case("inference", "jit", model="resnet50", shallow=True, **_SMALL),
    "bottleneck, folded inference": Case(
        "inference", "folded", model="resnet50", shallow=True, **_SMALL
    ),
}
# Allowed relative excess: what XLA fuses depends on the processor and the number of threads.
MARGINS = {"xla_flops": 0.01}
MARGIN = 0.15

Costs = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile every case, record the costs and print them."""
    options = _parser().parse_args(arguments)
    recorded = read_bounds(options.output) if options.output.exists() else {}
    found = {name: measure(case) for name, case in CASES.items()}
    versions = recorded | {jax.__version__: found}
    write_json(options.output, dict(sorted(versions.items(), key=lambda item: order(item[0]))))
    print(f"{summary(found)}\n\nwritten to {shown(options.output)}, for jax {jax.__version__}")
    return 0


def measure(case: Case) -> Costs:
    """Return the cost of a case's program."""
    mesh = Mesh(np.asarray(jax.devices()[:1]), ("data",))
    make = jax_side.train_program if case.phase == "train" else jax_side.inference_program
    function, arguments, _ = make(case, mesh)
    compiled = function.lower(*arguments).compile()
    costs = program.cost(compiled) | program.planned_bytes(compiled)
    return costs | program.count_moves(compiled.as_text())


def read_bounds(path: Path = BOUNDS) -> dict[str, dict[str, Costs]]:
    """Return the bounds, by version of jax and by case."""
    bounds: dict[str, dict[str, Costs]] = json.loads(path.read_text())
    return bounds


def bounds_for(version: str, bounds: dict[str, dict[str, Costs]]) -> dict[str, Costs]:
    """Return the bounds of a version of jax, or of the nearest earlier version.

    A version older than all gets the oldest bounds.
    """
    before = [known for known in bounds if order(known) <= order(version)]
    return bounds[max(before, key=order) if before else min(bounds, key=order)]


def excesses(found: Costs, bound: Costs) -> list[str]:
    """Return messages for the numbers that exceed their bounds."""
    return [
        f"{name} is {found[name]:,.0f}, expected at most {limit:,.0f}"
        for name, limit in bound.items()
        if found[name] > limit * (1 + MARGINS.get(name, MARGIN))
    ]


def order(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for sorting."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def summary(found: dict[str, Costs]) -> str:
    """Return the costs as a table."""
    header = ("", *next(iter(found.values())))
    rows = [(name, *(f"{value:,.0f}" for value in costs.values())) for name, costs in found.items()]
    return table(header, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.program_bounds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=BOUNDS, help="the file to add to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
