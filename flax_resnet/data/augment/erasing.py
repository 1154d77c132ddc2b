"""Random erasing of rectangles (https://arxiv.org/abs/1708.04896)."""

import math

import numpy as np

from flax_resnet.data.augment.canvas import mean_colour
from flax_resnet.data.augment.config import AugmentConfig

_TRIES = 10


def draw_rectangle(
    height: int, width: int, rng: np.random.Generator, config: AugmentConfig
) -> tuple[int, int, int, int] | None:
    """Draw (top, left, height, width), or None if nothing is erased.

    The area is uniform in erase_scale, and the logarithm of height over width is uniform too. The
    first of ten attempts that is smaller than the image in both dimensions is used.
    """
    if rng.random() >= config.erase:
        return None
    low, high = math.log(config.erase_ratio[0]), math.log(config.erase_ratio[1])
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*config.erase_scale)
        ratio = math.exp(rng.uniform(low, high))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < rows < height and 0 < columns < width:
            top = int(rng.integers(height - rows + 1))
            left = int(rng.integers(width - columns + 1))
            return top, left, rows, columns
    return None


def erase(
    image: np.ndarray,
    rectangle: tuple[int, int, int, int],
    rng: np.random.Generator,
    mode: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> np.ndarray:
    """Return a uint8 image with the rectangle (top, left, height, width) overwritten.

    Args:
      mode: const (the mean), rand (one color) or pixel (noise). The last two are normal with this
        mean and standard deviation per channel of images in 0..1, clipped to black and white.
    """
    top, left, rows, columns = rectangle
    channels = image.shape[2]
    if mode == "const":
        colours = np.array(mean_colour(mean, channels), np.uint8)
    else:
        shape = (channels,) if mode == "rand" else (rows, columns, channels)
        normal = rng.standard_normal(shape, np.float32)
        normal = normal * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
        colours = np.clip(np.rint(255 * normal), 0, 255).astype(np.uint8)
    erased = image.copy()
    erased[top : top + rows, left : left + columns] = colours
    return erased
