"""Images of any kind as the input of a network."""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.any_kind import AnImage, described, pixels_of
from flax_resnet.data.images.decode import DecodeError
from flax_resnet.data.images.transforms import eval_transform
from flax_resnet.errors import InputError, printable
from flax_resnet.steps.gradient import normalize
from flax_resnet.training.networks import find_network
from flax_resnet.weights import Preprocessing

_EXPECTED = (
    "a path, the bytes of an image file, a Pillow image, or uint8 (height, width, 1, 3 or 4)"
)


@dataclass(frozen=True, eq=False)
class ImagePreprocessing(Preprocessing):
    """The `Preprocessing` of a network's images, as a function of them.

    `channels`, `image_size`, `eval_crop`, `interpolation`, `mean` and `std` are those of
    `DataConfig`, at the size of testing unless another one was asked for.
    """

    channels: int = 3

    def __eq__(self, other: object) -> bool:
        """Return whether images are prepared alike, also for a plain `Preprocessing`."""
        if not isinstance(other, Preprocessing):
            return NotImplemented
        return _plain(self) == _plain(other)

    def __hash__(self) -> int:
        return hash(_plain(self))

    @property
    def eval_crop(self) -> float:
        """Return `crop_fraction` under its name in `DataConfig`."""
        return self.crop_fraction

    @functools.cached_property
    def data(self) -> DataConfig:
        """Return these numbers as settings of data."""
        return DataConfig(
            image_size=self.image_size,
            channels=self.channels,
            eval_crop=self.eval_crop,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )

    def __call__(self, images: AnImage | Iterable[AnImage]) -> Float[Array, "n s s c"]:
        """Return images as a network takes them: decoded, resized, cropped, normalized.

        Args:
          images: one image or several: each a path, the bytes of a file, a Pillow image or uint8
            (height, width, channels). One image is a batch of one.

        Raises:
          InputError: something is not an image, or cannot be read; the message says which.
        """
        size = self.image_size
        pixels = [prepared(image, self.data, where) for where, image in each_image(images)]
        batch = np.stack(pixels) if pixels else np.zeros((0, size, size, self.channels), np.uint8)
        return normalize(jax.numpy.asarray(batch), self.mean, self.std)


def preprocessing(
    source: str | os.PathLike[str], *, train_size: bool = False, revision: str | None = None
) -> ImagePreprocessing:
    """Return the function that prepares images for a run or for weights.

    Args:
      source: as in `load_pretrained`.
      train_size: use the size and the crop of training instead of those of testing, at which the
        weights do best and which evaluation, prediction and export use.

    Raises:
      InputError: the source does not exist, or does not say how its images were prepared.
    """
    origin = find_network(source, revision)
    if origin.task == "segmentation":
        raise InputError(
            f"{source} is a run of {origin.task}, whose images are not resized; expected a run of "
            "classification"
        )
    found = origin.image_settings(train_size)
    return ImagePreprocessing(
        found["image_size"],
        found["eval_crop"],
        found["interpolation"],
        found["mean"],
        found["std"],
        found["channels"],
    )


def each_image(images: AnImage | Iterable[AnImage]) -> Iterator[tuple[str, AnImage]]:
    """Yield one image or several, each with what an error calls it."""
    if is_one(images):
        yield _name(images, "the image"), images
        return
    if isinstance(images, (dict, set)) or not hasattr(images, "__iter__"):
        raise InputError(
            f"images is {described(images)}; expected {_EXPECTED}, or several of these"
        )
    for at, image in enumerate(images):
        if not is_one(image):
            raise InputError(f"image {at} is {described(image)}; expected {_EXPECTED}")
        yield _name(image, f"image {at}"), image


def is_one(images: AnImage | Iterable[AnImage]) -> bool:
    """Return whether this is one image, not several."""
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return True
    return hasattr(images, "shape") and len(images.shape) in (2, 3)


def prepared(image: AnImage, config: DataConfig, where: str) -> UInt8[np.ndarray, "s s c"]:
    """Return an image decoded, resized and cropped as in evaluation.

    Args:
      where: what an error calls it.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return eval_transform(pixels_of(image, config.channels), config)
    except (DecodeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where} cannot be read: {reason}") from error


def _name(image: AnImage, otherwise: str) -> str:
    return printable(image) if isinstance(image, (str, os.PathLike)) else otherwise


def _plain(images: Preprocessing) -> tuple[Any, ...]:
    fields = Preprocessing.__dataclass_fields__
    return tuple(getattr(images, name) for name in fields)
