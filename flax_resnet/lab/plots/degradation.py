"""Training and test error of plain and of residual networks."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.degradation import Result
from flax_resnet.lab.plots.style import (
    LEAST_ERROR,
    band,
    counted,
    legend_below,
    logarithmic,
    new_figure,
    shades,
)

MAPS = {"plain": "Oranges", "residual": "Blues"}


def draw(result: Result) -> Figure:
    """Draw a panel for each kind, as in the paper's figure 6."""
    figure, axes = new_figure(1, len(result.kinds), height=3.8, sharey=True)
    epochs = np.arange(1, result.train_error.shape[-1] + 1)
    for panel, kind, train, test in zip(
        axes[0], result.kinds, result.train_error, result.test_error, strict=True
    ):
        colors = shades(MAPS[kind], len(result.depths))
        for depth, color, trained, tested in zip(result.depths, colors, train, test, strict=True):
            trained, tested = (np.maximum(100 * e, LEAST_ERROR) for e in (trained, tested))
            panel.plot(epochs, trained.mean(0), "--", color=color, linewidth=1)
            band(panel, epochs, tested, color=color, label=f"{kind}-{depth}")
        panel.set_title(f"{kind} networks")
        counted(panel, "epoch")
        logarithmic(panel.yaxis, LEAST_ERROR)
        panel.plot([], [], "--", color="grey", linewidth=1, label="training")
        panel.plot([], [], "-", color="grey", label="test")
        legend_below(panel)
    axes[0, 0].set_ylabel("error in %")
    figure.suptitle(f"Degradation on {result.data}: mean of seeds, test error with its range")
    return figure
