"""What a source of examples is."""

from __future__ import annotations

from typing import Protocol, TypedDict

import numpy as np


class Example(TypedDict):
    """One labelled image, encoded (JPEG, PNG, ...) or as uint8 (height, width, channels)."""

    image: bytes | np.ndarray
    label: int | np.ndarray
    """The class of the image, or of every pixel: uint8 (height, width)."""


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
