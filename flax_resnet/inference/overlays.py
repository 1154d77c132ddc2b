"""Pictures of classes: colours over the image, and a panel of several images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Okabe and Ito's colours, told apart with any kind of colour vision; classes beyond repeat them.
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

Row = tuple[str, np.ndarray, np.ndarray | None, np.ndarray]


def draw_overlay(image: np.ndarray, truth: np.ndarray | None, found: np.ndarray) -> np.ndarray:
    """Return image | truth, where it is known | prediction, uint8 RGB, the classes in colours."""
    base = to_rgb(image)
    parts = [base]
    for classes in (truth, found):
        if classes is not None:
            parts += [np.full((len(base), _GAP, 3), 255, np.uint8), tint(base, classes)]
    return np.concatenate(parts, axis=1)


def draw_panel(path: Path, rows: Sequence[Row], class_names: tuple[str, ...]) -> None:
    """Save image, truth, prediction and errors of (name, image, truth, found) side by side.

    Where no truth is known, image and prediction alone.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    known = any(truth is not None for _, _, truth, _ in rows)
    titles = ("image", "truth", "prediction", "errors") if known else ("image", "prediction")
    figure = Figure(figsize=(3 * len(titles), 3.1 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for at, (name, image, truth, found) in enumerate(rows):
        base = to_rgb(image)
        pictures = {"image": base, "prediction": tint(base, found)}
        if truth is not None:
            pictures |= {"truth": tint(base, truth), "errors": errors(base, truth, found)}
        for place, title in zip(axes[at], titles, strict=True):
            place.set_title(f"{title} {name}" if title == "image" else title)
            place.axis("off")
            place.imshow(pictures[title])
    labels = [(name, COLORS[at % len(COLORS)]) for at, name in enumerate(class_names)]
    patches = [
        Patch(color="#" + bytes(color).hex(), label=label)
        for label, color in [*labels, *[("wrong", _WRONG)] * known]
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    figure.savefig(path, dpi=110)


def tint(base: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Lay each class's colour over an RGB image; pixels of no class stay as they are."""
    colors = np.concatenate([np.tile(COLORS, (32, 1))[:255], np.zeros((1, 3), np.uint8)])
    return np.where((classes < 255)[..., None], _blend(base, colors[classes]), base)


def errors(base: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return a pale image with the wrong pixels in red."""
    pale = _blend(base, np.full_like(base, 255))
    return np.where(((truth != found) & (truth < 255))[..., None], _WRONG, pale)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return uint8 (height, width, 3) of an image with one or three channels."""
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _blend(base: np.ndarray, color: np.ndarray) -> np.ndarray:
    return ((1 - _STRENGTH) * base + _STRENGTH * color).astype(np.uint8)
