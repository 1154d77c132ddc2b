"""Any object with `len` and `[i]` as a source of labeled images."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_resnet.data.images.any_kind import described, pixels_of
from flax_resnet.data.sources.source import Example, check_split, resolve_split
from flax_resnet.errors import InputError

_EXPECTED = "(image, label), or a dictionary with image and label"


@dataclass(frozen=True)
class OwnSource:
    """Examples of user-defined objects, one object for each split."""

    name: str
    parts: tuple[tuple[Any, range], ...]
    class_names: tuple[str, ...]
    named: bool
    channels: int

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Return the number of examples."""
        return sum(len(positions) for _, positions in self.parts)

    def __getitem__(self, index: int) -> Example:
        """Return an example; its image encoded where it is, otherwise as an array."""
        examples, position = self._find(index)
        found = examples[position]
        try:
            image, label = (found["image"], found["label"]) if isinstance(found, Mapping) else found
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{self.describe(index)} is {described(found)}; expected {_EXPECTED}"
            ) from None
        try:
            number = operator.index(np.asarray(label).item())
        except (TypeError, ValueError):
            raise InputError(
                f"{self.describe(index)} has the label {label!r}; expected the number of a class"
            ) from None
        if not isinstance(image, bytes):
            image = pixels_of(image, self.channels)
        return {"image": image, "label": number}

    def describe(self, index: int) -> str:
        """Return what the object calls an example, or its position."""
        examples, position = self._find(index)
        if hasattr(examples, "describe"):
            return str(examples.describe(position))
        return f"{self.place(index)} of {self.name}"

    def place(self, index: int) -> str:
        """Return the place of an example in its object."""
        examples, position = self._find(index)
        own = hasattr(examples, "place")
        return str(examples.place(position)) if own else f"example {position}"

    def _find(self, index: int) -> tuple[Any, int]:
        for examples, positions in self.parts:
            if index < len(positions):
                return examples, positions[index]
            index -= len(positions)
        raise IndexError(index)


def open_own(
    name: str,
    spec: str,
    find: Callable[[str], Any],
    channels: int,
    num_classes: int | None = None,
) -> OwnSource:
    """Return a split, or a slice of one, of objects with `len` and `[i]`.

    The names of the classes are the object's `class_names` or `classes`; otherwise their number is
    its `num_classes`, or `num_classes` here.

    Args:
      find: returns the object of a split's name.

    Raises:
      InputError: an object is not a source, or its classes are not known.
    """
    splits = {re.split(r"\[", part.strip())[0]: None for part in spec.split("+")}
    objects = {split: _checked(name, find(split)) for split in splits}
    sizes = {split: len(examples) for split, examples in objects.items()}
    parts = tuple((objects[split], at) for split, at in resolve_split(name, spec, sizes))
    names = {_class_names(examples, num_classes) for examples, _ in parts}
    if None in names:
        raise InputError(
            f"{name} does not say its classes; expected an attribute class_names or num_classes, "
            "or config.model.num_classes"
        )
    if len(names) > 1:
        raise InputError(f"{name} has different classes in the splits {spec}; expected the same")
    known = hasattr(parts[0][0], "class_names") or hasattr(parts[0][0], "classes")
    return OwnSource(f"{name} {spec}", parts, names.pop() or (), known, channels)


def open_given(given: Any, spec: str, channels: int, num_classes: int | None = None) -> OwnSource:
    """Return a split of an object, whose only split is `train`, or of a mapping of splits.

    Arguments and errors are those of `open_own`.
    """
    splits = given if isinstance(given, Mapping) else {"train": given}
    name = own_name(given)
    try:
        check_split(name, spec, splits)
    except InputError as error:
        raise InputError(
            f"{error} Give every split an object, source={{'train': ..., 'validation': ...}}, or "
            "take parts of one: config.data.train_split='train[:90%]' and "
            "config.data.eval_split='train[90%:]'"
        ) from None
    return open_own(name, spec, splits.__getitem__, channels, num_classes)


def own_name(given: Any) -> str:
    """Return the name of user-defined data: `own:` and the type of the object."""
    if isinstance(given, Mapping):
        given = next(iter(given.values()), None)
    return f"own:{type(given).__name__}"


def _checked(name: str, examples: Any) -> Any:
    if not (hasattr(examples, "__len__") and hasattr(examples, "__getitem__")):
        raise InputError(f"{name} is {described(examples)}; expected an object with len and [i]")
    return examples


def _class_names(examples: Any, num_classes: int | None) -> tuple[str, ...] | None:
    for attribute in ("class_names", "classes"):
        if getattr(examples, attribute, None):
            return tuple(map(str, getattr(examples, attribute)))
    count = getattr(examples, "num_classes", num_classes)
    return None if count is None else tuple(map(str, range(count)))
