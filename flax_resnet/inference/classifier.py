"""A trained network as a function from images to the names of classes."""

import itertools
import os
from collections.abc import Iterable

import numpy as np

from flax_resnet.data.images.any_kind import AnImage
from flax_resnet.errors import InputError
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.inference.preprocessing import each_image, is_one, prepared
from flax_resnet.inference.stream import TopClasses, top_classes


class Classifier:
    """Name what images show, by published weights, a file, a folder of weights or a run."""

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        step: str | int = "best",
        batch_size: int = 32,
        key: str | None = None,
        train_size: bool = False,
        threshold: str | float | None = None,
    ) -> None:
        """Load the network onto every device.

        Args:
          source: as in `load_pretrained`.
          step: for a run, `best`, `latest` or a number; for a repository, its revision.
          batch_size: images at a time.
          key: the part of a file to take, as in `load_pretrained`.
          train_size: prepare images at the size of training instead of the test size.
          threshold: for a network that finds several classes in an image, the probability from
            which a class is named, or `best`, the one with the best F1 on a run's evaluation split;
            default: as the run or the weights say.

        Raises:
          InputError: the source cannot be used, or does not classify images.
        """
        self.predictor = open_predictor(
            source,
            step,
            batch_size=batch_size,
            key=key,
            train_size=train_size,
            threshold=None if threshold is None else str(threshold),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the name of each class; its number where the names are not known."""
        return self.predictor.class_names

    def __call__(
        self, images: AnImage | Iterable[AnImage], top: int | None = None
    ) -> TopClasses | list[TopClasses]:
        """Return the most probable classes, the best first, as (name, probability).

        Args:
          images: one image or several: each a path, the bytes of a file, a Pillow image or uint8
            (height, width, channels).
          top: the most classes for an image; default: five, or all that reach the threshold where
            an image can have several.

        Returns:
          One such list for one image; for several images, a list of them, in order.

        Raises:
          InputError: something is not an image, or cannot be read; the message says which.
        """
        if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
            raise InputError(f"top is {top!r}; expected a number of classes, at least 1")
        found: list[TopClasses] = []
        remaining = each_image(images)
        while batch := list(itertools.islice(remaining, self.predictor.batch_size)):
            pixels = np.stack([prepared(each, self.predictor.data, name) for name, each in batch])
            rows = self.predictor.probabilities(pixels)
            least = self.predictor.threshold
            found += [top_classes(row, self.class_names, top, least) for row in rows]
        return found[0] if is_one(images) else found
