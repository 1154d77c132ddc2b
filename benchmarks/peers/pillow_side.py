"""What `flax_resnet.data.augment` is compared with: plain Pillow, an image object all the way.

So the data pipelines of torchvision and timm work. The random choices are drawn by the library's
own functions, so that both sides do the same to an image.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from flax_resnet.data import DataConfig
from flax_resnet.data.augment.canvas import mean_colour
from flax_resnet.data.augment.erasing import draw_rectangle, erase
from flax_resnet.data.augment.jitter import draw_jitter
from flax_resnet.data.augment.policies import POLICIES
from flax_resnet.data.images.transforms import random_rectangle

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
Change = Callable[..., Image.Image]


def _added(picture: Image.Image, addition: float) -> Image.Image:
    table = [min(255, value + int(addition)) if value < 128 else value for value in range(256)]
    return picture.point(table * len(picture.getbands()))


def _turned_hue(picture: Image.Image, turn: float) -> Image.Image:
    hue, *others = picture.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(turn * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), *others)).convert("RGB")


def _posterized(picture: Image.Image, bits: float) -> Image.Image:
    if bits < 1:  # which newer versions of Pillow refuse
        return Image.new(picture.mode, picture.size)
    return ImageOps.posterize(picture, int(bits))


# Name -> (picture, argument).
POINTWISE: dict[str, Change] = {
    "identity": lambda picture, _: picture,
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "invert": lambda picture, _: ImageOps.invert(picture),
    "posterize": _posterized,
    "solarize": lambda picture, threshold: ImageOps.solarize(picture, threshold),
    "solarize_add": _added,
    "colour": lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    "contrast": lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    "brightness": lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
    "sharpness": lambda picture, factor: ImageEnhance.Sharpness(picture).enhance(factor),
    "saturation": lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    "hue": _turned_hue,
    "grey": lambda picture, _: picture.convert("L").convert("RGB"),
    "blur": lambda picture, radius: picture.filter(ImageFilter.GaussianBlur(radius)),
}

# Name -> the matrix of (picture, argument) from pixels of the result to those of the picture.
AFFINE: dict[str, Callable[[Image.Image, float], tuple[float, ...]]] = {
    "shear_x": lambda picture, x: (1, x, 0, 0, 1, 0),
    "shear_y": lambda picture, y: (1, 0, 0, y, 1, 0),
    "translate_x": lambda picture, x: (1, 0, x, 0, 1, 0),
    "translate_y": lambda picture, y: (1, 0, 0, 0, 1, y),
    "translate_x_relative": lambda picture, x: (1, 0, x * picture.width, 0, 1, 0),
    "translate_y_relative": lambda picture, y: (1, 0, 0, 0, 1, y * picture.height),
}


def apply(
    picture: Image.Image, name: str, argument: float, fill: Any, resample: Image.Resampling
) -> Image.Image:
    """Return a picture after one operation."""
    if name == "rotate":
        return picture.rotate(argument, resample=resample, fillcolor=fill)
    if name in AFFINE:
        matrix, kind = AFFINE[name](picture, argument), Image.Transform.AFFINE
        return picture.transform(picture.size, kind, matrix, resample, fillcolor=fill)
    return POINTWISE[name](picture, argument)


def augment(picture: Image.Image, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return the pixels of a picture after all stages that are on."""
    settings = config.augment
    fill = mean_colour(config.mean, 3) if settings.fill == "mean" else (0, 0, 0)
    stages = settings.stages
    if "policy" in stages:
        for name, argument in POLICIES[settings.policy](rng, settings):
            picture = apply(picture, name, argument, fill, _resample(rng, config))
    if "jitter" in stages:
        for name, argument in draw_jitter(rng, settings):
            picture = POINTWISE[name](picture, argument)
    if "grey" in stages and rng.random() < settings.grey:
        picture = POINTWISE["grey"](picture, 0.0)
    if "blur" in stages and rng.random() < settings.blur:
        picture = POINTWISE["blur"](picture, rng.uniform(*settings.blur_radius))
    if "solarize" in stages and rng.random() < settings.solarize:
        picture = POINTWISE["solarize"](picture, 128)
    pixels = np.asarray(picture)
    if "erase" in stages:
        rectangle = draw_rectangle(*picture.size[::-1], rng, settings)
        if rectangle is not None:
            pixels = erase(pixels, rectangle, rng, settings.erase_mode, config.mean, config.std)
    return pixels


def prepare(encoded: bytes, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Decode, crop at random, flip and augment a photo."""
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    top, left, height, width = random_rectangle(
        picture.height, picture.width, rng, config.crop_scale, config.crop_ratio
    )
    size = (config.image_size, config.image_size)
    box = (left, top, left + width, top + height)
    picture = picture.crop(box).resize(size, _resample(rng, config))
    if rng.random() < 0.5 and config.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return augment(picture, rng, config)


def _resample(rng: np.random.Generator, config: DataConfig) -> Image.Resampling:
    if config.interpolation == "random":
        return BICUBIC if rng.random() < 0.5 else BILINEAR
    return BICUBIC if config.interpolation == "bicubic" else BILINEAR
