"""Errors of networks with deleted and with exchanged blocks."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.lesion import Result
from flax_resnet.lab.plots.style import KINDS, band, counted, legend_below, new_figure


def draw(result: Result) -> Figure:
    """Draw a panel each for one deleted block, many, and exchanges."""
    figure, axes = new_figure(1, 3, height=3.7, sharey=True)
    one, many, exchanged = axes[0]
    blocks = np.arange(1, result.one.shape[-1] + 1)
    for at, kind in enumerate(result.kinds):
        color, label = KINDS[kind], f"{kind}-{result.depth}"
        band(one, blocks, 100 * result.one[at], color=color, label=label, marker=".")
        one.axhline(100 * result.whole[at].mean(), color=color, linestyle=":", linewidth=1)
        for panel, values in ((many, result.many[at]), (exchanged, result.exchanged[at])):
            flat = 100 * values.reshape(-1, values.shape[-1])
            band(panel, np.arange(1, flat.shape[-1] + 1), flat, color=color, label=label)
    for block in result.first_blocks:
        one.axvline(block + 1, color="grey", linewidth=0.8, linestyle="--")
    one.plot([], [], ":", color="grey", label="whole network")
    one.plot([], [], "--", color="grey", linewidth=0.8, label="changes the shape")
    one.set(title="one block deleted", ylabel="test error in %")
    many.set_title("several blocks deleted")
    exchanged.set_title("blocks exchanged")
    counted(one, "block")
    counted(many, "deleted blocks")
    counted(exchanged, "exchanges of two blocks of a stage")
    for panel in axes[0]:
        legend_below(panel, 2)
    figure.suptitle(f"Lesions at test time on {result.data}: mean and range")
    return figure
