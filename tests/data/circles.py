"""A data set of masks, small enough to create in a test: bright discs on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

OUTSIDE, INSIDE = 10, 200


def write_circles(folder: Path, count: int, sizes: tuple[tuple[int, int], ...] = ((24, 24),)):
    """Write folder/images/0.png ... and folder/masks/0.png ..., of the given (height, width)."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, mask = circle(number, *sizes[number % len(sizes)])
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def circle(number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one: the image's pixels are brighter where the mask is INSIDE."""
    rng = np.random.default_rng(number)
    row, column = rng.uniform(0.3, 0.7, 2) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - row) ** 2 + (columns - column) ** 2 < (min(height, width) / 3.5) ** 2
    noise = rng.integers(0, 80, (height, width))
    return (
        (noise + 120 * inside).astype(np.uint8),
        np.where(inside, INSIDE, OUTSIDE).astype(np.uint8),
    )
