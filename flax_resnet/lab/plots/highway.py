"""Training losses of plain and highway networks, and their gates."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.highway import Result
from flax_resnet.lab.plots.style import COLORS, band, counted, legend_below, new_figure, shades

MAPS = {"plain": "Oranges", "highway": "Blues"}


def draw(result: Result) -> Figure:
    """Draw losses by epoch in a panel for each kind, and the mean gates by layer."""
    figure, axes = new_figure(1, 3, width=3.9, height=3.6)
    epochs = np.arange(1, result.train_loss.shape[-1] + 1)
    low, high = np.nanmin(result.train_loss), np.nanmax(result.train_loss)
    for panel, kind, losses in zip(axes[0], result.kinds, result.train_loss, strict=False):
        colors = shades(MAPS[kind], len(result.depths))
        for depth, color, loss in zip(result.depths, colors, losses, strict=True):
            band(panel, epochs, loss, color=color, label=f"{kind}-{depth}")
        panel.set(title=f"{kind} networks", ylabel="training loss", yscale="log")
        counted(panel, "epoch")
        panel.set_ylim(low / 1.5, high * 1.5)
        legend_below(panel)
    gates = axes[0, -1]
    layers = np.arange(1, result.gate.shape[-1] + 1)
    gates.plot(layers, result.gate[0], ":", color=COLORS[6], label="before training")
    gates.plot(layers, result.gate[1], color=COLORS[0], label="after training")
    gates.set(
        title=f"gates of {max(result.depths)} layers",
        ylabel="mean transform gate T",
        ylim=(0, 1.5 * result.gate.max()),
    )
    counted(gates, "layer")
    legend_below(gates)
    figure.suptitle(f"Highway networks on {result.data}: mean and range of seeds")
    return figure
