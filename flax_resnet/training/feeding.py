"""Where a run's batches come from: the host's loader, or the devices' own memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import jax

from flax_resnet.data import train_batches
from flax_resnet.data.batches.mask_loading import train_loader
from flax_resnet.training.setup import Setup


class Stream(Iterator[Any], Protocol):
    """Batches one after the other; close it to end what prepares them."""

    def close(self) -> object:
        """End the threads or processes behind it, if there are any."""
        ...


def training_batches(setup: Setup, start: int, count: int) -> Stream:
    """Return training batches `start` to `start + count - 1`: this process's rows of them."""
    config = setup.config
    if setup.held_training is not None:
        numbers = range(start, start + count)
        return setup.held_training.training(config.data, config.seed, numbers)
    return train_batches(
        setup.train_source,
        config.data,
        seed=config.seed,
        start_batch=start,
        num_batches=count,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def training_batch(setup: Setup, number: int) -> dict[str, Any]:
    """Return one training batch, made here and now: this process's rows of it."""
    if setup.held_training is not None:
        return next(training_batches(setup, number, 1))
    config = setup.config
    load = train_loader(
        setup.train_source, config.data, config.seed, jax.process_index(), jax.process_count()
    )
    return dict(load(number))
