"""Loss surfaces along two directions, and lines."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.landscape import Result
from flax_resnet.lab.plots.style import KINDS, new_figure


def draw(result: Result) -> Figure:
    """Draw the planes with the same colours, and lines through both networks."""
    count = len(result.kinds)
    figure, axes = new_figure(1, count + 1, width=4.0, height=3.6)
    finite = np.where(np.isfinite(result.plane), result.plane, np.nan)
    logs = np.log10(np.maximum(finite, 1e-4))
    low, high = np.floor(np.nanmin(logs)), min(np.ceil(np.nanmax(logs)), 4.0)
    levels = np.arange(low, max(high, low + 1) + 0.01, 0.25)
    for panel, kind, surface in zip(axes[0], result.kinds, logs, strict=False):
        filled = panel.contourf(
            result.plane_at, result.plane_at, surface, levels, cmap="viridis", extend="both"
        )
        panel.contour(
            result.plane_at, result.plane_at, surface, levels[::4], colors="white", linewidths=0.4
        )
        panel.plot(0, 0, "+", color="red", markersize=9)
        panel.set(
            title=f"{kind}-{result.depth}",
            xlabel="first direction (filter norms)",
            ylabel="second direction (filter norms)",
            aspect="equal",
        )
        panel.grid(visible=False)
    bar = figure.colorbar(filled, ax=axes[0, :count], shrink=0.8, ticks=levels[::4])
    bar.ax.set_title("log10\nof the loss", fontsize=8)
    lines = axes[0, -1]
    for kind, values in zip(result.kinds, result.line, strict=True):
        for number, losses in enumerate(values):
            label = f"{kind}-{result.depth}" if number == 0 else None
            lines.plot(result.line_at, losses, color=KINDS[kind], alpha=0.6, label=label)
    lines.set(
        title="along random lines", xlabel="distance (filter norms)", ylabel="loss", yscale="log"
    )
    lines.legend()
    figure.suptitle(f"Loss around trained networks (+) on {result.data}")
    return figure
