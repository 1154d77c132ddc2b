"""Crops, resizes and flips of uint8 (height, width, channels) images.

Random choices use the generator that is passed in. Further augmentation is in `data.augment`;
normalization and mixing run on the device, in the training step.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from flax_resnet.data.augment.stages import augment
from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError, require_free, require_registered

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Aspect ratio above which evaluation crops the long side first.
_LONGEST = 16
# Factor of shrinking above which `smooth` first averages to twice the size, to keep kernels small.
_FAR = 4
Crop = Callable[[np.ndarray, np.random.Generator, DataConfig], np.ndarray]
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


# What `config.data.transform` can name.
TRANSFORMS: dict[str, Transform] = {}


def register_transform(name: str, transform: Transform) -> None:
    """Add a transform of training images of your own under a name for `config.data.transform`.

    Args:
      transform: `(image, rng) -> image`, uint8 (image_size, image_size, channels) both, after the
        crop, the flip and the augmentation. Whatever it draws from `rng`, a NumPy generator, is the
        same in a resumed run. Worker processes need a function at the top level of a module.

    Raises:
      InputError: the name cannot be used.
    """
    require_free("a transform", name, TRANSFORMS, TRANSFORMS)
    TRANSFORMS[name] = transform


def find_transform(config: DataConfig) -> Transform | None:
    """Return the transform that `config` names; None if it names none."""
    if config.transform is None:
        return None
    require_registered(
        "config.data.transform", config.transform, TRANSFORMS, register_transform.__name__
    )
    return TRANSFORMS[config.transform]


def apply_transform(
    image: np.ndarray, rng: np.random.Generator, transform: Transform
) -> np.ndarray:
    """Return an image changed by a user-defined transform.

    Raises:
      InputError: the result is not an image like the one that was given.
    """
    found = np.asarray(transform(image, rng))
    if (found.dtype, found.shape) != (image.dtype, image.shape):
        raise InputError(
            f"the transform returns {found.dtype} {found.shape} for an image that is "
            f"{image.dtype} {image.shape}; expected the same"
        )
    return found


def train_transform(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return a random crop, flipped and augmented: (image_size, image_size, channels)."""
    image = CROPS[config.crop](image, rng, config)
    # Always drawn, so that crops do not depend on config.flip.
    mirrored = rng.random() < 0.5
    if config.flip and mirrored:
        # A view with a negative stride would take 30 times as long to copy into the batch.
        image = cv2.flip(image, 1).reshape(image.shape)
    return augment(image, rng, config)


