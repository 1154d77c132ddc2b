"""Images and masks on disk: which belong together, and what values a mask holds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from flax_resnet.data.decode import DecodeError, check_pixels, image_size
from flax_resnet.data.listing import Tree
from flax_resnet.data.reading import open_plain, read_file
from flax_resnet.errors import InputError
from flax_resnet.printable import printable

IMAGES, MASKS = "images", "masks"
# What stores pixels as they are: JPEG and WebP would blur one class's value into another's.
_LOSSLESS = (".png", ".bmp", ".gif")
# Modes of Pillow whose pixels are one number of 8 bits: grey, palette index, black and white.
_MODES = ("L", "P", "1")


class Pair(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path


def find_pairs(tree: Tree, folder: Path) -> list[Pair]:
    """Return folder/images/NAME.* with folder/masks/NAME.*, in natural order: 1, 2, ..., 10.

    Raises:
      InputError: there are none, or one lacks its partner.
    """
    images, masks = _by_stem(tree, folder / IMAGES), _by_stem(tree, folder / MASKS)
    if not images:
        raise InputError(
            f"{folder / IMAGES} has no images; expected {folder / IMAGES}/NAME.png with "
            f"{folder / MASKS}/NAME.png."
        )
    for stem in sorted(images.keys() ^ masks.keys(), key=natural_key):
        there, other = (images, MASKS) if stem in images else (masks, IMAGES)
        raise InputError(
            f"{there[stem]} has no partner; expected {folder / other / stem}.png. Add it, or "
            "remove the file."
        )
    for mask in masks.values():
        if mask.suffix.lower() not in _LOSSLESS:
            raise InputError(
                f"{mask} is no {', '.join(_LOSSLESS)}; expected a format that keeps the value of "
                "every pixel. Make the masks anew: compression has changed them."
            )
    return [Pair(images[stem], masks[stem]) for stem in sorted(images, key=natural_key)]


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort text by the numbers in it: slice 9 comes before slice 10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_mask(path: Path) -> np.ndarray:
    """Return the values of a mask, uint8 (height, width); of a palette image its indices.

    Raises:
      InputError: the file is damaged, or its pixels are not one number of 8 bits.
    """
    with _opened(path) as mask:
        if mask.mode in _MODES:
            return np.asarray(mask.convert("L") if mask.mode == "1" else mask)
        raise InputError(
            f"{path} has pixels of mode {mask.mode}; expected 8-bit grey (L), palette (P) or black "
            "and white (1), one value a class. Convert the masks."
        )


def mask_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from a mask's header."""
    with _opened(path) as mask:
        return mask.height, mask.width


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with open_plain(path) as file, Image.open(file) as mask:
            check_pixels(mask.height, mask.width)
            yield mask
    except InputError:
        raise
    except Exception as error:  # Pillow has no exception of its own for damaged files.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "its header is none of an image" if unknown else error
        raise InputError(
            f"{printable(path)} cannot be decoded: {reason}. Make this mask anew."
        ) from error


def check_sizes(pair: Pair, mask: tuple[int, int]) -> None:
    """Compare an image's header with its mask's (height, width); damaged ones are the loader's."""
    try:
        image = image_size(read_file(pair.image))
    except (DecodeError, OSError):
        return
    # A photograph may lie on its side until its EXIF tag is obeyed.
    if sorted(image) != sorted(mask):
        raise sizes_differ(pair, image, mask)


def sizes_differ(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> InputError:
    """Return the error for a mask that is not of its image's size."""
    return InputError(
        f"{pair.image} has {image[1]} x {image[0]} pixels and {pair.mask} {mask[1]} x {mask[0]}; "
        "expected the same. Replace one of them."
    )


def found_values(pairs: list[Pair], ignored: int | None) -> tuple[int, ...]:
    """Return the values that occur in masks, increasing, without the ignored one."""
    present = np.zeros(256, np.bool_)
    for pair in pairs:
        present |= np.bincount(read_mask(pair.mask).ravel(), minlength=256) > 0
    return tuple(value for value in np.flatnonzero(present).tolist() if value != ignored)


def _by_stem(tree: Tree, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if not tree.is_folder(folder):
        raise InputError(f"there is no folder {folder}; expected {IMAGES} and {MASKS} side by side")
    for path in map(Path, tree.images(folder)):
        if path.stem in found:
            raise InputError(
                f"{found[path.stem]} and {path} have the same name; expected one file of each "
                "name, for images and masks are paired by it. Rename one of them."
            )
        found[path.stem] = path
    return found
