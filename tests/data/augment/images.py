"""Real photographs, and edge cases for operations."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


def _images() -> dict[str, np.ndarray]:
    """uint8 (height, width, 3 or 1) by name: photographs, noise, gradient, plain colors, dots."""
    rng = np.random.default_rng(0)
    photos = {
        name: np.asarray(Image.fromarray(load_sample_image(f"{name}.jpg")).resize((96, 64)))
        for name in ("china", "flower")
    }
    ramp = np.arange(256, dtype=np.uint8)
    coloured = photos | {
        "noise": rng.integers(256, size=(33, 47, 3), dtype=np.uint8),
        "dark": rng.integers(20, 60, size=(40, 40, 3), dtype=np.uint8),
        "gradient": np.stack(np.broadcast_arrays(ramp[:, None], ramp, ramp[::-1]), axis=-1),
        "one colour": np.full((12, 10, 3), (7, 200, 90), np.uint8),
        "two values": np.repeat(np.uint8([[[0]], [[255]]]), 5, axis=1).repeat(3, axis=2),
        "one pixel": np.full((1, 1, 3), 77, np.uint8),
        "a line": rng.integers(256, size=(2, 9, 3), dtype=np.uint8),
    }
    grey = {f"grey {name}": image[..., 1:2].copy() for name, image in coloured.items()}
    return coloured | grey


IMAGES = _images()
