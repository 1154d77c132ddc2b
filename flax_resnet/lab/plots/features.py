"""Maps of features, neighbours by part, and images with their neighbours."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flax_resnet.lab.features import Result
from flax_resnet.lab.plots.style import COLORS, new_figure

KINDS = {"random": COLORS[6], "trained": COLORS[2]}
NAMED = 10  # classes that get a name in the legend; more would hide the points


def draw(result: Result) -> Figure:
    """Draw a map for each network, the share of right neighbours, and some of them."""
    figure, axes = new_figure(2, 2, width=5, height=4)
    for panel, kind, places in zip(axes[0], result.kinds, result.embedding, strict=True):
        _map(panel, places, result)
        panel.set_title(f"test images by pooled features, {kind} weights ({result.method})")
    if len(np.unique(result.labels)) <= NAMED:
        axes[0, 1].legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    _shares(axes[1, 0], result)
    _neighbours(axes[1, 1], result)
    figure.suptitle(f"Features of {result.network} on {result.data}")
    return figure


def _map(panel: Any, places: np.ndarray, result: Result) -> None:
    classes = np.unique(result.labels)
    shades = colormaps["tab10" if len(classes) <= NAMED else "nipy_spectral"]
    for number, label in enumerate(classes):
        color = shades(number if len(classes) <= NAMED else number / len(classes))
        name = result.class_names[label] if result.class_names else str(label)
        rows = places[result.labels == label]
        panel.scatter(rows[:, 0], rows[:, 1], s=8, color=color, label=name, linewidths=0)
    panel.set(xticks=[], yticks=[])
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def _shares(panel: Any, result: Result) -> None:
    spots = np.arange(len(result.parts))
    for kind, same, vote in zip(result.kinds, result.same, result.vote, strict=True):
        color = KINDS[kind]
        panel.plot(spots, 100 * same, "-o", color=color, markersize=3, label=f"{kind}: same class")
        panel.plot(spots, 100 * vote, ":s", color=color, markersize=3, label=f"{kind}: vote")
    if result.accuracy is not None:
        panel.axhline(100 * result.accuracy, color="black", linewidth=0.8, label="head of trained")
    panel.set_xticks(spots, result.parts)
    panel.set(
        title=f"{result.neighbours} nearest training images of test images",
        xlabel="features",
        ylabel="% of neighbours, or of images",
    )
    panel.legend()


def _neighbours(panel: Any, result: Result) -> None:
    """Lay the images out in one picture; neighbours of another class get a frame."""
    rows, columns, height, width, _ = result.shown.shape
    tiles = np.moveaxis(result.shown, 1, 2).reshape(rows * height, columns * width, -1)
    panel.imshow(tiles.squeeze(), cmap="gray", vmin=0, vmax=255)
    for row, labels in enumerate(result.shown_labels):
        for column in np.flatnonzero(labels != labels[0]):
            corner = (column * width, row * height)
            frame = Rectangle(corner, width - 1, height - 1, fill=False, edgecolor=COLORS[1], lw=2)
            panel.add_patch(frame)
    for line in range(1, rows):
        panel.axhline(line * height - 0.5, color="white", linewidth=2)
    for line in range(1, columns):
        panel.axvline(line * width - 0.5, color="white", linewidth=6 if line == 1 else 2)
    panel.set(yticks=[])
    centres = width * (np.arange(columns) + 0.5)
    panel.set_xticks(centres, ["query", *map(str, range(1, columns))])
    panel.set_xlabel("neighbour, nearest first (framed: of another class)")
    panel.set_title("test images and their neighbours, trained weights")
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
