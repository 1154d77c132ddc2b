"""Measure the cost of mixup, cutmix and mixed targets as shares of a training step.

Each part is jitted alone and timed in turns with the others and with the whole step: normalizing
and mixing a batch, and the loss with its gradient with respect to the logits. The step fuses them
with their neighbors, so these numbers are upper bounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    add_result_options,
    record_environment,
    result_path,
    shown,
    summarize,
    table,
    write_json,
)
from flax_resnet.models import create_model
from flax_resnet.steps.gradient import prepare_batch
from flax_resnet.steps.mesh import data_mesh, put_batch
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, make_train_step
from flax_resnet.steps.tasks.classification import classification_loss

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MIXINGS = {
    "none": MixConfig(),
    "mixup": MixConfig(mixup=0.2),
    "cutmix": MixConfig(cutmix=1.0),
    "both": MixConfig(mixup=0.2, cutmix=1.0),
    "both per pair": MixConfig(mixup=0.2, cutmix=1.0, per="pair"),
    "both per element": MixConfig(mixup=0.2, cutmix=1.0, per="element"),
}
STEPS = ("none", "both")
TARGETS: dict[str, tuple[bool, dict[str, Any]]] = {
    "softmax, plain": (False, dict(label_smoothing=0.1)),
    "softmax, mixed": (True, dict(label_smoothing=0.1)),
    "sigmoid, mixed": (True, dict(label_smoothing=0.1, loss="sigmoid", target_threshold=0.2)),
}


@dataclass(frozen=True)
class Shape:
    """A network and its batches."""

    model: str
    batch_size: int
    image_size: int
    num_classes: int


SHAPES = (Shape("cifar_resnet20", 128, 32, 10), Shape("resnet50", 16, 224, 1000))
QUICK_SHAPES = (Shape("cifar_resnet20", 8, 16, 10),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, write the JSON and print a table."""
    options = _parser().parse_args(arguments)
    repeats = options.repeats or (1 if options.quick else 7)
    environment = record_environment(options.note)
    cases = [measure(shape, repeats) for shape in (QUICK_SHAPES if options.quick else SHAPES)]
    result = {
        "benchmark": "mixing",
        "environment": environment,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cases": cases,
    }
    on_gpu = bool(environment["gpus"]) and jax.default_backend() != "cpu"
    device = result["device"] if on_gpu else f"{environment['cores']} cores"
    kind = f"{'quick ' if options.quick else ''}mixing"
    path = result_path(
        options.output or (QUICK_RESULTS if options.quick else RESULTS), kind, str(device)
    )
    write_json(path, result)
    for case in cases:
        print(f"\n{summary(case)}")
    print(f"\nwritten to {shown(path)}")
    return 0


def measure(shape: Shape, repeats: int) -> dict[str, Any]:
    """Return milliseconds of every part and of the step, and the parts' shares of it.

    A share is the median over turns of a part's extra time, relative to `none` or to plain targets,
    divided by the time of the step without mixing in the same turn.
    """
    batch = _batch(shape)
    runs = _mixing_runs(batch) | _loss_runs(shape, batch) | _step_runs(shape, batch)
    counts = {name: max(1, min(50, round(0.2 / _seconds(run, 1)))) for name, run in runs.items()}
    turns = [
        {name: 1000 * _seconds(run, counts[name]) for name, run in runs.items()}
        for _ in range(repeats)
    ]
    shares = {
        name: statistics.median((turn[name] - turn[base]) / turn["step: none"] for turn in turns)
        for name, base in _bases().items()
    }
    milliseconds = {name: summarize([turn[name] for turn in turns]) for name in runs}
    return {"shape": asdict(shape), "milliseconds": milliseconds, "shares": shares}


def summary(case: dict[str, Any]) -> str:
    """Return a case as text."""
    shape, shares = case["shape"], case["shares"]
    rows = [
        (name, f"{ms['median']:.2f}", f"{shares[name]:+.2%}" if name in shares else "")
        for name, ms in case["milliseconds"].items()
    ]
    title = f"{shape['model']}, batch {shape['batch_size']}, {shape['image_size']} px"
    return f"{title}\n\n{table(('part', 'ms', 'of the step'), rows)}"


def _bases() -> dict[str, str]:
    """Return the baseline of each part."""
    targets = [f"loss: {name}" for name in TARGETS]
    return (
        {f"images: {name}": "images: none" for name in MIXINGS if name != "none"}
        | dict.fromkeys(targets[1:], targets[0])
        | {f"step: {name}": "step: none" for name in STEPS if name != "none"}
    )


def _batch(shape: Shape) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    size = (shape.batch_size, shape.image_size, shape.image_size, 3)
    rows = {
        "image": rng.integers(0, 256, size, np.uint8),
        "label": rng.integers(0, shape.num_classes, shape.batch_size, np.int32),
    }
    return put_batch(rows, data_mesh())


def _mixing_runs(batch: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    def make(mixing: MixConfig) -> Callable[[], Any]:
        prepare = jax.jit(
            lambda rows, key: prepare_batch(rows, key, mean=MEAN, std=STD, mixing=mixing)
        )
        return lambda: prepare(batch, jax.random.key(0))

    return {f"images: {name}": make(mixing) for name, mixing in MIXINGS.items()}


def _loss_runs(shape: Shape, batch: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    count = shape.batch_size
    logits = jax.random.normal(jax.random.key(0), (count, shape.num_classes))
    extra = {"partner": batch["label"][::-1], "share": jnp.linspace(0, 1, count)}

    def make(mixed: bool, settings: dict[str, Any]) -> Callable[[], Any]:
        rows = {"label": batch["label"]} | (extra if mixed else {})
        grad = jax.jit(jax.grad(lambda x, rows: classification_loss(x, rows, **settings)[0]))
        return lambda: grad(logits, rows)

    return {f"loss: {name}": make(*arguments) for name, arguments in TARGETS.items()}


def _step_runs(shape: Shape, batch: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    mesh, rate = data_mesh(), optax.constant_schedule(0.1)
    model = create_model(shape.model, num_classes=shape.num_classes, image_size=shape.image_size)
    optimizer = optax.sgd(rate, momentum=0.9)
    size = (shape.image_size, shape.image_size, 3)

    def make(mixing: MixConfig) -> Callable[[], Any]:
        parts = StepParts(model, optimizer, rate, mean=MEAN, std=STD, mixing=mixing)
        step = make_train_step(parts, mesh)
        states = [init_state(model, optimizer, 0, size, mesh)]

        def run() -> Any:
            states[0], metrics = step(states[0], batch)
            return metrics

        return run

    return {f"step: {name}": make(MIXINGS[name]) for name in STEPS}


def _seconds(run: Callable[[], Any], count: int) -> float:
    """Return the mean seconds of a call, after one warm-up call."""
    jax.block_until_ready(run())
    began = time.perf_counter()
    for _ in range(count):
        outcome = run()
    jax.block_until_ready(outcome)
    return (time.perf_counter() - began) / count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainer.mixing", description=__doc__
    )
    parser.add_argument("--repeats", type=int, help="turns; default: 7, quick 1")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
