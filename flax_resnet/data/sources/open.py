"""Open a source by its name; small images stay in memory once they are decoded."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import decode_image, to_channels
from flax_resnet.data.sources.csv import open_csv
from flax_resnet.data.sources.digits import open_digits
from flax_resnet.data.sources.folder import open_folder
from flax_resnet.data.sources.hub import open_hub
from flax_resnet.data.sources.labels import labels_of
from flax_resnet.data.sources.masks import open_masks
from flax_resnet.data.sources.own import open_own
from flax_resnet.data.sources.source import (
    Example,
    Source,
    has_several_labels,
    pinned_name,
)
from flax_resnet.data.sources.synthetic import open_synthetic
from flax_resnet.data.sources.tfds import open_tfds
from flax_resnet.errors import InputError, expected_names, require_free

# What the name of data begins with that were given as an object.
OWN = "own"
# Bytes, encoded and decoded: MNIST 300 and 784, CIFAR 2,500 and 3,072, ImageNet 100,000 as JPEG.
_SMALL_ENCODED, _SMALL_DECODED = 2**12, 2**14
# For all images of a source.
_MEMORY_BYTES = 2**28


class DecodedSource:
    """A source of small images that caches decoded examples."""

    def __init__(self, source: Source, channels: int) -> None:
        """Wrap `source`; an example is decoded on first access."""
        self._source, self._channels = source, channels
        self._examples: dict[int, Example] = {}
        self.name, self.num_classes = source.name, source.num_classes
        self.class_names, self.named = source.class_names, source.named
        self.describe, self.place = source.describe, source.place
        self.several_labels = has_several_labels(source)
        self.pinned = pinned_name(source)

    @property
    def labels(self) -> np.ndarray:
        """Return the label of each example, which need not be decoded for it."""
        return labels_of(self._source)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """Return a decoded example; concurrent threads may decode it twice, with equal results."""
        if index not in self._examples:
            example = self._source[index]
            image = decoded(example, self._channels)
            example = {"image": image, "label": example["label"]}
            # The source was chosen by its first image; later, larger ones are not cached.
            if image.nbytes * len(self) > _MEMORY_BYTES:
                return example
            self._examples[index] = example
        return self._examples[index]

    def __getstate__(self) -> dict[str, Any]:
        """Omit the cache: each worker process decodes its own examples."""
        return self.__dict__ | {"_examples": {}}


def decoded(example: Example, channels: int) -> np.ndarray:
    """Return an example's image as uint8 (height, width, channels)."""
    image = example["image"]
    if isinstance(image, bytes):
        return decode_image(image, channels)
    return to_channels(image, channels)


def keep_decoded(source: Source, channels: int) -> Source:
    """Return the source, wrapped in a cache if its first image is small and encoded."""
    try:
        image = source[0]["image"]
        if isinstance(image, np.ndarray) or not is_small(image):
            return source
        size = decode_image(image, channels).nbytes
    except (OSError, ValueError):  # The loader reports it or skips it.
        return source
    return DecodedSource(source, channels) if size * len(source) <= _MEMORY_BYTES else source


def is_small(image: bytes | np.ndarray) -> bool:
    """Return whether an image is as small as those of MNIST or CIFAR."""
    if isinstance(image, bytes):
        return len(image) <= _SMALL_ENCODED
    return image.nbytes <= _SMALL_DECODED


# Prefix of `config.source` -> function of (config, rest of the name, split).
OPENERS: dict[str, Callable[[DataConfig, str, str], Source]] = {
    "csv": open_csv,
    "digits": open_digits,
    "folder": open_folder,
    "hf": open_hub,
    "masks": open_masks,
    "synthetic": open_synthetic,
    "tfds": open_tfds,
}


_BUILT_IN = frozenset(OPENERS)


def register_source(name: str, open_split: Callable[[str, str], Any]) -> None:
    """Add data of your own: `config.data.source = "NAME:REST"` then reads them.

    Args:
      open_split: `(rest, split) -> examples` of a split's name, such as `train`: an object with
        `len` and `[i]`, which returns (image, label) or a dictionary of these. An image is a path,
        the bytes of a file, a Pillow image or uint8 (height, width, channels). The object's
        `class_names` or `num_classes` says the classes.

    Raises:
      InputError: the name is taken.
    """
    require_free("a source", name, OPENERS, OPENERS.keys() - _BUILT_IN)

    def open_(config: DataConfig, rest: str, spec: str) -> Source:
        return open_own(config.source, spec, lambda split: open_split(rest, split), config.channels)

    OPENERS[name] = open_


def is_own_source(name: str) -> bool:
    """Return whether the data of this name are user-defined, given or registered."""
    return name.partition(":")[0] in {OWN, *OPENERS} - _BUILT_IN


def open_source(config: DataConfig, split: str) -> Source:
    """Return a split, or a slice such as "train[:90%]", of the config's source."""
    prefix, _, rest = config.source.partition(":")
    if prefix == OWN:
        raise InputError(
            f"config.data.source is {config.source!r}: the data were given to train(source=...), "
            "and only register_source makes them known by a name. Pass them as source= here too"
        )
    if prefix not in OPENERS:
        raise InputError(
            f"config.data.source is {config.source!r}: {expected_names(prefix, OPENERS)} "
            "The forms are digits, tfds:NAME, hf:OWNER/NAME, folder:PATH, csv:PATH, masks:PATH "
            "and synthetic:CLASSES. Data of your own have to be registered first, in commands by "
            "--import MODULE."
        )
    return usable(OPENERS[prefix](config, rest, split), config)


def usable(source: Source, config: DataConfig) -> Source:
    """Return a source as batches read it; raise `InputError` if it has no examples."""
    if len(source) == 0:
        raise InputError(f"{source.name} has no examples; expected at least one. Widen the slice.")
    # Data sets on the devices are decoded only once anyway.
    return source if config.on_device else keep_decoded(source, config.channels)
