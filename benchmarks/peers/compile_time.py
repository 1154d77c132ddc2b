"""Measure the time to the first training step by depth, with an empty and with a full cache.

Networks are compiled unrolled, with `scan_blocks`, and by torch.compile. Each has its own cache,
which one process fills and the next one reads. XLA:CPU runs a scanned step many times slower; see
`step s`.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    summarize,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import add_peer_option, add_size_options, case_settings, device_name, run_turn
from benchmarks.peers.steps import default_platform, make_case

MODELS = ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110")
# The part, and the changes to its case.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "unrolled": ("jax-train", dict()),
    "scanned": ("jax-train", dict(scan_blocks=True)),
    "torch.compile": ("torch-compile-train", dict()),
}
# A few steps are enough: the first one matters.
STEPS: dict[str, Any] = dict(repeats=1, repeat_s=1e-3, warm_up_s=1e-3)
# Compile time hardly depends on it.
BATCH_SIZE = 8
FIGURES = ("trace_s", "compile_s", "first_step_s", "step_s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile in turns, write the JSON, print a table; return 1 if a part failed, else 0."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    platform = options.platform or default_platform(options.quick)
    models = options.models or (MODELS[:1] if options.quick else MODELS)
    environment = record_environment(options.note)
    entries: list[dict[str, Any]] = []
    device = device_name(platform, environment)
    result = {
        "benchmark": "compile_time",
        "environment": environment,
        "device": device,
        "cases": entries,
    }
    path = target_path(options, f"compile_time {models[-1]}", device)
    failed = False
    for name in models:
        options.batch_size = options.batch_size or BATCH_SIZE
        case = dataclasses.replace(make_case(name, platform, options), **STEPS)
        entry: dict[str, Any] = {"settings": case_settings(case), "turns": []}
        entries.append(entry)
        for _ in range(options.rounds or (1 if options.quick else 3)):
            for kind in options.kinds:
                left = options.budget - (time.monotonic() - began)
                for turn in compile_twice(case, kind, left, options.peer_python):
                    environment["packages"].update(turn.pop("packages", {}))
                    entry["turns"].append(turn)
                    failed |= turn["status"] == "failed"
                    print(f"{name}, {kind}, {turn['cache']}: {_said(turn)}", flush=True)
                entry |= {"figures": figures(entry["turns"])}
                entry |= {"ratios": ratios(entry["figures"])}
                write_json(path, result)
    print(f"\n{summary(entries)}\n\nwritten to {shown(path)}")
    return int(failed)


def compile_twice(case: Any, kind: str, left: float, peer_python: str) -> list[dict[str, Any]]:
    """Return the turns of two processes: the first finds an empty cache, the second a full one."""
    part, changes = KINDS[kind]
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", "cached"):
            changed = dataclasses.replace(case, cache=str(Path(folder).resolve()), **changes)
            outcome = run_turn(part, changed, left, peer_python)
            turn = {"kind": kind, "cache": cache, "status": outcome["status"]}
            for key in ("reason", "packages", *FIGURES[:-1]):
                turn |= {key: outcome[key]} if key in outcome else {}
            for repeat in outcome.get("repeats", []):
                turn["step_s"] = repeat["seconds"] / repeat["steps"]
            turns.append(turn)
    return turns


def figures(turns: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each number summarized over the rounds, by kind and cache."""
    found: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys((turn["kind"], turn["cache"]) for turn in turns):
        mine = [turn for turn in turns if (turn["kind"], turn["cache"]) == key]
        for figure in FIGURES:
            values = [turn[figure] for turn in mine if figure in turn]
            if values:
                found.setdefault(", ".join(key), {})[figure] = summarize(values)
    return found


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return first-step ratios: cold / cached, unrolled / scanned, and torch.compile / unrolled."""

    def first(kind: str, cache: str) -> float | None:
        value = found.get(f"{kind}, {cache}", {}).get("first_step_s")
        return float(value["median"]) if value else None

    pairs = {f"{kind}: cold / cached": ((kind, "cold"), (kind, "cached")) for kind in KINDS}
    for cache in ("cold", "cached"):
        pairs[f"{cache}: unrolled / scanned"] = (("unrolled", cache), ("scanned", cache))
        pairs[f"{cache}: torch.compile / unrolled"] = (
            ("torch.compile", cache),
            ("unrolled", cache),
        )
    values = {name: (first(*over), first(*under)) for name, (over, under) in pairs.items()}
    return {name: over / under for name, (over, under) in values.items() if over and under}


def summary(entries: Sequence[dict[str, Any]]) -> str:
    """Return a table of the numbers, and the ratios."""
    rows = [
        (f"{entry['settings']['model']}, {key}", *(_cell(values, figure) for figure in FIGURES))
        for entry in entries
        for key, values in entry.get("figures", {}).items()
    ]
    lines = [table(("", "trace s", "compile s", "first step s", "step s"), rows), ""]
    for entry in entries:
        for name, value in entry.get("ratios", {}).items():
            lines.append(f"{entry['settings']['model']}: {name}, first step: {value:.2f}")
    return "\n".join(lines)


def _cell(values: dict[str, Any], figure: str) -> str:
    return f"{values[figure]['median']:.2f}" if figure in values else ""


def _said(turn: dict[str, Any]) -> str:
    if turn["status"] != "done":
        return f"{turn['status']}: {turn['reason']}"
    return f"first step after {turn['first_step_s']:.1f} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.compile_time", description=__doc__
    )
    parser.add_argument("--models", nargs="+", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--platform", choices=("gpu", "cpu"), help="default: gpu if there is one")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--budget", type=float, default=7200.0, help="seconds for all parts")
    add_size_options(parser)
    parser.add_argument("--batch-size", type=int, help="default: 8")
    add_peer_option(parser)
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
