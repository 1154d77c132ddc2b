"""A whole data set in memory: every example decoded once, at the one size of the batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flax_resnet.data.batches.loading import Batch, TrainLoader
from flax_resnet.data.batches.pipeline import BatchIterator, eval_batches
from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.transforms import resize
from flax_resnet.data.sources.source import Source


@dataclass(frozen=True)
class Held:
    """All examples of a source, in its order."""

    images: np.ndarray
    """uint8 (n, size, size, channels)"""
    labels: np.ndarray
    """int32 (n,)"""
    skipped: np.ndarray
    """int32 (n,): how many records that cannot be decoded came before the one that is held."""
    mask: np.ndarray
    """bool (n,): False where a record of evaluation cannot be decoded."""


@dataclass(frozen=True)
class WholeLoader(TrainLoader):
    """Make batches of whole training images, one after the other."""

    def __call__(self, number: int) -> Batch:
        """Return the examples of batch `number`; the last one may be short."""
        size = self.config.batch_size
        indices = range(number * size, min((number + 1) * size, len(self.source)))
        batch, side = self.empty(len(indices)), self.config.image_size
        for at, index in enumerate(indices):
            example, batch["skipped"][at] = self._decodable(index)
            image = np.asarray(example["image"])
            batch["image"][at] = resize(image, (side, side), self.config.interpolation)
            batch["label"][at] = example["label"]
        return batch


def hold_training(source: Source, config: DataConfig) -> Held:
    """Decode all training images, resized to image_size where theirs differs.

    A record that cannot be decoded is as in `train_batches`: an error, or the next one takes its
    place.
    """
    count = -(-len(source) // config.batch_size)
    batches = BatchIterator(WholeLoader(source, config, seed=0), range(count), count)
    return _gathered(batches, len(source), config.image_size, config.channels)


def hold_evaluation(source: Source, config: DataConfig) -> Held:
    """Decode all images of an evaluation, exactly as `eval_batches` gives them."""
    return _gathered(eval_batches(source, config), len(source), config.test_size, config.channels)


def _gathered(batches: BatchIterator, count: int, size: int, channels: int) -> Held:
    held = Held(
        np.zeros((count, size, size, channels), np.uint8),
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.ones(count, np.bool_),
    )
    at = 0
    try:
        for batch in batches:
            rows = slice(at, min(at + len(batch["label"]), count))
            real = slice(rows.stop - at)
            held.images[rows], held.labels[rows] = batch["image"][real], batch["label"][real]
            held.skipped[rows] = batch["skipped"][real]
            if "mask" in batch:
                held.mask[rows] = batch["mask"][real]
            at = rows.stop
    finally:
        batches.close()
    return held
