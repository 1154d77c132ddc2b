"""Images as a person has them, paths or bytes or arrays, as arrays of one kind."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_resnet.data.images import pillow
from flax_resnet.data.images.decode import (
    DecodeError,
    check_pixels,
    decode_image,
    read_file,
    to_channels,
)
from flax_resnet.errors import require_local

# A path, the bytes of a file, a Pillow image, or an array: uint8 (height, width[, channels]).
AnImage = Any


def pixels_of(image: AnImage, channels: int) -> UInt8[np.ndarray, "h w c"]:
    """Return an image as uint8 (height, width, channels); an alpha channel is dropped.

    Raises:
      DecodeError, OSError: it is not an image, or a damaged one.
    """
    if isinstance(image, (str, os.PathLike)):
        require_local(image)
        return decode_image(read_file(Path(image).expanduser()), channels)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_image(bytes(image), channels)
    if isinstance(image, Image.Image):
        return _of_pillow(image, channels)
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise DecodeError(f"it is {described(image)}; expected uint8 (height, width, 1, 3 or 4)")
    return to_channels(array[..., :3], channels)


def _of_pillow(image: Image.Image, channels: int) -> UInt8[np.ndarray, "h w c"]:
    check_pixels(image.height, image.width)
    if image.mode not in (*pillow.MODES, *pillow.DEEP):
        raise DecodeError(f"its pixels are {image.mode}; expected gray or color of 8 or 16 bits")
    try:
        return pillow.read_pixels(image, channels)
    except (SyntaxError, EOFError, ValueError) as error:  # damaged, or closed before it was read
        raise DecodeError(f"Pillow says {error}") from error


def described(value: Any) -> str:
    """Return what an object is, for an error: its type, and the shape of an array."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {tuple(value.shape)}"
    return f"a {type(value).__name__}"
