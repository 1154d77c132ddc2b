"""The plot of a learning-rate range test."""

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.training.learning_rates import RangeTest


def draw(found: RangeTest) -> Figure:
    """Return a figure of the loss over the learning rate, with the suggested rate."""
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, ".", color="#56b4e9", label="each batch")
    axes.plot(found.rates, found.smoothed, color="#0072b2", label="average of neighbors")
    if found.suggested is not None:
        label = f"a tenth of the best: {found.suggested:.2g}"
        axes.axvline(found.suggested, color="#d55e00", linestyle="--", label=label)
    # A loss that has diverged would hide the rest.
    finite = found.smoothed[np.isfinite(found.smoothed)]
    if len(finite):
        low, high = float(finite.min()), float(finite[0])
        margin = 0.5 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
