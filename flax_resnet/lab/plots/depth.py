"""Stochastic depth, and the first steps of very deep networks."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.depth import Result
from flax_resnet.lab.plots.style import (
    COLORS,
    LEAST_ERROR,
    band,
    counted,
    legend_below,
    logarithmic,
    new_figure,
)


def draw(result: Result) -> Figure:
    """Draw errors with and without stochastic depth, and losses by step."""
    figure, axes = new_figure(1, 2, width=4.8, height=3.8)
    errors, steps = axes[0]
    epochs = np.arange(1, result.test_error.shape[-1] + 1)
    for at, rate in enumerate(result.rates):
        color, name = COLORS[at], f"drops up to {rate:g}" if rate else "drops nothing"
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
    figure.suptitle(f"Depth on {result.data}: mean of seeds, test error with its range")
    return figure
