"""Where the gradient of a value in the middle lies, and how large that is at every part."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flax_resnet.lab.plots.style import COLORS, KINDS, band, new_figure
from flax_resnet.lab.receptive import Result, extent

LOWEST = 1e-8  # of the largest gradient: further out it is there, but nothing to see
SHARE = COLORS[3]
OTHERS = {"random": COLORS[6], "trained": COLORS[2]}


def draw(result: Result) -> Figure:
    """Draw a map of the last part for each network, and the fields of every part."""
    figure, axes = new_figure(1, len(result.kinds) + 1, height=3.8)
    for panel, kind, gradient, effective in zip(
        axes[0], result.kinds, result.gradient, result.effective[..., -1], strict=False
    ):
        shown = np.maximum(gradient / gradient.max(), LOWEST)
        shown[gradient == 0] = np.nan
        image = panel.imshow(shown, norm=LogNorm(LOWEST, 1), cmap="viridis")
        panel.set(xlabel="pixel", ylabel="pixel")
        panel.set_title(
            f"{result.parts[-1]}, {kind}\ntheory: {result.theory[-1]} (black), "
            f"{result.share:.0%} of the gradient: {effective.mean():.0f} (pink)"
        )
        panel.grid(visible=False)
        middle = extent(gradient)[1]
        for side, color in ((result.theory[-1], "black"), (effective.mean(), SHARE)):
            corner = middle[::-1] - side / 2
            box = Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=1.4)
            panel.add_patch(box)
    figure.colorbar(image, ax=axes[0, :-1], label="mean |gradient| / largest", shrink=0.75)
    panel = axes[0, -1]
    places = np.arange(len(result.parts))
    panel.plot(places, result.theory, "k--o", markersize=3, label="theory")
    for kind, effective in zip(result.kinds, result.effective, strict=True):
        color = KINDS.get(kind) or OTHERS[kind]
        band(panel, places, effective, color=color, marker="o", markersize=3, label=kind)
    panel.set(title=f"square of {result.share:.0%} of the gradient", ylabel="side in pixels")
    panel.set_xticks(places, result.parts)
    panel.set_ylim(bottom=0)
    panel.legend()
    figure.suptitle(f"Receptive fields of {result.network} (mean of seeds)")
    return figure
