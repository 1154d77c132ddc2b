"""The peer of `flax_resnet.data.augment`: plain Pillow, as in torchvision's and timm's pipelines.

An image stays a Pillow image throughout. The library's own functions draw the random choices, so
both sides do the same to an image.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from flax_resnet.data import DataConfig
from flax_resnet.data.augment.canvas import mean_colour
from flax_resnet.data.augment.colour import draw_jitter
from flax_resnet.data.augment.erasing import draw_rectangle, erase
from flax_resnet.data.augment.policies import POLICIES
from flax_resnet.data.images.transforms import random_rectangle

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
Change = Callable[..., Image.Image]


def _added(image: Image.Image, addition: float) -> Image.Image:
    table = [min(255, value + int(addition)) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def _turned_hue(image: Image.Image, turn: float) -> Image.Image:
    hue, *others = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(turn * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), *others)).convert("RGB")


def _posterized(image: Image.Image, bits: float) -> Image.Image:
    if bits < 1:  # which newer versions of Pillow refuse
        return Image.new(image.mode, image.size)
    return ImageOps.posterize(image, int(bits))


# Name -> (image, argument).
POINTWISE: dict[str, Change] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": _posterized,
    "solarize": lambda image, threshold: ImageOps.solarize(image, threshold),
    "solarize_add": _added,
    "colour": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "hue": _turned_hue,
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "blur": lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius)),
}

# Name -> the matrix, for (image, argument), from pixels of the result to those of the image.
AFFINE: dict[str, Callable[[Image.Image, float], tuple[float, ...]]] = {
    "shear_x": lambda image, x: (1, x, 0, 0, 1, 0),
    "shear_y": lambda image, y: (1, 0, 0, y, 1, 0),
    "translate_x": lambda image, x: (1, 0, x, 0, 1, 0),
    "translate_y": lambda image, y: (1, 0, 0, 0, 1, y),
    "translate_x_relative": lambda image, x: (1, 0, x * image.width, 0, 1, 0),
    "translate_y_relative": lambda image, y: (1, 0, 0, 0, 1, y * image.height),
}


def apply(
    image: Image.Image, name: str, argument: float, fill: Any, resample: Image.Resampling
) -> Image.Image:
    """Return an image after one operation."""
    if name == "rotate":
        return image.rotate(argument, resample=resample, fillcolor=fill)
    if name in AFFINE:
        matrix, kind = AFFINE[name](image, argument), Image.Transform.AFFINE
        return image.transform(image.size, kind, matrix, resample, fillcolor=fill)
    return POINTWISE[name](image, argument)


def augment(image: Image.Image, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return the pixels of an image after all enabled stages."""
    settings = config.augment
    fill = mean_colour(config.mean, 3) if settings.fill == "mean" else (0, 0, 0)
    stages = settings.stages
    if "policy" in stages:
        for name, argument in POLICIES[settings.policy](rng, settings):
            image = apply(image, name, argument, fill, _resample(rng, config))
    if "jitter" in stages:
        for name, argument in draw_jitter(rng, settings):
            image = POINTWISE[name](image, argument)
    if "grey" in stages and rng.random() < settings.grey:
        image = POINTWISE["grey"](image, 0.0)
    if "blur" in stages and rng.random() < settings.blur:
        image = POINTWISE["blur"](image, rng.uniform(*settings.blur_radius))
    if "solarize" in stages and rng.random() < settings.solarize:
        image = POINTWISE["solarize"](image, 128)
    pixels = np.asarray(image)
    if "erase" in stages:
        rectangle = draw_rectangle(*image.size[::-1], rng, settings)
        if rectangle is not None:
            pixels = erase(pixels, rectangle, rng, settings.erase_mode, config.mean, config.std)
    return pixels


def prepare(encoded: bytes, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Decode, randomly crop, flip and augment an image."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    top, left, height, width = random_rectangle(
        image.height, image.width, rng, config.crop_scale, config.crop_ratio
    )
    size = (config.image_size, config.image_size)
    box = (left, top, left + width, top + height)
    image = image.crop(box).resize(size, _resample(rng, config))
    if rng.random() < 0.5 and config.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return augment(image, rng, config)


def _resample(rng: np.random.Generator, config: DataConfig) -> Image.Resampling:
    if config.interpolation == "random":
        return BICUBIC if rng.random() < 0.5 else BILINEAR
    return BICUBIC if config.interpolation == "bicubic" else BILINEAR
