"""The labels of all examples of a source: how many each class has, and which."""

from typing import Any

import numpy as np

from flax_resnet.data.config import BALANCED, DataConfig
from flax_resnet.data.positions import Members
from flax_resnet.data.sources.source import Source, has_several_labels
from flax_resnet.errors import InputError


def labels_of(source: Source) -> np.ndarray:
    """Return the label of each example, int64 (examples,).

    With several labels it is whether each class is right for it, bool (examples, classes). Sources
    whose examples take time to read have them as `labels`.

    Raises:
      InputError: a label is not the number of a class, or an example cannot be read.
    """
    known = getattr(source, "labels", None)
    labels = np.asarray(read_labels(source) if known is None else known)
    if has_several_labels(source):
        return labels
    labels = labels.astype(np.int64, copy=False)
    wrong = np.flatnonzero((labels < 0) | (labels >= source.num_classes))
    if len(wrong):
        raise InputError(
            f"{source.describe(int(wrong[0]))} has label {labels[wrong[0]]}; expected 0 .. "
            f"{source.num_classes - 1}. Repair or remove the record."
        )
    return labels


def class_counts(source: Source) -> np.ndarray:
    """Return the number of examples of each class, int64 (classes,).

    With several labels an example counts for each of them.
    """
    labels = labels_of(source)
    if has_several_labels(source):
        return labels.sum(0)
    return np.bincount(labels, minlength=source.num_classes)


def balanced_members(source: Source, config: DataConfig) -> Members | None:
    """Return the examples of each class if `config.sampling` is balanced, else None."""
    if config.sampling != BALANCED:
        return None
    labels = labels_of(source)
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels))
    return Members(tuple(own for own in np.split(order, ends[:-1]) if len(own)))


def read_labels(source: Source) -> np.ndarray:
    """Return the label or labels of each example, from reading all of them."""
    labels: list[Any] = []
    for index in range(len(source)):
        try:
            labels.append(source[index]["label"])
        except OSError as error:
            raise InputError(
                f"the label of {source.describe(index)} cannot be read: {error}. Repair or remove "
                "the record, which is needed to count the images of each class."
            ) from error
    if not has_several_labels(source):
        return np.array(labels)
    found = np.zeros((len(labels), source.num_classes), np.bool_)
    for row, several in zip(found, labels, strict=True):
        row[list(several)] = True
    return found
