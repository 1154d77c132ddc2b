"""Gradient norms by layer, before and after training, and gains of the blocks."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.gradients import Result
from flax_resnet.lab.plots.style import KINDS, band, counted, legend_below, new_figure


def draw(result: Result) -> Figure:
    """Draw gradients at the start and after training, without norms, and the gains."""
    figure, axes = new_figure(2, 2)
    layers = np.arange(1, len(result.layers) + 1)
    epochs = result.gradient.shape[2] - 1
    panels = {
        "batch norm, before training": result.gradient[:, :, 0],
        f"batch norm, after epoch {epochs}": result.gradient[:, :, -1],
        "no norms, before training": result.bare_gradient,
    }
    for panel, (title, gradient) in zip(axes.flat, panels.items(), strict=False):
        for kind, values in zip(result.kinds, gradient, strict=True):
            band(panel, layers, values, color=KINDS[kind], label=f"{kind}-{result.depth}")
        panel.set(title=title, ylabel="norm of a kernel's gradient", yscale="log")
        counted(panel, "layer")
        panel.legend()
    panel = axes[1, 1]
    blocks = np.arange(1, result.gain.shape[-1] + 1)
    for norm, style, gains in zip(result.norms, ("-", ":"), result.gain, strict=True):
        for kind, gain in zip(result.kinds, gains, strict=True):
            words = "batch norm" if norm == "batch" else "no norms"
            label = f"{kind}, {words}"
            band(panel, blocks, gain, color=KINDS[kind], linestyle=style, label=label)
    panel.set(
        title="from behind a block to the last map",
        ylabel="|J v| / |v|",
        yscale="log",
    )
    counted(panel, "block")
    legend_below(panel, 2)
    figure.suptitle(f"Gradients of {result.depth} layers on {result.data}")
    return figure
