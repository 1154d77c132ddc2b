"""The stages of augmentation, applied to one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from flax_resnet.data.augment import colour, lookup
from flax_resnet.data.augment.canvas import Canvas, mean_colour
from flax_resnet.data.augment.colour import CHANGES, draw_jitter
from flax_resnet.data.augment.erasing import draw_rectangle, erase
from flax_resnet.data.augment.operations import OPERATIONS
from flax_resnet.data.augment.policies import POLICIES

if TYPE_CHECKING:  # DataConfig imports this package's config.
    from flax_resnet.data.config import DataConfig

_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_SOLARIZE_FROM = 128.0


def augment(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return a uint8 (height, width, channels) image, augmented at random by config.augment.

    Inactive stages draw no random numbers.
    """
    if not config.augment.stages:
        return image
    image = np.ascontiguousarray(image)
    for name in config.augment.stages:
        image = STAGES[name](image, rng, config)
    return image


def _policy(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    settings = config.augment
    fill = (0,) * config.channels
    if settings.fill == "mean":
        fill = mean_colour(config.mean, config.channels)
    for name, argument in POLICIES[settings.policy](rng, settings):
        image = OPERATIONS[name](image, argument, Canvas(fill, _resample(rng, config)))
    return image


def _resample(rng: np.random.Generator, config: DataConfig) -> Image.Resampling:
    if config.interpolation == "random":
        return _FILTERS[rng.random() < 0.5]
    return _FILTERS[config.interpolation == "bicubic"]


def _jitter(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    for name, argument in draw_jitter(rng, config.augment):
        image = CHANGES[name](image, argument)
    return image


def _grey(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    return colour.grey(image) if rng.random() < config.augment.grey else image


def _blur(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    if rng.random() >= config.augment.blur:
        return image
    return colour.blur(image, rng.uniform(*config.augment.blur_radius))


def _solarize(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    if rng.random() >= config.augment.solarize:
        return image
    return lookup.solarize(image, _SOLARIZE_FROM)


def _erase(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    height, width = image.shape[:2]
    rectangle = draw_rectangle(height, width, rng, config.augment)
    if rectangle is None:
        return image
    return erase(image, rectangle, rng, config.augment.erase_mode, config.mean, config.std)


Stage = Callable[[np.ndarray, np.random.Generator, "DataConfig"], np.ndarray]
STAGES: dict[str, Stage] = {
    "policy": _policy,
    "jitter": _jitter,
    "grey": _grey,
    "blur": _blur,
    "solarize": _solarize,
    "erase": _erase,
}
