"""The way to Pillow's images and back, and what a bent image is drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image


class Canvas(NamedTuple):
    """What fills the corners that an image leaves, and how pixels are interpolated."""

    fill: tuple[int, ...]
    """One value a channel, 0 .. 255."""
    resample: Image.Resampling = Image.Resampling.BILINEAR

    @property
    def pillow_fill(self) -> tuple[int, ...] | int:
        """Return the colour as Pillow wants it for grey and for coloured images."""
        return self.fill if len(self.fill) > 1 else self.fill[0]


def to_pillow(image: np.ndarray) -> Image.Image:
    """Return uint8 (height, width, 3 or 1) as an image of mode RGB or L."""
    return Image.fromarray(image if image.shape[2] == 3 else image[..., 0])


def to_array(picture: Image.Image) -> np.ndarray:
    """Return an image of mode RGB or L as uint8 (height, width, 3 or 1), read-only."""
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def mean_colour(mean: Sequence[float], channels: int) -> tuple[int, ...]:
    """Return the mean of images in 0..1 as the nearest colour; one number stands for all."""
    values = tuple(min(255, max(0, round(255 * value))) for value in mean)
    return values if len(values) == channels else values * channels
