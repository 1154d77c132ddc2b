"""Draw the classes of pixels as colors over an image, and several images in a panel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Okabe and Ito's colors suit color-blind readers too; further classes repeat them.
COLORS = np.asarray(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (120, 120, 120),
    ],
    np.uint8,
)
_WRONG = np.asarray((220, 20, 20), np.uint8)
_STRENGTH = 0.45
_GAP = 8

PanelRow = tuple[str, np.ndarray, np.ndarray | None, np.ndarray]


def draw_overlay(image: np.ndarray, truth: np.ndarray | None, predicted: np.ndarray) -> np.ndarray:
    """Return image | truth, if it is known | prediction, uint8 RGB, with the classes in color."""
    base = to_rgb(image)
    parts = [base]
    for classes in (truth, predicted):
        if classes is not None:
            parts += [np.full((len(base), _GAP, 3), 255, np.uint8), tint(base, classes)]
    return np.concatenate(parts, axis=1)


def draw_panel(path: Path, rows: Sequence[PanelRow], class_names: tuple[str, ...]) -> None:
    """Save the image, truth, prediction and errors of every row side by side.

    Without any truth only the image and the prediction are drawn.

    Args:
      rows: (name, image, truth or None, prediction) each.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    known = any(truth is not None for _, _, truth, _ in rows)
    titles = ("image", "truth", "prediction", "errors") if known else ("image", "prediction")
    figure = Figure(figsize=(3 * len(titles), 3.1 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for at, (name, image, truth, predicted) in enumerate(rows):
        base = to_rgb(image)
        cells = {"image": base, "prediction": tint(base, predicted)}
        if truth is not None:
            cells |= {"truth": tint(base, truth), "errors": errors(base, truth, predicted)}
        for place, title in zip(axes[at], titles, strict=True):
            place.set_title(f"{title} {name}" if title == "image" else title)
            place.axis("off")
            place.imshow(cells[title])
    labels = [(name, COLORS[at % len(COLORS)]) for at, name in enumerate(class_names)]
    patches = [
        Patch(color="#" + bytes(color).hex(), label=label)
        for label, color in [*labels, *[("wrong", _WRONG)] * known]
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    figure.savefig(path, dpi=110)


def tint(base: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return an RGB image tinted with each class's color; pixels without a class stay unchanged."""
    colors = np.concatenate([np.tile(COLORS, (32, 1))[:255], np.zeros((1, 3), np.uint8)])
    return np.where((classes < 255)[..., None], _blend(base, colors[classes]), base)


def errors(base: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return a pale image with the wrong pixels in red."""
    pale = _blend(base, np.full_like(base, 255))
    return np.where(((truth != predicted) & (truth < 255))[..., None], _WRONG, pale)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image with one or three channels as uint8 (height, width, 3)."""
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _blend(base: np.ndarray, color: np.ndarray) -> np.ndarray:
    return ((1 - _STRENGTH) * base + _STRENGTH * color).astype(np.uint8)