def eval_transform(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """Resize the short side to test_size / eval_crop and return the central square."""
    # An image of 1 x 100,000 pixels would become one of 256 x 25,600,000, so it is cropped first.
    reach = _LONGEST * min(image.shape[:2])
    image = _centre(image, min(image.shape[0], reach), min(image.shape[1], reach))
    height, width = image.shape[:2]
    short = math.floor(config.test_size / config.eval_crop)
    # Rounded as in timm and torchvision, to reproduce the accuracies of published weights.
    if height <= width:
        size = short, int(short * width / height)
    else:
        size = int(short * height / width), short
    filter_ = "bicubic" if config.interpolation == "random" else config.interpolation
    return centre_crop(resize(image, size, filter_), config.test_size)


def random_resized_crop(
    image: np.ndarray, rng: np.random.Generator, config: DataConfig
) -> np.ndarray:
    """Crop a random rectangle and resize it to a square (https://arxiv.org/abs/1409.4842)."""
    top, left, height, width = random_rectangle(
        image.shape[0], image.shape[1], rng, config.crop_scale, config.crop_ratio
    )
    rectangle = image[top : top + height, left : left + width]
    return resize(rectangle, (config.image_size,) * 2, _drawn_filter(rng, config))


def pad_crop(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Shift by up to crop_padding pixels in each direction (https://arxiv.org/abs/1512.03385, 4.2).

    The border is black, as in common reproductions of that recipe.
    """
    size, reach = config.image_size, config.crop_padding
    padded = np.zeros((size + 2 * reach, size + 2 * reach, config.channels), np.uint8)
    padded[reach : reach + size, reach : reach + size] = whole(image, rng, config)
    # One call: for small images, two would take as long as everything else.
    top, left = (int(uniform * (2 * reach + 1)) for uniform in rng.random(2).tolist())
    return padded[top : top + size, left : left + size]


def whole(image: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return the whole image, resized if necessary."""
    return resize(image, (config.image_size,) * 2, _drawn_filter(rng, config))


CROPS: dict[str, Crop] = {
    "random_resized_crop": random_resized_crop,
    "pad_crop": pad_crop,
    "none": whole,
}


def _drawn_filter(rng: np.random.Generator, config: DataConfig) -> str:
    """Return the interpolation of a training image, drawn at random only for "random"."""
    if config.interpolation != "random":
        return config.interpolation
    return "bicubic" if rng.random() < 0.5 else "bilinear"


def random_rectangle(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Draw (top, left, height, width) as torchvision's RandomResizedCrop does.

    After ten failed attempts at a random area and aspect ratio, return the largest central
    rectangle whose ratio is in the range.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(low, high))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_height, crop_width = height, width
    if width / height < ratio[0]:
        crop_height = max(1, min(height, round(width / ratio[0])))
    elif width / height > ratio[1]:
        crop_width = max(1, min(width, round(height * ratio[1])))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = "area") -> np.ndarray:
    """Return the image resized to `size` = (height, width), or itself if it has that size.

    `bilinear` and `bicubic` are Pillow's filters. When enlarging, the others equal `bilinear`. When
    shrinking, they approximate it, with these differences in gray levels (root mean square) and
    times for a 224-pixel crop of a photograph: `smooth`, which blurs and interpolates, 1.6 and
    0.2 ms; `area`, which averages, 1.8 and 0.5 ms; `aliased`, which interpolates between
    neighbors, 3.9 and 0.1 ms. `bilinear` takes 0.8 ms.
    """
    if image.shape[:2] == size:
        return image
    height, width, channels = max(size[0], 1), max(size[1], 1), image.shape[2]
    if interpolation in PILLOW:
        pixels = image if channels == 3 else image[..., 0]
        resampled = Image.fromarray(pixels).resize((width, height), PILLOW[interpolation])
        return np.asarray(resampled).reshape(height, width, channels)
    if interpolation == "smooth":
        image = _blurred(image, (height, width))
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    filter_ = cv2.INTER_AREA if interpolation == "area" and shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=filter_)
    return resized.reshape(height, width, channels)  # OpenCV drops a single channel.


def _blurred(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a blurred image whose interpolation at `size` approximates Pillow's filter."""
    sides = image.shape[:2]
    near = tuple(2 * to if side > _FAR * to else side for side, to in zip(sides, size, strict=True))
    if near != sides:
        image = cv2.resize(image, near[::-1], interpolation=cv2.INTER_AREA)
    down, across = (_gaussian(side / to) for side, to in zip(near, size, strict=True))
    return cv2.GaussianBlur(image, (across[0], down[0]), sigmaX=across[1], sigmaY=down[1])


def _gaussian(factor: float) -> tuple[int, float]:
    """Return the size and the sigma of the kernel for a side that shrinks by a factor.

    Pillow's filter is a triangle with variance factor^2 / 6, in pixels. Interpolation between two
    neighbors contributes a mean variance of 1 / 6; 0.8 / 6 was the best fit on photographs.
    """
    if factor <= 1:
        return 1, 1.0
    variance = (factor**2 - 0.8) / 6
    sigma = math.sqrt(variance)
    if variance > 0.6:
        return 2 * math.ceil(2 * sigma) + 1, sigma
    # Three taps whose outer weights are variance / 2; in OpenCV they are the middle one times
    # exp(-1 / (2 sigma^2)).
    return 3, math.sqrt(0.5 / math.log((1 - variance) / (variance / 2)))


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Return the central (size, size) of an image that is at least that large."""
    return _centre(image, size, size)


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]
