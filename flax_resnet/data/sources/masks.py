"""Images with a class for every pixel, as folders of images and masks."""

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
# Lossless formats: JPEG and WebP would change the values at edges.
_LOSSLESS = (".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".pgm", ".pbm", ".pnm")
# Modes of Pillow with one value of at most 8 bits per pixel: gray, palette index, 1 bit.
_MODES = ("L", "P", "1")
_LAYOUT = (
    "expected PATH/images/NAME.png with PATH/masks/NAME.png, or both folders in PATH/train and "
    "PATH/val"
)
# Up to this number, masks are read when the source is opened, to find values and errors.
_READ_AT_ONCE = 1000
# Decoded examples are cached if all together fit into this size.
_MEMORY_BYTES = 2**28


class Pair(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path


def find_pairs(tree: Tree, folder: Path) -> list[Pair]:
    """Return the pairs of folder/images/NAME.* and folder/masks/NAME.*, in natural order.

    A NAME may have folders in it.

    Raises:
      InputError: there are no images, or one has no mask or vice versa.
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
                f"{mask} is not one of {', '.join(_LOSSLESS)}; expected a lossless format. "
                "Create the masks again: compression has changed them."
            )
    return [Pair(images[stem], masks[stem]) for stem in sorted(images, key=natural_key)]


def natural_key(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts text by the numbers in it: slice 9 before slice 10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_mask(path: Path) -> np.ndarray:
    """Return the values of a mask, or the indices of a palette image: uint8 (height, width).

    Raises:
      InputError: the file is damaged, or does not have one value of 8 bits per pixel.
    """
    with _opened(path) as mask:
        if mask.mode in _MODES:
            return np.asarray(mask.convert("L") if mask.mode == "1" else mask)
        raise InputError(
            f"{path} has pixels of mode {mask.mode}; expected 8-bit gray (L), palette (P) or 1 "
            "bit (1), with one value per class. Convert the masks."
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
    except Exception as error:  # Pillow raises various exceptions for damaged files.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it has no image header" if unknown else error
        raise InputError(
            f"{printable(path)} cannot be decoded: {reason}. Create this mask again."
        ) from error


def check_sizes(pair: Pair, mask: tuple[int, int]) -> None:
    """Raise `InputError` if an image's header does not match its mask's (height, width)."""
    try:
        image = image_size(read_file(pair.image))
    except (DecodeError, OSError):
        return  # The loader reports it or skips it.
    # The EXIF tag may rotate the image by 90 degrees.
    if sorted(image) != sorted(mask):
        raise sizes_differ(pair, image, mask)


def sizes_differ(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> InputError:
    """Return the error for a mask whose size differs from that of its image."""
    return InputError(
        f"{pair.image} has {image[1]} x {image[0]} pixels and {pair.mask} {mask[1]} x {mask[0]}; "
        "expected the same. Replace one of them."
    )


def found_values(pairs: list[Pair], ignored: int | None) -> tuple[int, ...]:
    """Return the values in the masks, in increasing order, without the ignored one."""
    present = np.zeros(256, np.bool_)
    for pair in pairs:
        present |= np.bincount(read_mask(pair.mask).ravel(), minlength=256) > 0
    return tuple(value for value in np.flatnonzero(present).tolist() if value != ignored)


def _by_stem(tree: Tree, folder: Path) -> dict[str, Path]:
    """Return the images in a folder and below it, by their paths in it without a suffix."""
    found: dict[str, Path] = {}
    if not tree.is_folder(folder):
        raise InputError(f"{folder} does not exist; expected the folders {IMAGES} and {MASKS}")
    for path in map(Path, tree.images(folder)):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(
                f"{found[stem]} and {path} have the same name; expected one file per "
                "name, because images and masks are paired by name. Rename one of them."
            )
        found[stem] = path
    return found


@dataclass(frozen=True)
class MaskSource:
    """Pairs of an image and a mask; labels are uint8 (height, width), IGNORED or a class."""

    name: str
    pairs: tuple[Pair, ...]
    values: tuple[int, ...]
    """The value of each class in the masks."""
    class_names: tuple[str, ...]
    ignore_value: int | None
    channels: int
    largest: tuple[int, int]
    """The maximum height and the maximum width of the split's images."""
    named: bool = True
    _kept: dict[int, Example] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.values)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        """Return a decoded pair; concurrent threads may decode it twice, with equal results."""
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
        """Omit the cache: each worker process decodes its own examples."""
        return self.__dict__ | {"_kept": {}}

    def describe(self, index: int) -> str:
        """Return the path of the image."""
        return printable(f"{self.pairs[index].image} ({self.name})")

    def classes(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """Return the classes of a mask's values; `path` is for the error."""
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
    """Return a split of "masks:PATH".

    Without split folders, all pairs are the train split. Slices refer to the natural order, so that
    `train[:24]` and `train[24:]` determine which images are held out.

    Raises:
      InputError: a pair is incomplete, differs in size, or has an unknown value.
    """
    tree = open_tree(config, rest, _LAYOUT)
    name = f"{config.source} {split}"
    whole = tree.is_folder(tree.root / IMAGES)
    folders = {"train": tree.root} if whole else split_folders(tree, name, _LAYOUT)
    listed = {known: find_pairs(tree, folder) for known, folder in folders.items()}
    tree.tell_passed_over()
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
            f"{config.source} has {len(pairs)} training masks, too many to search for the values "
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
    """Check the sizes of every pair; return the maximum height and the maximum width."""
    largest = np.zeros(2, np.int64)
    for pair in pairs:
        size = mask_size(pair.mask)
        if len(pairs) <= _READ_AT_ONCE:
            check_sizes(pair, size)
        largest = np.maximum(largest, size)
    return int(largest[0]), int(largest[1])
