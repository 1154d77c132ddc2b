"""Measure what a checkpoint costs the training loop.

The trainer runs in turns: without saves, with saves in the background (its default), and with
blocking saves. Each turn with saves is compared with the turns without saves before and after it.
`Steps lost` is the time that a save adds to the loop, divided by the time of a step: the call
itself, the wait for the device before it, and what the background save takes from later steps.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    ROOT,
    add_result_options,
    record_environment,
    result_path,
    shown,
    summarize,
    table,
    write_json,
)
from benchmarks.trainer.overhead import ENDLESS, load_config
from benchmarks.trainer.probe import Save, TrainerProbe, watched_saves
from flax_resnet.training.config import TrainConfig

# A small and a large state, with images so small that a step takes less than a second.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "cifar_resnet20": ("cifar10_resnet20.py", {"data.batch_size": 32}),
    "resnet50": ("resnet50_imagenet.py", {"data.batch_size": 8, "data.image_size": 64}),
}
SHARED: dict[str, Any] = {
    "data.source": "synthetic",
    "data.workers": 0,
    "schedule.learning_rate": 0.01,
}
MODES = {"background": False, "at once": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every model in turns, write the JSON and print a table."""
    options = _parser().parse_args(arguments)
    models = options.models or (["cifar_resnet20"] if options.quick else list(CASES))
    every = options.every or (2 if options.quick else 20)
    repeats = options.repeats or (1 if options.quick else 3)
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file
    environment = record_environment(options.note)
    cases = []
    with tempfile.TemporaryDirectory() as cache:
        # Each turn initializes a new state; the cache avoids compiling that program again.
        jax.config.update("jax_compilation_cache_dir", cache)
        for name in models:
            saves = 1 if options.quick else options.saves
            cases.append(measure(name, every, saves, repeats, options.quick))
    result = {
        "benchmark": "checkpoint",
        "environment": environment,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cases": cases,
    }
    on_cpu = jax.default_backend() == "cpu"
    device = f"{environment['cores']} cores" if on_cpu else str(result["device"])
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    path = result_path(folder, f"{'quick ' if options.quick else ''}checkpoint", device)
    write_json(path, result)
    print(f"\n{summary(result)}\n\nwritten to {shown(path)}")
    return 0


def measure(name: str, every: int, saves: int, repeats: int, quick: bool = False) -> dict[str, Any]:
    """Run one model in turns and return what its saves cost, by mode.

    Args:
      every: steps from one save to the next.
      saves: in a turn.
      repeats: turns of each mode.
    """
    steps = every * saves
    plain = TrainerProbe(_config(name, None, quick))
    saving = {mode: TrainerProbe(_config(name, every, quick)) for mode in MODES}
    _seconds(plain, steps, every)  # compiles
    neighbors = [_seconds(plain, steps, every)]
    turns: dict[str, list[tuple[float, list[Save]]]] = {mode: [] for mode in MODES}
    for number in range(repeats):
        for mode, at_once in MODES.items():
            if not number:
                saving[mode].run(1, 0)  # compiles
            with watched_saves(at_once=at_once) as seen:
                seconds = _seconds(saving[mode], steps, every)
            # The turn begins after the first save and ends before the final one.
            turns[mode].append((seconds, seen[1 : saves + 1]))
            neighbors.append(_seconds(plain, steps, every))
            print(f"{name}, turn {number + 1}, {mode}: {seconds / steps:.3f} s a step", flush=True)
    case = {"model": name, "every": every, "saves_per_turn": saves}
    case["plain_step_s"] = summarize([seconds / steps for seconds in neighbors])
    for index, mode in enumerate(MODES):
        beside = [
            statistics.mean(neighbors[at : at + 2])
            for at in range(index, len(neighbors) - 1, len(MODES))
        ]
        case[mode] = _cost(turns[mode], beside, steps, saves)
    return case


def _cost(
    turns: Sequence[tuple[float, list[Save]]], beside: Sequence[float], steps: int, saves: int
) -> dict[str, Any]:
    """Return the cost of saves; `beside` has the seconds of a neighboring turn without saves."""
    every_save = [save for _, seen in turns for save in seen]
    pairs = [(seconds, plain) for (seconds, _), plain in zip(turns, beside, strict=True)]
    return {
        "blocked_s": summarize([save.blocked_s for save in every_save]),
        "complete_s": summarize([save.complete_s for save in every_save]),
        "bytes": max(save.bytes for save in every_save),
        "steps_lost_per_save": [
            (seconds - plain) / saves / (plain / steps) for seconds, plain in pairs
        ],
        "ratio": summarize([plain / seconds for seconds, plain in pairs]),
        "saves": [dataclasses.asdict(save) for save in every_save],
    }


def summary(result: dict[str, Any]) -> str:
    """Return the cases as a table."""
    header = (
        "model, saving",
        "step s",
        "blocked s",
        "complete s",
        "MiB",
        "steps lost per save",
        "speed",
        "spread",
    )
    rows = []
    for case in result["cases"]:
        for mode in MODES:
            cost = case[mode]
            lost = cost["steps_lost_per_save"]
            rows.append(
                (
                    f"{case['model']}, {mode}",
                    f"{case['plain_step_s']['median']:.3f}",
                    f"{cost['blocked_s']['median']:.3f}",
                    f"{cost['complete_s']['median']:.2f}",
                    f"{cost['bytes'] / 2**20:.1f}",
                    f"{statistics.median(lost):.2f} ({min(lost):.2f} to {max(lost):.2f})",
                    f"{cost['ratio']['median']:.3f}",
                    f"{cost['ratio']['spread']:.1%}",
                )
            )
    every = result["cases"][0]["every"]
    return (
        f"{table(header, rows)}\n\nspeed: of the loop that saves every {every} steps, relative to "
        "the loop without saves"
    )


def _seconds(probe: TrainerProbe, steps: int, warm_up: int) -> float:
    return probe.run(steps, warm_up).seconds


def _config(name: str, every: int | None, quick: bool) -> TrainConfig:
    """Return an endless recipe that saves every `every` steps and never evaluates."""
    file, changes = CASES[name]
    changes = SHARED | changes | ({"data.batch_size": 8} if quick else {})
    config = load_config(ROOT / "configs" / file, [f"{key}={changes[key]}" for key in changes])
    checkpoint = dataclasses.replace(config.checkpoint, every_steps=every)
    return dataclasses.replace(
        config, steps=ENDLESS, eval_every_epochs=float(ENDLESS), checkpoint=checkpoint
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainer.checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=CASES, help="default: all, quick the first")
    parser.add_argument("--every", type=int, help="steps between saves; default: 20, quick 2")
    parser.add_argument("--saves", type=int, default=3, help="in a turn; default: 3, quick 1")
    parser.add_argument("--repeats", type=int, help="turns of a mode; default: 3, quick 1")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
