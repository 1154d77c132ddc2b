"""Conversion to and from Pillow's images, and the fill and filter of geometric operations."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image


class Canvas(NamedTuple):
    """The color of uncovered pixels and the interpolation filter."""

    fill: tuple[int, ...]
    """One value per channel, 0 .. 255."""
    resample: Image.Resampling = Image.Resampling.BILINEAR

    @property
    def pillow_fill(self) -> tuple[int, ...] | int:
        """Return the color in Pillow's form for gray and for RGB images."""
        return self.fill if len(self.fill) > 1 else self.fill[0]


def to_pillow(image: np.ndarray) -> Image.Image:
    """Return uint8 (height, width, 3 or 1) as an image of mode RGB or L."""
    return Image.fromarray(image if image.shape[2] == 3 else image[..., 0])


def to_array(image: Image.Image) -> np.ndarray:
    """Return an image of mode RGB or L as uint8 (height, width, 3 or 1), read-only."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def mean_colour(mean: Sequence[float], channels: int) -> tuple[int, ...]:
    """Return the color nearest to a mean of images in 0..1; one number serves all channels."""
    values = tuple(min(255, max(0, round(255 * value))) for value in mean)
    return values if len(values) == channels else values * channels
