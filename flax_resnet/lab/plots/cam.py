"""Images with their class activation maps and Grad-CAM of every part."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.cam import UNKNOWN, Result
from flax_resnet.lab.plots.style import new_figure


def draw(result: Result) -> Figure:
    """Draw a row for each image."""
    columns = {"CAM": result.cam} | {
        f"Grad-CAM, {part}": maps for part, maps in result.grad_cam.items()
    }
    count = len(result.images)
    figure, axes = new_figure(count, 1 + len(columns), width=1.9, height=2.05)
    for row, panels in enumerate(axes):
        picture = result.images[row]
        _show(panels[0], picture, _words(result, row))
        for panel, (title, maps) in zip(panels[1:], columns.items(), strict=True):
            _show(panel, picture, title if not row else "", behind=True)
            _overlay(panel, maps[row], picture.shape[:2])
    figure.suptitle(
        f"Evidence for the predicted class: {result.network} on {result.data}\n"
        "red: for it; blue: against it (CAM alone); each map is scaled to its largest value"
    )
    return figure


def _show(panel: Any, picture: np.ndarray, title: str, behind: bool = False) -> None:
    """Show an image; behind a map in light grey, for colours are the map's and black hides it."""
    height, width, channels = picture.shape
    shown = picture.mean(-1) if behind or channels == 1 else picture
    darkest = -200 if behind else 0
    panel.imshow(shown, cmap="gray", vmin=darkest, vmax=255, extent=(0, width, height, 0))
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=8)
    panel.spines[:].set_visible(False)
    panel.grid(visible=False)


def _overlay(panel: Any, values: np.ndarray, size: tuple[int, int]) -> None:
    """Lay a map over an image; where it is zero, the image shows."""
    largest = max(float(abs(values).max()), 1e-12)
    panel.imshow(
        values,
        cmap="RdBu_r",
        vmin=-largest,
        vmax=largest,
        alpha=0.85 * abs(values) / largest,
        extent=(0, size[1], size[0], 0),
        interpolation="bilinear",
    )


def _words(result: Result, row: int) -> str:
    def name(label: int) -> str:
        return result.class_names[label] if result.class_names else str(label)

    found = f"{name(int(result.predicted[row]))} ({result.probability[row]:.0%})"
    true = int(result.labels[row])
    return f"predicted {found}" + ("" if true == UNKNOWN else f"\ntrue {name(true)}")
