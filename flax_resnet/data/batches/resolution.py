"""How large images are: in a batch of training, by its number, and in evaluation."""

from __future__ import annotations

import dataclasses

from flax_resnet.data.config import DataConfig


def at_batch(config: DataConfig, number: int, examples: int) -> DataConfig:
    """Return `config` with the one size that training batch `number` has.

    Args:
      examples: of an epoch.
    """
    size = config.image_size
    for first_epoch, later in config.sizes:
        if number * config.batch_size >= first_epoch * examples:
            size = later
    return dataclasses.replace(config, image_size=size, sizes=())


def at_largest(config: DataConfig) -> DataConfig:
    """Return `config` with the largest of the sizes that batches have, for what memory they need.

    The sizes of training are not told from that of evaluation.
    """
    sizes = [config.image_size, *(size for named in sizes_of(config).values() for size in named)]
    return dataclasses.replace(config, image_size=max(sizes), eval_size=None, sizes=())


def sizes_of(config: DataConfig) -> dict[str, tuple[int, ...]]:
    """Return the sizes besides image_size, by the setting that names them."""
    found = {"sizes": tuple({size: None for _, size in config.sizes})}
    return found | ({} if config.eval_size is None else {"eval_size": (config.eval_size,)})


def size_ramp(
    first_epoch: int, last_epoch: int, smallest: int, largest: int, multiple: int = 32
) -> tuple[tuple[float, int], ...]:
    """Return `config.data.sizes` that grow linearly, in whole epochs and multiples of `multiple`.

    As the recipes of ffcv have it: `smallest` at `first_epoch`, `largest` at `last_epoch`; give
    `config.data.image_size` the size of before.
    """
    sizes: list[tuple[float, int]] = []
    for epoch in range(first_epoch, last_epoch + 1):
        share = (epoch - first_epoch) / max(last_epoch - first_epoch, 1)
        size = round((smallest + share * (largest - smallest)) / multiple) * multiple
        if not sizes or sizes[-1][1] != size:
            sizes.append((float(epoch), size))
    return tuple(sizes)
