"""Distance of each block from the identity, and what added blocks do."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.identity import Result
from flax_resnet.lab.plots.style import COLORS, band, counted, new_figure


def draw(result: Result) -> Figure:
    """Draw distances by block before and after training, over the epochs, and added blocks."""
    figure, axes = new_figure(1, 3)
    by_block, over_time, added = axes[0]
    blocks = np.arange(1, result.distance.shape[-1] + 1)
    epochs = np.arange(result.distance.shape[2])
    others = [block - 1 for block in blocks if block - 1 not in result.first_blocks]
    for kind, color, distance in zip(result.kinds, COLORS, result.distance, strict=False):
        band(by_block, blocks, distance[:, 0], color=color, linestyle=":")
        band(by_block, blocks, distance[:, -1], color=color, label=f"last norm from {kind}")
        mean = distance[..., others].mean(-1)
        band(over_time, epochs, mean, color=color, label=f"last norm from {kind}")
    by_block.plot([], [], ":", color="grey", label="before training")
    by_block.set(title="by block", ylabel="|F(x)| / |x|", ylim=(0, None))
    over_time.set(title="mean of the blocks", ylabel="|F(x)| / |x|", ylim=(0, None))
    counted(by_block, "block")
    counted(over_time, "epoch")
    for panel in (by_block, over_time):
        panel.legend()
    names = list(result.moved)
    floor = 1e-9  # what moves nothing would have no bar
    heights = [max(result.moved[name], floor) for name in names]
    added.bar(range(len(names)), heights, color=COLORS[2], width=0.6)
    for at, name in enumerate(names):
        exact = result.moved[name] == 0
        text = "exactly 0" if exact else f"{result.moved[name]:.1g}"
        added.text(at, heights[at] * 1.3, text, ha="center", va="bottom")
    added.set(
        title=f"{3 * result.added} blocks added to the trained network",
        ylabel="largest change of a logit",
        yscale="log",
        ylim=(floor, 100),
        xticks=range(len(names)),
        xticklabels=[name.replace(" blocks ", "\n") for name in names],
    )
    figure.suptitle(f"Distance from the identity: residual-{result.depth} on {result.data}")
    return figure
