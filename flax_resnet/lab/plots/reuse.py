"""Which sources the layers of every dense block read."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.plots.style import new_figure
from flax_resnet.lab.reuse import Result


def draw(result: Result) -> Figure:
    """Draw a heat map for each block, as in the paper's figure 5."""
    blocks = result.end.shape[1]
    figure, axes = new_figure(1, blocks, width=3.9, height=3.8)
    weights = result.end.mean(0)
    # A column's colours compare the sources of one reader.
    shown = weights / np.nanmax(weights, axis=-1, keepdims=True)
    places = np.arange(len(result.readers))
    for number, (panel, block) in enumerate(zip(axes[0], shown, strict=True), 1):
        image = panel.imshow(block.T, vmin=0, vmax=1, cmap="viridis")
        for reader, source in np.argwhere(~np.isnan(block)):
            value = block[reader, source]
            color = "black" if value > 0.6 else "white"
            panel.text(
                reader, source, f"{value:.2f}", ha="center", va="center", color=color, fontsize=6
            )
        follower = "head" if number == blocks else "transition"
        panel.set_xticks(places, [*result.readers[:-1], follower])
        panel.set_yticks(places, ["input", *result.readers[:-1]])
        panel.set(title=f"dense block {number}", xlabel="layer that reads")
        panel.grid(visible=False)
    axes[0, 0].set_ylabel("layer that is read")
    figure.colorbar(image, ax=axes, label="mean |kernel| / largest of its column", shrink=0.85)
    seeds = f"mean of {len(result.end)} seeds" if len(result.end) > 1 else "1 seed"
    figure.suptitle(f"Feature reuse in a DenseNet on {result.data} ({seeds})")
    return figure
