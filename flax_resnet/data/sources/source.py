"""The interface of sources, and the slices of their splits."""

import re
from collections.abc import Mapping
from typing import Protocol, TypedDict

import numpy as np
import tensorflow_datasets as tfds

from flax_resnet.errors import InputError, expected_names


class Example(TypedDict):
    """A labeled image, encoded (JPEG, PNG, ...) or as uint8 (height, width, channels)."""

    image: bytes | np.ndarray
    label: int | tuple[int, ...] | np.ndarray
    """The class of the image, or uint8 (height, width) with the class of each pixel. In sources
    with several labels, all classes that are right for the image, or () if it has none."""


class Source(Protocol):
    """Labeled images with random access; sources can be pickled for worker processes."""

    @property
    def name(self) -> str:
        """Return the name used in errors, such as "tfds:mnist train[:90%]"."""
        ...

    @property
    def num_classes(self) -> int:
        """Return the number of classes; labels are 0 .. num_classes - 1."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the name of each class."""
        ...

    @property
    def named(self) -> bool:
        """Return whether the classes have names, not just numbers that their order gives them."""
        ...

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Return an example."""
        ...

    def describe(self, index: int) -> str:
        """Return the origin of an example: a file, or "record 17 of tfds:mnist train"."""
        ...

    def place(self, index: int) -> str:
        """Return where an example is in the data: "cat/17.jpg", or "record 17"."""
        ...


def has_several_labels(source: Source) -> bool:
    """Return whether an example's label is a tuple of classes, as only evaluation takes it."""
    return getattr(source, "several_labels", False)


def pinned_name(source: Source) -> str | None:
    """Return `config.data.source` with the revision of the data; None if they have none."""
    return getattr(source, "pinned", None)


_MANY = 10**9
_SLICES = "https://www.tensorflow.org/datasets/splits"


def check_split(source: str, spec: str, known: Mapping[str, object]) -> None:
    """Raise `InputError` if a spec names a split that the source does not have."""
    for part in spec.split("+"):
        name = re.split(r"\[", part.strip())[0]
        if name not in known and name != "all":
            raise InputError(
                f"{source} has no split {name!r}; {expected_names(name, known)} "
                "A slice of one works too, such as train[90%:]."
            )


def resolve_split(source: str, spec: str, sizes: Mapping[str, int]) -> list[tuple[str, range]]:
    """Return the (split, positions) that a spec selects from splits of the given sizes."""
    check_split(source, spec, sizes)
    infos = {name: tfds.core.SplitInfo(name, [size], 0) for name, size in sizes.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise InputError(f"{source} cannot be sliced by {spec!r}: {error} See {_SLICES}.") from None
    # TFDS uses None for a bound that equals the split's own.
    ends = [sizes[part.splitname] if part.to is None else part.to for part in parts]
    return [
        (part.splitname, range(part.from_ or 0, end)) for part, end in zip(parts, ends, strict=True)
    ]


def share_images(one: str, other: str) -> bool:
    """Return whether two splits have examples in common, whatever the data are.

    Where that depends on the number of examples, as for `train[:90%]` and `train[100:]`, there are
    taken to be many.
    """
    names = [part.strip().partition("[")[0] for part in f"{one}+{other}".split("+")]
    sizes = dict.fromkeys((name for name in ("train", *names) if name != "all"), _MANY)
    found, others = (resolve_split("a split", spec, sizes) for spec in (one, other))
    return any(
        name == its and max(own.start, places.start) < min(own.stop, places.stop)
        for name, own in found
        for its, places in others
    )


def split_size(parts: list[tuple[str, range]]) -> int:
    """Return the number of examples in a resolved split."""
    return sum(len(positions) for _, positions in parts)
