"""How many paths there are of each length, and how much gradient they carry."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.paths import Result, carried
from flax_resnet.lab.plots.style import COLORS, band, counted, new_figure


def draw(result: Result) -> Figure:
    """Draw the three panels of Veit et al., figure 6."""
    figure, axes = new_figure(1, 3, width=3.8)
    number, each, together = axes[0]
    lengths = np.arange(len(result.count))
    number.bar(lengths, 100 * result.count, color=COLORS[6])
    number.set(title="how many paths", ylabel="share of all paths in %")
    flat = result.gradient.reshape(-1, len(lengths))
    band(each, lengths, np.maximum(flat, 1e-30), color=COLORS[0], label="mean, range of paths")
    each.set(title="gradient of one path", ylabel="norm of the gradient", yscale="log")
    each.legend()
    together.bar(lengths, 100 * carried(result), color=COLORS[1])
    together.set(title="gradient of all of a length", ylabel="share of the gradient in %")
    for panel in axes[0]:
        counted(panel, "branches that the path passes")
    figure.suptitle(f"Paths through residual-{result.depth} on {result.data}")
    return figure
