"""Images with a class for every pixel, in folders, as people have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.decode import decode_image
from flax_resnet.data.folder import canonical_split, split_folders
from flax_resnet.data.listing import open_tree
from flax_resnet.data.mask_files import (
    IMAGES,
    Pair,
    check_sizes,
    find_pairs,
    found_values,
    mask_size,
    read_mask,
    sizes_differ,
)
from flax_resnet.data.reading import read_file
from flax_resnet.data.source import Example
from flax_resnet.data.splits import resolve_split
from flax_resnet.errors import InputError
from flax_resnet.printable import printable

# The label of pixels that do not count. No class has it: there are 255 at most.
IGNORED = 255
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
                "Repair it, or name it in config.data.mask_values or config.data.ignore_value."
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
    values = config.mask_values or _values_of(config, listed["train"])
    source = MaskSource(
        name=name,
        pairs=pairs,
        values=values,
        class_names=_names_of(config, values),
        ignore_value=config.ignore_value,
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
            "of their classes: set config.data.mask_values, such as (0,255)."
        )
    values = found_values(pairs, config.ignore_value)
    if not 1 <= len(values) <= IGNORED:
        raise InputError(
            f"the masks of {config.source} have {len(values)} values; expected 1 to {IGNORED}, one "
            "for each class. See config.data.ignore_value."
        )
    return values


def _names_of(config: DataConfig, values: tuple[int, ...]) -> tuple[str, ...]:
    names = config.class_names or tuple(f"value {value}" for value in values)
    for setting, entries in (("class_names", names), ("class_weights", config.class_weights)):
        if entries and len(entries) != len(values):
            raise InputError(
                f"config.data.{setting} has {len(entries)} entries and the masks of "
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
