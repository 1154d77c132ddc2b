"""Measure the trainer's steps per second relative to a bare loop of the same jitted step.

The trainer is `flax_resnet.training.train` itself: loader, transfer, logging and display, without
evaluation; its checkpoint is saved after the clock stops. The bare loop calls the trainer's
compiled step on one batch that stays on the device. Both run in this process, in turns.
"""

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging
from ml_collections import config_flags

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
from benchmarks.trainer.probe import PHASES, TrainerProbe, Turn
from flax_resnet.data import train_batches
from flax_resnet.steps.mesh import put_batch
from flax_resnet.steps.state import init_state
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import check_overrides, parse
from flax_resnet.training.recipes import load_recipe
from flax_resnet.training.setup import Setup, prepare_run

TARGET = 0.95
FEWEST_STEPS = 10
ENDLESS = 10_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, write the JSON and print a table."""
    options = _parser().parse_args(arguments)
    options.repeats = options.repeats or (1 if options.quick else 5)
    options.repeat_s = options.repeat_s or (0.2 if options.quick else 5.0)
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file
    config = _without_pauses(load_config(options.config, options.set))
    environment = record_environment(options.note)
    result = {
        "benchmark": "trainer_overhead",
        "settings": config.to_dict(),
        "environment": environment,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        **compare(config, options.repeats, options.repeat_s),
    }
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    kind = f"{'quick ' if options.quick else ''}trainer overhead {options.config.stem}"
    on_gpu = bool(environment["gpus"]) and jax.default_backend() != "cpu"
    device = result["device"] if on_gpu else f"{environment['cores']} cores"
    path = result_path(folder, kind, str(device))
    write_json(path, result)
    print(f"\n{summary(result)}\n\nwritten to {shown(path)}")
    return 0


def compare(config: TrainConfig, repeats: int, repeat_s: float) -> dict[str, Any]:
    """Run the trainer and the bare loop in turns; return steps per second and their ratios.

    Args:
      repeats: turns of the trainer, each between two of the bare loop.
      repeat_s: approximate length of a turn; a turn has at least 10 steps.
    """
    probe, setup = TrainerProbe(config), prepare_run(config)
    probe.run(1, 0)
    bare_loop = _BareLoop(probe.step_fn, setup)
    bare_loop.run(FEWEST_STEPS)
    steps = max(FEWEST_STEPS, round(repeat_s * FEWEST_STEPS / bare_loop.run(FEWEST_STEPS).seconds))
    # The loader starts with prefetched batches; they are consumed before the clock runs.
    warm_up = max(FEWEST_STEPS, steps // 2)
    trainer, bare = [], [bare_loop.run(steps)]
    for number in range(repeats):
        trainer.append(probe.run(steps, warm_up))
        bare_loop.run(2)
        bare.append(bare_loop.run(steps))
        print(f"turn {number + 1}: {_speed(trainer[-1]):.2f}, {_speed(bare[-1]):.2f} steps/s")
    # A shared machine drifts: each turn is compared with the mean of its neighbors.
    beside = [(_speed(before) + _speed(after)) / 2 for before, after in itertools.pairwise(bare)]
    cpu = {"trainer": _cpu_ms(trainer), "bare": _cpu_ms(bare)}
    return {
        "steps_per_turn": steps,
        "target_ratio": TARGET,
        "ratio": summarize(
            [_speed(turn) / speed for turn, speed in zip(trainer, beside, strict=True)]
        ),
        "trainer_steps_per_second": summarize([_speed(turn) for turn in trainer]),
        "bare_steps_per_second": summarize([_speed(turn) for turn in bare]),
        # CPU time of all cores, which other load on the machine hardly affects.
        "cpu_ms_per_step": cpu,
        "cpu_ratio": cpu["bare"]["median"] / cpu["trainer"]["median"],
        "trainer_ms_per_step": {
            name: 1000 * statistics.median(turn.phases[name] for turn in trainer) for name in PHASES
        },
        "loader_alone_ms_per_batch": 1000 * _loader_seconds(setup, steps, warm_up),
    }


def _speed(turn: Turn) -> float:
    return turn.steps / turn.seconds


def _cpu_ms(turns: Sequence[Turn]) -> dict[str, Any]:
    return summarize([1000 * turn.cpu_seconds / turn.steps for turn in turns])


def summary(result: dict[str, Any]) -> str:
    """Return a result as text: a table of both loops, then where the trainer's time goes."""
    cpu = result["cpu_ms_per_step"]
    rows = [
        (title, f"{speed['median']:.2f}", f"{speed['spread']:.1%}", f"{cpu[name]['median']:.1f}")
        for title, name, speed in (
            ("trainer", "trainer", result["trainer_steps_per_second"]),
            ("bare loop", "bare", result["bare_steps_per_second"]),
        )
    ]
    ratio, settings = result["ratio"], result["settings"]
    phases = ", ".join(f"{name} {ms:.2f}" for name, ms in result["trainer_ms_per_step"].items())
    return "\n".join(
        (
            f"{settings['model']['name']} on {settings['data']['source']}, batch "
            f"{settings['data']['batch_size']}, {settings['data']['image_size']} px, "
            f"{result['steps_per_turn']} steps a turn, on {result['device']}",
            "",
            table(("", "steps/s", "spread", "CPU ms per step"), rows),
            "",
            f"ratio {ratio['median']:.3f} (from {ratio['min']:.3f} to {ratio['max']:.3f}, target "
            f"{result['target_ratio']}), by CPU time {result['cpu_ratio']:.3f}",
            f"ms of a trainer's step: {phases}",
            f"the loader alone makes a batch in {result['loader_alone_ms_per_batch']:.2f} ms",
        )
    )


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Return the config of a recipe's file after changes such as `data.source=synthetic`."""
    config, values = load_recipe(str(path)), flags.FlagValues()
    words = ["", *(f"--config.{change}" for change in changes)]
    check_overrides(config, words)
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
    values(words)
    return parse(config)


