"""Depth: the effect of stochastic depth, and the first training steps of very deep networks.

Huang et al., arXiv:1603.09382, drop the branches of random blocks while training. He et al.,
arXiv:1512.03385, section 4.2, train 110 and 1202 layers; the blocks of the deepest are compiled
once and scanned over (`scan_blocks`). "From zero": the last norm of every block starts at zero.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.networks import deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import (
    COLORS,
    LEAST_ERROR,
    band,
    count_seeds,
    counted,
    legend_below,
    logarithmic,
    new_figure,
    percent,
)

# Compiling a step of a deeper network block by block takes minutes and a lot of memory.
DEEPEST_UNROLLED = 200
STARTS: dict[str, dict[str, Any]] = {
    "plain": dict(shortcut="none"),
    "residual": dict(shortcut="zero_pad"),
    "residual from zero": dict(shortcut="zero_pad", zero_init_last=True),
}


@dataclass(frozen=True)
class Settings(Training):
    """The networks of both parts."""

    epochs: int = 30
    depth: int = 32
    drop_path: float = 0.5
    """Rate at which the last block is dropped; it grows linearly from 0 at the first."""
    deep: tuple[int, ...] = (110, 1202)
    deep_steps: int = 30
    deep_batch_size: int = 16
    deep_learning_rate: float = 0.05


SIZES = {
    "small": Settings(),
    "paper": Settings(
        data="cifar10", depth=110, epochs=500, batch_size=128, deep_steps=400, deep_batch_size=128
    ),
}


@dataclass(frozen=True)
class Result:
    """Errors with and without stochastic depth, and losses of very deep networks.

    Attributes:
      train_error, test_error: by drop rate, seed and epoch, from 0 to 1.
      loss: by deep network and step.
    """

    data: str
    depth: int
    rates: tuple[float, ...]
    train_error: np.ndarray
    test_error: np.ndarray
    deep: tuple[str, ...]
    loss: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train with and without stochastic depth; take the first steps of very deep networks."""
    rates = (0.0, settings.drop_path)
    train_error = np.zeros((len(rates), settings.seeds, settings.epochs))
    test_error = np.zeros_like(train_error)
    for at, rate in enumerate(track(rates, "drop rates")):
        model = deep_network(settings, settings.depth, "zero_pad", drop_path=rate)
        fitter = Fitter(model, settings)
        for seed in range(settings.seeds):
            fitted = fitter.fit(seed)
            train_error[at, seed], test_error[at, seed] = fitted.train_error, fitted.test_error
    names = [(depth, kind) for depth in settings.deep for kind in STARTS]
    losses = [
        first_steps(settings, depth, STARTS[kind])
        for depth, kind in track(names, "very deep networks")
    ]
    return Result(
        settings.data,
        settings.depth,
        rates,
        train_error,
        test_error,
        tuple(f"{kind}-{depth}" for depth, kind in names),
        np.asarray(losses),
    )


def first_steps(settings: Settings, depth: int, arguments: dict[str, Any]) -> np.ndarray:
    """Return the losses of the first steps of a network, (steps,)."""
    scan = depth > DEEPEST_UNROLLED
    model = deep_network(settings, depth, **arguments, scan_blocks=scan, remat=scan)
    first = dataclasses.replace(
        settings,
        batch_size=settings.deep_batch_size,
        learning_rate=settings.deep_learning_rate,
        warmup=0.0,
    )
    return Fitter(model, first).first_losses(0, settings.deep_steps)


def finding(result: Result) -> str:
    """Compare errors with and without stochastic depth, and the losses of the first steps."""
    without, dropped = (
        f"{percent(result.test_error[at, :, -1])} test error at "
        f"{result.train_error[at, :, -1].mean():.1%} training error"
        for at in range(2)
    )
    starts = "; ".join(
        f"{name} {losses[0]:.3g} -> {_last(losses)}"
        for name, losses in zip(result.deep, result.loss, strict=True)
    )
    return (
        f"On {result.data} ({count_seeds(result.test_error.shape[1])}), {result.depth} layers "
        f"reach {without}; with stochastic depth of {result.rates[1]:g} {dropped}. Training loss "
        f"of the first of {result.loss.shape[-1]} steps and mean of the last five: {starts}."
    )


def _last(losses: np.ndarray) -> str:
    mean = losses[-5:].mean()
    return f"{mean:.3g}" if np.isfinite(mean) else "diverged"


def draw(result: Result) -> Figure:
    """Draw errors with and without stochastic depth, and losses by step."""
    figure, axes = new_figure(1, 2, width=4.8, height=3.8)
    errors, steps = axes[0]
    epochs = np.arange(1, result.test_error.shape[-1] + 1)
    for at, rate in enumerate(result.rates):
        color, name = COLORS[at], f"drop rate up to {rate:g}" if rate else "no stochastic depth"
        trained, tested = (
            np.maximum(100 * e[at], LEAST_ERROR) for e in (result.train_error, result.test_error)
        )
        errors.plot(epochs, trained.mean(0), "--", color=color, linewidth=1)
        band(errors, epochs, tested, color=color, label=name)
    errors.plot([], [], "--", color="grey", linewidth=1, label="training")
    errors.plot([], [], "-", color="grey", label="test")
    errors.set(
        title=f"stochastic depth, {result.depth} layers",
        ylabel="error in %",
    )
    counted(errors, "epoch")
    logarithmic(errors.yaxis, LEAST_ERROR)
    legend_below(errors, 2)
    numbers, deepest = np.arange(1, result.loss.shape[-1] + 1), result.deep[-1].rpartition("-")[-1]
    kinds = dict.fromkeys(name.rpartition("-")[0] for name in result.deep)
    colors = dict(zip(kinds, (COLORS[1], COLORS[0], COLORS[2]), strict=False))
    for name, losses in zip(result.deep, result.loss, strict=True):
        kind, _, depth = name.rpartition("-")
        line = "-" if depth == deepest else ":"
        steps.plot(numbers, losses, line, color=colors[kind], label=name)
    steps.set(title="first steps", ylabel="training loss", yscale="log")
    counted(steps, "step")
    legend_below(steps, 2)
    figure.suptitle(f"Depth on {result.data}: mean over seeds, range of the test error")
    return figure
