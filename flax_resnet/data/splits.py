"""Splits and their slices, in TFDS's notation: train[:90%], train[100:200], train+test."""

from __future__ import annotations

import re
from collections.abc import Mapping

import tensorflow_datasets as tfds

from flax_resnet.errors import InputError, expected_names

_SLICES = "https://www.tensorflow.org/datasets/splits"


def check_split(source: str, spec: str, known: Mapping[str, object]) -> None:
    """Raise `InputError` when a spec names a split that the source does not have."""
    for part in spec.split("+"):
        name = re.split(r"\[", part.strip())[0]
        if name not in known and name != "all":
            raise InputError(
                f"{source} has no split {name!r}; {expected_names(name, known)} "
                "A slice of one works too, such as train[90%:]."
            )


def resolve_split(source: str, spec: str, sizes: Mapping[str, int]) -> list[tuple[str, range]]:
    """Return the (split, positions) that a spec stands for, of splits of the given sizes."""
    check_split(source, spec, sizes)
    infos = {name: tfds.core.SplitInfo(name, [size], 0) for name, size in sizes.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise InputError(f"{source} cannot be sliced by {spec!r}: {error} See {_SLICES}.") from None
    # TFDS leaves out a bound that is the split's own.
    ends = [sizes[part.splitname] if part.to is None else part.to for part in parts]
    return [
        (part.splitname, range(part.from_ or 0, end)) for part, end in zip(parts, ends, strict=True)
    ]


def split_size(parts: list[tuple[str, range]]) -> int:
    """Return the number of examples in a resolved split."""
    return sum(len(positions) for _, positions in parts)