class _BareLoop:
    """The jitted step on one batch on the device, and nothing else."""

    def __init__(self, step_fn: Any, setup: Setup) -> None:
        config = setup.config
        shape = (config.data.image_size, config.data.image_size, config.data.channels)
        self._step_fn = step_fn
        self._state = init_state(setup.model, setup.optimizer, config.seed, shape, setup.mesh)
        batches = train_batches(setup.train_source, config.data, seed=config.seed, num_batches=1)
        batch = next(batches)
        batches.close()
        rows = {"image": batch["image"], "label": batch["label"]}
        self._batch = put_batch(rows, setup.mesh)

    def run(self, steps: int) -> Turn:
        """Take steps, and wait until the device has finished them."""
        jax.block_until_ready(self._state)
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self._state, _ = self._step_fn(self._state, self._batch)
        jax.block_until_ready(self._state)
        return Turn(steps, time.perf_counter() - began, time.process_time() - cpu, {})


def _loader_seconds(setup: Setup, batches: int, warm_up: int) -> float:
    """Return the seconds that the loader takes per batch when nothing else runs."""
    stream = setup.training_batches(0, batches + warm_up)
    for _ in range(warm_up):
        jax.block_until_ready(next(stream))
    began = time.perf_counter()
    for _ in range(batches):
        # Batches that are gathered on the devices are not ready at once.
        jax.block_until_ready(next(stream))
    taken = time.perf_counter() - began
    stream.close()
    return taken / batches


def _without_pauses(config: TrainConfig) -> TrainConfig:
    """Return a config whose run neither evaluates nor saves until it is stopped."""
    checkpoint = dataclasses.replace(config.checkpoint, every_steps=None)
    return dataclasses.replace(
        config, steps=ENDLESS, eval_every_epochs=float(ENDLESS), checkpoint=checkpoint
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainer.overhead", description=__doc__
    )
    recipe = ROOT / "configs" / "digits.py"
    parser.add_argument("--config", type=Path, default=recipe, help="a recipe; default: digits")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"
    )
    parser.add_argument("--repeats", type=int, help="turns; default: 5, quick 1")
    parser.add_argument("--repeat-s", type=float, help="seconds a turn; default: 5, quick 0.2")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
