"""Errors of every kind of shortcut, and gradients along the blocks."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.plots.style import COLORS, LEAST_ERROR, counted, logarithmic, new_figure
from flax_resnet.lab.shortcuts import Result


def draw(result: Result) -> Figure:
    """Draw final errors as points with their range, and the gradients before training."""
    figure, axes = new_figure(1, 2, width=5.2, height=4.2)
    errors, flow = axes[0]
    places = np.arange(len(result.kinds))[::-1]
    for values, color, label, shift in (
        (result.train_error, COLORS[5], "training", 0.15),
        (result.test_error, COLORS[0], "test", -0.15),
    ):
        final = np.maximum(100 * values[..., -1], LEAST_ERROR)
        mean = final.mean(-1)
        spread = np.stack([mean - final.min(-1), final.max(-1) - mean]).clip(0)  # but for rounding
        errors.errorbar(mean, places + shift, xerr=spread, fmt="o", color=color, label=label)
    errors.set(
        title=f"error after epoch {result.test_error.shape[-1]}",
        xlabel="error in % (mean and range of seeds)",
        yticks=places,
        yticklabels=result.kinds,
    )
    logarithmic(errors.xaxis, LEAST_ERROR)
    errors.legend()
    blocks = np.arange(1, result.flow.shape[-1] + 1)
    colors = matplotlib.colormaps["tab10"]
    for at, (kind, values) in enumerate(zip(result.kinds, result.flow, strict=True)):
        flow.plot(blocks, values.mean(0), color=colors(at), label=kind)
    flow.set(
        title="gradient before training",
        ylabel="norm of the gradient of its output",
        yscale="log",
    )
    counted(flow, "block")
    figure.legend(*flow.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(f"Shortcuts and orders: {result.depth} layers on {result.data}")
    return figure
