"""What a source of examples is, and which one a name stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypedDict

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.decoded import keep_decoded
from flax_resnet.data.digits import open_digits
from flax_resnet.data.folder import open_folder
from flax_resnet.data.synthetic import open_synthetic
from flax_resnet.data.tfds_source import open_tfds
from flax_resnet.errors import InputError, expected_names


class Example(TypedDict):
    """One labelled image, encoded (JPEG, PNG, ...) or as uint8 (height, width, channels)."""

    image: bytes | np.ndarray
    label: int


class Source(Protocol):
    """Labelled images with random access; a source can be pickled for worker processes."""

    @property
    def name(self) -> str:
        """Return what errors call it, such as "tfds:mnist train[:90%]"."""
        ...

    @property
    def num_classes(self) -> int:
        """Return the number of classes; labels are 0 .. num_classes - 1."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the name of each class."""
        ...

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Return an example."""
        ...

    def describe(self, index: int) -> str:
        """Say where an example comes from: a file, or "record 17 of tfds:mnist train"."""
        ...


# The prefix of `config.source` -> what opens (config, the rest of the name, split).
OPENERS: dict[str, Callable[[DataConfig, str, str], Source]] = {
    "digits": open_digits,
    "folder": open_folder,
    "synthetic": open_synthetic,
    "tfds": open_tfds,
}


def open_source(config: DataConfig, split: str) -> Source:
    """Open a split, or a slice such as "train[:90%]", of the source that the config names."""
    prefix, _, rest = config.source.partition(":")
    if prefix not in OPENERS:
        raise InputError(
            f"config.data.source is {config.source!r}: {expected_names(prefix, OPENERS)} "
            "They are written digits, tfds:NAME, folder:PATH and synthetic:CLASSES."
        )
    source = OPENERS[prefix](config, rest, split)
    if len(source) == 0:
        raise InputError(f"{source.name} has no examples; expected at least one. Widen the slice.")
    return keep_decoded(source, config.channels)
