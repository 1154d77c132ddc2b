"""The image sizes of training batches, by their number, and of evaluation."""

from __future__ import annotations

import dataclasses

from flax_resnet.data.config import DataConfig


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
