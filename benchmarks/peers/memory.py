"""Measure the memory of a training step by batch size: plain, `scan_blocks`, `remat`; and torch's.

`planned` is XLA's plan: arguments, results and temporaries. `peak`, on a GPU, is the most that the
allocator handed out at once. `kept` is what the forward pass stores for the backward pass, as JAX
and torch report it. XLA:CPU undoes part of `remat`.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import add_peer_option, add_size_options, device_name, run_turn
from benchmarks.peers.steps import default_platform, make_case

MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("jax-memory", dict()),
    "scan_blocks": ("jax-memory", dict(scan_blocks=True)),
    "remat": ("jax-memory", dict(remat=True)),
    "both": ("jax-memory", dict(scan_blocks=True, remat=True)),
    "torch": ("torch-eager-memory", dict()),
    "torch, checkpointed": ("torch-eager-memory", dict(remat=True)),
}
PEERS = {"plain": "torch", "remat": "torch, checkpointed"}
FIGURES = ("kept", "temporary", "planned", "peak")
BATCH_SIZES = {"cpu": (16, 64, 256), "gpu": (64, 256, 1024)}
STEPS: dict[str, Any] = dict(repeats=1, repeat_s=1e-3, warm_up_s=1e-3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every case, write the JSON and print a table; return 1 if one failed, else 0."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    platform = options.platform or default_platform(options.quick)
    models = options.models or ["cifar_resnet20" if options.quick else "cifar_resnet110"]
    sizes = options.batch_sizes or ((4,) if options.quick else BATCH_SIZES[platform])
    environment = record_environment(options.note)
    device = device_name(platform, environment)
    entries: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "benchmark": "memory",
        "environment": environment,
        "device": device,
        "cases": entries,
    }
    path = target_path(options, f"memory {models[-1]}", device)
    for name in models:
        base = make_case(name, platform, options)
        for batch_size in sizes:
            for mode in options.modes:
                part, changes = MODES[mode]
                case = dataclasses.replace(base, batch_size=batch_size, **STEPS, **changes)
                left = options.budget - (time.monotonic() - began)
                outcome = run_turn(part, case, left, options.peer_python)
                environment["packages"].update(outcome.get("packages", {}))
                entries.append(_entry(case, mode, outcome))
                result["ratios"] = ratios(entries)
                write_json(path, result)
                print("  ".join(_row(entries[-1])), flush=True)
    print(f"\n{summary(result)}\n\nwritten to {shown(path)}")
    return int(any(entry["status"] == "failed" for entry in entries))


def ratios(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each case's bytes divided by those of plain and of torch; below 1 is less memory."""
    found = []
    by_case = {(entry["model"], entry["batch_size"], entry["mode"]): entry for entry in entries}
    for (model, batch_size, mode), entry in by_case.items():
        others = {"plain": "plain" if mode not in ("plain", "torch") else None}
        others["torch"] = PEERS.get(mode)
        for against, other in others.items():
            base = by_case.get((model, batch_size, str(other)), {})
            shared = [name for name in FIGURES if entry.get(name) and base.get(name)]
            if shared and not mode.startswith("torch"):
                values = {name: entry[name] / base[name] for name in shared}
                found.append(
                    {"model": model, "batch_size": batch_size, "mode": mode, "over": against}
                    | values
                )
    return found


def summary(result: dict[str, Any]) -> str:
    """Return the cases as a table, and the ratios."""
    header = ("", "batch", *(f"{figure} MiB" for figure in FIGURES))
    lines = [table(header, [_row(entry) for entry in result["cases"]]), ""]
    for ratio in result["ratios"]:
        values = ", ".join(f"{name} {ratio[name]:.2f}" for name in FIGURES if name in ratio)
        lines.append(
            f"{ratio['model']}, batch {ratio['batch_size']}: {ratio['mode']} over "
            f"{ratio['over']}: {values}"
        )
    return "\n".join(lines)


def _entry(case: Any, mode: str, outcome: dict[str, Any]) -> dict[str, Any]:
    said = {key: outcome[key] for key in ("status", "reason") if key in outcome}
    memory = outcome.get("memory", {})
    if memory.get("peak_is_of_compiling"):
        memory = memory | {"peak": None}
    settings = {key: getattr(case, key) for key in ("model", "dtype", "batch_size", "image_size")}
    return settings | {"mode": mode} | said | {name: memory.get(name) for name in FIGURES}


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    cells = (
        f"{entry[name] / 2**20:,.1f}" if entry.get(name) is not None else "" for name in FIGURES
    )
    remark = "" if entry["status"] == "done" else f" ({entry['status']}: {entry['reason']})"
    return (f"{entry['model']}, {entry['mode']}{remark}", str(entry["batch_size"]), *cells)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.memory", description=__doc__)
    parser.add_argument("--models", nargs="+", help="default: cifar_resnet110")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), metavar="MODE")
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="default: by platform")
    parser.add_argument("--platform", choices=("gpu", "cpu"), help="default: gpu if there is one")
    parser.add_argument("--budget", type=float, default=7200.0, help="seconds for all parts")
    add_size_options(parser)
    add_peer_option(parser)
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
