"""Loaders that make the batch of a given number.

They depend on the batch number alone. They are frozen and can be pickled, so that threads, worker
processes and a resumed run all make the same batch from the same number.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import DecodeError
from flax_resnet.data.images.transforms import (
    Transform,
    apply_transform,
    eval_transform,
    train_transform,
)
from flax_resnet.data.positions import (
    Members,
    example_rng,
    locate,
    position_of_row,
    process_rows,
)
from flax_resnet.data.sources.open import decoded
from flax_resnet.data.sources.source import Example, Source, has_several_labels
from flax_resnet.errors import InputError


def at_batch(config: DataConfig, number: int, examples: int) -> DataConfig:
    """Return `config` with the image size of training batch `number`.

    Args:
      examples: the number of examples per epoch.
    """
    size = config.image_size
    for first_epoch, later in config.sizes:
        if number * config.batch_size >= first_epoch * examples:
            size = later
    return dataclasses.replace(config, image_size=size, sizes=())


def at_largest(config: DataConfig) -> DataConfig:
    """Return `config` with the largest size of training and evaluation, to estimate memory."""
    sizes = [config.image_size, *(size for named in sizes_of(config).values() for size in named)]
    return dataclasses.replace(config, image_size=max(sizes), eval_size=None, sizes=())


def sizes_of(config: DataConfig) -> dict[str, tuple[int, ...]]:
    """Return the sizes other than image_size, keyed by their setting."""
    found = {"sizes": tuple({size: None for _, size in config.sizes})}
    return found | ({} if config.eval_size is None else {"eval_size": (config.eval_size,)})


def size_ramp(
    first_epoch: int, last_epoch: int, smallest: int, largest: int, multiple: int = 32
) -> tuple[tuple[float, int], ...]:
    """Return `config.data.sizes` that grow linearly, in whole epochs and multiples of `multiple`.

    As in ffcv's recipes, the size is `smallest` at `first_epoch` and `largest` at `last_epoch`.
    Set `config.data.image_size` to the size before `first_epoch`.
    """
    sizes: list[tuple[float, int]] = []
    for epoch in range(first_epoch, last_epoch + 1):
        share = (epoch - first_epoch) / max(last_epoch - first_epoch, 1)
        size = round((smallest + share * (largest - smallest)) / multiple) * multiple
        if not sizes or sizes[-1][1] != size:
            sizes.append((float(epoch), size))
    return tuple(sizes)


class Batch(TypedDict):
    """The rows of one global batch that one process prepares."""

    image: np.ndarray
    """uint8 (rows, size, size, channels); whole images in the evaluation of masks."""
    label: np.ndarray
    """int32 (rows,); for masks uint8 (rows, height, width), IGNORED where a pixel is ignored; bool
    (rows, classes), the right classes, where the source has several labels."""
    skipped: np.ndarray
    """int32 (rows,): the number of undecodable records that were skipped before this one."""
    mask: NotRequired[np.ndarray]
    """bool (rows,), only in evaluation: False for padding and undecodable records."""
    weight: NotRequired[np.ndarray]
    """float32 (rows, height, width), only when training on masks: the weight of each pixel."""


@dataclass(frozen=True)
class TrainLoader:
    """Make the training batch of a given number."""

    source: Source
    config: DataConfig
    seed: int
    process_index: int = 0
    process_count: int = 1
    members: Members | None = field(default=None, repr=False)
    transform: Transform | None = None
    """The user-defined transform, which is applied last."""

    def __call__(self, number: int) -> Batch:
        """Return this process's rows of global batch `number`."""
        if self.config.sizes:
            sized = at_batch(self.config, number, len(self.source))
            return dataclasses.replace(self, config=sized)(number)
        rows = process_rows(self.config.batch_size, self.process_index, self.process_count)
        batch, repeats = self.empty(len(rows)), self.config.augment.repeats
        for at, row in enumerate(rows):
            position = position_of_row(number, row, self.config.batch_size, repeats)
            place = locate(position, self.seed, len(self.source), repeats, self.members)
            example, batch["skipped"][at] = self._decodable(place.example)
            self.put(batch, at, example, example_rng(self.seed, *place))
        return batch

    def empty(self, rows: int) -> Batch:
        """Return an empty batch."""
        return empty_batch(self.source, self.config, rows, self.config.image_size)

    def put(self, batch: Batch, at: int, example: Example, rng: np.random.Generator) -> None:
        """Write a transformed example into a row."""
        image = train_transform(np.asarray(example["image"]), rng, self.config)
        if self.transform is not None:
            image = apply_transform(image, rng, self.transform)
        batch["image"][at] = image
        put_label(batch, at, example)

    def _decodable(self, index: int) -> tuple[Example, int]:
        """Return example `index` or, if errors are skipped, the next valid one; and their count."""
        limit = min(self.config.max_errors + 1, len(self.source))
        skipped = 0
        while True:
            try:
                example = load_example(self.source, index, self.config.channels)
            except RecordError as error:
                skipped += 1
                if self.config.on_error == "raise" or skipped >= limit:
                    raise _explained(error, self.config) from error
                index = (index + 1) % len(self.source)
            else:
                return example, skipped


