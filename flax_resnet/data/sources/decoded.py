"""Small images are decoded once: the rest of their way takes less time than decoding."""

from __future__ import annotations

from typing import Any

import numpy as np

from flax_resnet.data.images.decode import decode_image, to_channels
from flax_resnet.data.sources.source import Example, Source

# MNIST has 300 bytes as PNG and 784 in memory, CIFAR 2,500 and 3,072, ImageNet 100,000 as JPEG.
_SMALL_ENCODED, _SMALL_DECODED = 2**12, 2**14
# Of all images of a source together.
_MEMORY_BYTES = 2**28


class DecodedSource:
    """Keep the decoded examples of a source of small images."""

    def __init__(self, source: Source, channels: int) -> None:
        """Decode nothing yet: an example is decoded when it is first asked for."""
        self._source, self._channels = source, channels
        self._examples: dict[int, Example] = {}
        self.name, self.num_classes = source.name, source.num_classes
        self.class_names, self.describe = source.class_names, source.describe

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """Return a decoded example. Threads that ask at once decode twice, to the same end."""
        if index not in self._examples:
            example = self._source[index]
            image = decoded(example, self._channels)
            example = {"image": image, "label": example["label"]}
            # The source was chosen by its first image; a larger one after it is not kept.
            if image.nbytes * len(self) > _MEMORY_BYTES:
                return example
            self._examples[index] = example
        return self._examples[index]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoded examples out: a worker process decodes its own share."""
        return self.__dict__ | {"_examples": {}}


def decoded(example: Example, channels: int) -> np.ndarray:
    """Return an example's image as uint8 (height, width, channels)."""
    image = example["image"]
    if isinstance(image, bytes):
        return decode_image(image, channels)
    return to_channels(image, channels)


def keep_decoded(source: Source, channels: int) -> Source:
    """Wrap a source of small encoded images; return any other as it is. Its first one decides."""
    try:
        image = source[0]["image"]
        if isinstance(image, np.ndarray) or not is_small(image):
            return source
        size = decode_image(image, channels).nbytes
    except (OSError, ValueError):  # The loader names it, or skips it.
        return source
    return DecodedSource(source, channels) if size * len(source) <= _MEMORY_BYTES else source


def is_small(image: bytes | np.ndarray) -> bool:
    """Tell whether an image is like MNIST's or CIFAR's, rather than a photograph."""
    if isinstance(image, bytes):
        return len(image) <= _SMALL_ENCODED
    return image.nbytes <= _SMALL_DECODED
