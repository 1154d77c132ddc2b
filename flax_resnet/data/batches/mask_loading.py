"""Batches of images with a class for every pixel."""

from dataclasses import dataclass

import numpy as np

from flax_resnet.data.batches.loading import Batch, EvalLoader, TrainLoader
from flax_resnet.data.config import DataConfig, MaskConfig
from flax_resnet.data.images.decode import MAX_PIXELS
from flax_resnet.data.images.paired import border_weights, pad_to, paired_transform
from flax_resnet.data.images.transforms import Transform, find_transform
from flax_resnet.data.sources.labels import balanced_members
from flax_resnet.data.sources.masks import MaskSource
from flax_resnet.data.sources.source import Example, Source
from flax_resnet.errors import InputError
from flax_resnet.models import IGNORED

# cv2.remap stores coordinates in 16 bits.
_LONGEST_BENT = 2**15 - 1


@dataclass(frozen=True)
class MaskTrainLoader(TrainLoader):
    """Make the training batch of a given number: crops with the classes and weights of pixels."""

    source: MaskSource

    def empty(self, rows: int) -> Batch:
        """Return an empty batch, with weights if the config has any."""
        side = self.config.image_size
        batch = _empty(rows, (side, side), self.config.channels)
        if _is_weighted(self.config.masks):
            batch["weight"] = np.zeros((rows, side, side), np.float32)
        return batch

    def put(self, batch: Batch, at: int, example: Example, rng: np.random.Generator) -> None:
        """Write a transformed example into a row."""
        image, label = np.asarray(example["image"]), np.asarray(example["label"])
        batch["image"][at], batch["label"][at] = paired_transform(image, label, rng, self.config)
        if "weight" in batch:
            batch["weight"][at] = pixel_weights(batch["label"][at], self.config.masks)


@dataclass(frozen=True)
class MaskEvalLoader(EvalLoader):
    """Make the evaluation batch of a given number: whole images, padded to the largest."""

    source: MaskSource

    def empty(self, rows: int) -> Batch:
        """Return an empty batch."""
        return _empty(rows, self.source.largest, self.config.channels)

    def put(self, batch: Batch, at: int, example: Example) -> None:
        """Write an example into a row; pixels of the padding are ignored."""
        image, label = np.asarray(example["image"]), np.asarray(example["label"])
        batch["image"][at] = pad_to(image, *self.source.largest)
        batch["label"][at, : label.shape[0], : label.shape[1]] = label


def train_loader(
    source: Source,
    config: DataConfig,
    seed: int,
    process_index: int,
    process_count: int,
    transform: Transform | None = None,
) -> TrainLoader:
    """Return the training loader for a source with or without masks.

    Args:
      transform: default: the one that `config` names; not for masks.
    """
    if isinstance(source, MaskSource):
        _check_sides(source, config)
        return MaskTrainLoader(source, config, seed, process_index, process_count)
    members = balanced_members(source, config)
    transform = transform or find_transform(config)
    return TrainLoader(source, config, seed, process_index, process_count, members, transform)


def eval_loader(
    source: Source, config: DataConfig, process_index: int, process_count: int
) -> EvalLoader:
    """Return the evaluation loader for a source with or without masks."""
    if isinstance(source, MaskSource):
        _check_largest(source)
        return MaskEvalLoader(source, config, process_index, process_count)
    return EvalLoader(source, config, process_index, process_count)


def pixel_weights(labels: np.ndarray, masks: MaskConfig) -> np.ndarray:
    """Return the weight of each pixel of a crop: its class's weight plus its border weight.

    Objects are the connected components within the crop.
    """
    table = np.ones(256, np.float32)
    table[: len(masks.class_weights)] = masks.class_weights
    weights = table[labels]
    if masks.border_weight > 0:
        weights += border_weights(labels, masks.border_weight, masks.border_sigma)
    return weights


def _check_sides(source: MaskSource, config: DataConfig) -> None:
    side = max(source.largest)
    if config.masks.elastic > 0 and side > _LONGEST_BENT:
        raise InputError(
            f"an image of {source.name} has a side of {side} pixels; expected at most "
            f"{_LONGEST_BENT} with config.data.masks.elastic. Crop it, or set that to 0."
        )


def _check_largest(source: MaskSource) -> None:
    # The frame of a wide and a tall image is larger than both.
    height, width = source.largest
    if height * width > MAX_PIXELS:
        raise InputError(
            f"the images of {source.name} are up to {width} pixels wide and {height} high, and "
            f"evaluation pads all to that; expected at most {MAX_PIXELS} pixels. Crop the "
            "largest ones."
        )


def _is_weighted(masks: MaskConfig) -> bool:
    return bool(masks.class_weights) or masks.border_weight > 0


def _empty(rows: int, size: tuple[int, int], channels: int) -> Batch:
    """Return black images whose pixels are all ignored."""
    return {
        "image": np.zeros((rows, *size, channels), np.uint8),
        "label": np.full((rows, *size), IGNORED, np.uint8),
        "skipped": np.zeros(rows, np.int32),
    }