@dataclass(frozen=True)
class EvalLoader:
    """Make the evaluation batch of a given number."""

    source: Source
    config: DataConfig
    process_index: int = 0
    process_count: int = 1

    def __call__(self, number: int) -> Batch:
        """Return this process's rows of global batch `number`, the last one padded."""
        rows = process_rows(self.config.eval_batch_size, self.process_index, self.process_count)
        batch = self.empty(len(rows))
        batch["mask"] = np.zeros(len(rows), np.bool_)
        for at, row in enumerate(rows):
            index = number * self.config.eval_batch_size + row
            if index >= len(self.source):
                break
            try:
                example = load_example(self.source, index, self.config.channels)
            except RecordError as error:
                if self.config.on_error == "raise":
                    raise _explained(error, self.config) from error
                batch["skipped"][at] = 1
                continue
            self.put(batch, at, example)
            batch["mask"][at] = True
        return batch

    def empty(self, rows: int) -> Batch:
        """Return an empty batch."""
        return empty_batch(self.source, self.config, rows, self.config.test_size)

    def put(self, batch: Batch, at: int, example: Example) -> None:
        """Write a transformed example into a row."""
        batch["image"][at] = eval_transform(np.asarray(example["image"]), self.config)
        put_label(batch, at, example)


class RecordError(Exception):
    """A record that cannot be read or decoded, and the reason."""


def load_example(source: Source, index: int, channels: int) -> Example:
    """Return an example with its image decoded to uint8 (height, width, channels)."""
    try:
        example = source[index]
        image = decoded(example, channels)
    except (DecodeError, OSError) as error:
        raise RecordError(f"{source.describe(index)} cannot be decoded: {error}") from error
    label = example["label"]
    # The classes of pixels are checked when they are computed from a mask's values.
    classes = label if isinstance(label, tuple) else ()
    if not isinstance(label, tuple | np.ndarray):
        classes = (label,)
    if not all(0 <= each < source.num_classes for each in classes):
        raise InputError(
            f"{source.describe(index)} has label {label}; expected 0 .. {source.num_classes - 1}, "
            f"because {source.name} has {source.num_classes} classes. Repair or remove the record."
        )
    return {"image": image, "label": label}


def put_label(batch: Batch, at: int, example: Example) -> None:
    """Write the label or the labels of an example into a row."""
    label = example["label"]
    if isinstance(label, tuple):
        batch["label"][at, list(label)] = True
    else:
        batch["label"][at] = label


def empty_batch(source: Source, config: DataConfig, rows: int, size: int) -> Batch:
    """Return a batch of black images of this size with label 0, or without labels."""
    shape, several = (rows, size, size, config.channels), has_several_labels(source)
    return {
        "image": np.zeros(shape, np.uint8),
        "label": np.zeros((rows, source.num_classes), np.bool_)
        if several
        else np.zeros(rows, np.int32),
        "skipped": np.zeros(rows, np.int32),
    }


def _explained(error: RecordError, config: DataConfig) -> InputError:
    if config.on_error == "skip":
        advice = f"More than config.data.max_errors = {config.max_errors} in a row failed."
    else:
        advice = "Repair or remove it, or set config.data.on_error='skip'."
    return InputError(f"{error}. {advice}")
