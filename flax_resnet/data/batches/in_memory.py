"""A data set as arrays in memory, each example decoded once at the size of the batches."""

from dataclasses import dataclass

import numpy as np

from flax_resnet.data.batches.loading import Batch, TrainLoader, empty_batch, put_label
from flax_resnet.data.batches.pipeline import BatchIterator, eval_batches
from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.transforms import resize
from flax_resnet.data.sources.source import Source


@dataclass(frozen=True)
class InMemoryData:
    """All examples of a source, in its order."""

    images: np.ndarray
    """uint8 (n, size, size, channels)"""
    labels: np.ndarray
    """int32 (n,); bool (n, classes) where the source has several labels."""
    skipped: np.ndarray
    """int32 (n,): the number of undecodable records that were skipped before this one."""
    mask: np.ndarray
    """bool (n,): False for evaluation records that cannot be decoded."""


@dataclass(frozen=True)
class WholeLoader(TrainLoader):
    """Make batches of whole training images, in the order of the source."""

    def __call__(self, number: int) -> Batch:
        """Return the examples of batch `number`; the last batch may be smaller."""
        size = self.config.batch_size
        indices = range(number * size, min((number + 1) * size, len(self.source)))
        batch, side = self.empty(len(indices)), self.config.image_size
        for at, index in enumerate(indices):
            example, batch["skipped"][at] = self._decodable(index)
            image = np.asarray(example["image"])
            batch["image"][at] = resize(image, (side, side), self.config.interpolation)
            put_label(batch, at, example)
        return batch


def load_training(source: Source, config: DataConfig) -> InMemoryData:
    """Return all training images, resized to image_size.

    As in `train_batches`, an undecodable record raises an error or is replaced by the next one.
    """
    count = -(-len(source) // config.batch_size)
    batches = BatchIterator(WholeLoader(source, config, seed=0), range(count), count)
    return _gathered(batches, empty_batch(source, config, len(source), config.image_size))


def load_evaluation(source: Source, config: DataConfig) -> InMemoryData:
    """Return all images of an evaluation, exactly as `eval_batches` does."""
    whole = empty_batch(source, config, len(source), config.test_size)
    return _gathered(eval_batches(source, config), whole)


def _gathered(batches: BatchIterator, whole: Batch) -> InMemoryData:
    count = len(whole["label"])
    data = InMemoryData(whole["image"], whole["label"], whole["skipped"], np.ones(count, np.bool_))
    at = 0
    try:
        for batch in batches:
            rows = slice(at, min(at + len(batch["label"]), count))
            real = slice(rows.stop - at)
            data.images[rows], data.labels[rows] = batch["image"][real], batch["label"][real]
            data.skipped[rows] = batch["skipped"][real]
            if "mask" in batch:
                data.mask[rows] = batch["mask"][real]
            at = rows.stop
    finally:
        batches.close()
    return data
