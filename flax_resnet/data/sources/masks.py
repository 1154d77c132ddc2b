"""Images with a class for every pixel, in folders, as people have them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import (
    DecodeError,
    check_pixels,
    decode_image,
    image_size,
    open_plain,
    read_file,
)
from flax_resnet.data.sources.folder import canonical_split, split_folders
from flax_resnet.data.sources.listing import Tree, open_tree
from flax_resnet.data.sources.source import Example, resolve_split
from flax_resnet.errors import InputError, printable
from flax_resnet.models import IGNORED

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


_LAYOUT = (
    "expected PATH/images/NAME.png with PATH/masks/NAME.png, or both folders in PATH/train and "
    "PATH/val"
)
# So many masks are read when the source is opened (a few seconds), to find values and mistakes.
_READ_AT_ONCE = 1000
# Decoded examples are kept up to this size, all together.
_MEMORY_BYTES = 2**28


@dataclass(frozen=True)
class MaskSource:
    """Read pairs of an image and a mask; labels are uint8 (height, width), IGNORED or a class."""

    name: str
    pairs: tuple[Pair, ...]
    values: tuple[int, ...]
    """The value in the masks of each class."""
    class_names: tuple[str, ...]
    ignore_value: int | None
    channels: int
    largest: tuple[int, int]
    """(height, width) that no image of the split exceeds."""
    _kept: dict[int, Example] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_classes(self) -> int:
        """Return the number of values that stand for a class."""
        return len(self.values)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        """Return a decoded pair. Threads that ask at once decode twice, to the same end."""
        if index in self._kept:
            return self._kept[index]
        pair = self.pairs[index]
        image = decode_image(read_file(pair.image), self.channels)
        label = self.classes(read_mask(pair.mask), pair.mask)
        if image.shape[:2] != label.shape:
            raise sizes_differ(pair, image.shape, label.shape)
        example: Example = {"image": image, "label": label}
        height, width = self.largest
        if len(self) * height * width * (self.channels + 1) <= _MEMORY_BYTES:
            self._kept[index] = example
        return example

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoded examples out: a worker process decodes its own share."""
        return self.__dict__ | {"_kept": {}}

    def describe(self, index: int) -> str:
        """Return the path of the image."""
        return printable(f"{self.pairs[index].image} ({self.name})")

    def classes(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """Turn the values of a mask into classes; `path` is for the error."""
        table = np.full(256, -1, np.int16)
        table[list(self.values)] = range(len(self.values))
        if self.ignore_value is not None:
            table[self.ignore_value] = IGNORED
        unknown = np.flatnonzero((np.bincount(mask.ravel(), minlength=256) > 0) & (table < 0))
        if unknown.size:
            known = ", ".join(map(str, self.values))
            raise InputError(
                f"{path} has pixels of value {unknown[0]}; expected the classes' values {known}. "
                "Repair it, or add the value to config.data.masks.values or ignore_value."
            )
        return table.astype(np.uint8)[mask]


def open_masks(config: DataConfig, rest: str, split: str) -> MaskSource:
    """Open a split of "masks:PATH".

    Without any split folders all pairs are the train split. Slices cut it in natural order, so
    that `train[:24]` and `train[24:]` say which images are held out.

    Raises:
      InputError: a file lacks its partner, differs from it in size or has an unknown value.
    """
    tree = open_tree(config, rest, _LAYOUT)
    name = f"{config.source} {split}"
    whole = tree.is_folder(tree.root / IMAGES)
    folders = {"train": tree.root} if whole else split_folders(tree, name, _LAYOUT)
    listed = {known: find_pairs(tree, folder) for known, folder in folders.items()}
    sizes = {known: len(pairs) for known, pairs in listed.items()}
    parts = resolve_split(config.source, canonical_split(split), sizes)
    pairs = tuple(listed[known][at] for known, positions in parts for at in positions)
    values = config.masks.values or _values_of(config, listed["train"])
    source = MaskSource(
        name=name,
        pairs=pairs,
        values=values,
        class_names=_names_of(config, values),
        ignore_value=config.masks.ignore_value,
        channels=config.channels,
        largest=_inspect(pairs),
    )
    if len(pairs) <= _READ_AT_ONCE:
        for pair in pairs:
            source.classes(read_mask(pair.mask), pair.mask)
    return source


def _values_of(config: DataConfig, pairs: list[Pair]) -> tuple[int, ...]:
    if len(pairs) > _READ_AT_ONCE:
        raise InputError(
            f"{config.source} has {len(pairs)} masks to train on, too many to look for the values "
            "of their classes: set config.data.masks.values, such as (0,255)."
        )
    values = found_values(pairs, config.masks.ignore_value)
    if not 1 <= len(values) <= IGNORED:
        raise InputError(
            f"the masks of {config.source} have {len(values)} values; expected 1 to {IGNORED}, one "
            "for each class. See config.data.masks.ignore_value."
        )
    return values


def _names_of(config: DataConfig, values: tuple[int, ...]) -> tuple[str, ...]:
    names = config.masks.class_names or tuple(f"value {value}" for value in values)
    for setting, entries in (("class_names", names), ("class_weights", config.masks.class_weights)):
        if entries and len(entries) != len(values):
            raise InputError(
                f"config.data.masks.{setting} has {len(entries)} entries and the masks of "
                f"{config.source} {len(values)} classes, for the values "
                f"{', '.join(map(str, values))}; expected one for each."
            )
    return names


def _inspect(pairs: tuple[Pair, ...]) -> tuple[int, int]:
    """Return the largest height and the largest width, having checked every pair's sizes."""
    largest = np.zeros(2, np.int64)
    for pair in pairs:
        size = mask_size(pair.mask)
        if len(pairs) <= _READ_AT_ONCE:
            check_sizes(pair, size)
        largest = np.maximum(largest, size)
    return int(largest[0]), int(largest[1])
