"""The learning-rate range test: the loss while the rate grows from batch to batch.

Smith (arXiv:1506.01186) proposed it, and fastai made it known as `lr_find`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flax_resnet.errors import InputError
from flax_resnet.onednn.choice import cpu_kernels
from flax_resnet.steps.mesh import device_rows, put_batch
from flax_resnet.steps.updates.optimizers import make_optimizer
from flax_resnet.steps.updates.schedules import scaled_rate
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.loop import initial_state, train_step
from flax_resnet.training.parsing import parse
from flax_resnet.training.setup import Setup, prepare_run

LOW, HIGH, STEPS = 1e-6, 10.0, 100
# The rate at which the loss is lowest is too high to train with; a tenth of it is the usual advice.
SHARE = 0.1
# Losses are averaged over this many batches before and after each one.
_REACH = 4
# The test ends when the average loss is this many times the lowest.
_DIVERGED = 4.0


@dataclass(frozen=True)
class RangeTest:
    """The losses of a network whose learning rate grows from batch to batch.

    Attributes:
      rates: learning rates of the optimizer; fewer than asked for if the loss diverged.
      losses: the loss of a batch at each of them; the last may be infinite or nan.
      scale: the optimizer's learning rate divided by `config.schedule.learning_rate`, which
        differs where `config.schedule.scale_for` is set.
    """

    rates: np.ndarray
    losses: np.ndarray
    scale: float = 1.0

    @property
    def smoothed(self) -> np.ndarray:
        """Return the mean of each loss and its neighbors."""
        windows = [
            self.losses[max(at - _REACH, 0) : at + _REACH + 1] for at in range(len(self.losses))
        ]
        return np.array([window.mean() for window in windows])

    @property
    def suggested(self) -> float | None:
        """Return a tenth of the rate at which the loss is lowest; None for a `reason`."""
        return None if self.reason else float(self.rates[self._lowest]) * SHARE

    @property
    def reason(self) -> str:
        """Return why no rate is suggested; "" if one is."""
        if not np.isfinite(self.smoothed).any():
            return "the loss is not finite"
        if self._lowest == 0:
            return "the loss rises"
        last = self._lowest == len(self.losses) - 1
        return "the loss still falls at the highest rate" if last else ""

    @property
    def _lowest(self) -> int:
        return int(np.where(np.isfinite(self.smoothed), self.smoothed, np.inf).argmin())

    @property
    def setting(self) -> float | None:
        """Return the value of `config.schedule.learning_rate` that gives the suggested rate."""
        return None if self.suggested is None else self.suggested / self.scale


def find_learning_rate(
    config: ConfigDict | Mapping[str, Any] | TrainConfig,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    mesh: Mesh | None = None,
) -> RangeTest:
    """Train a new network while its learning rate grows, and return the losses.

    Data, network, loss, optimizer and batch size are those of `config`; its schedule is not used.
    Nothing is written. The test ends early if the loss diverges.

    Args:
      low, high: the first and the last learning rate; each step multiplies the rate by the same.
      mesh: the devices to train on; None takes all.

    Raises:
      InputError: the settings, the data or the range cannot be used as they are.
    """
    if not 0 < low < high < math.inf:
        raise InputError(f"the learning rates are {low:g} to {high:g}; expected 0 < low < high")
    if steps <= 2 * _REACH:
        raise InputError(f"steps is {steps}; expected more than {2 * _REACH}")
    setup = prepare_run(parse(config), mesh)
    settings, growth = setup.config, (high / low) ** (1 / (steps - 1))
    rate = optax.exponential_decay(low, transition_steps=1, decay_rate=growth)
    optimizer = make_optimizer(settings.optimizer, rate, settings.freeze)
    setup = dataclasses.replace(setup, rate=rate, optimizer=optimizer)
    with cpu_kernels(settings.cpu_kernels):
        losses = _until_divergence(_losses(setup, steps))
    schedule = settings.schedule
    scale = scaled_rate(schedule, settings.data.batch_size) / schedule.learning_rate
    return RangeTest(low * growth ** np.arange(len(losses)), np.array(losses), scale)


def _losses(setup: Setup, steps: int) -> Iterator[float]:
    """Yield the loss of each batch of a new network."""
    state, step = initial_state(setup), train_step(setup)
    batches = setup.training_batches(0, steps)
    try:
        for batch in batches:
            state, metrics = step(state, put_batch(device_rows(batch), setup.mesh))
            yield float(metrics["loss"])
    finally:
        batches.close()


def _until_divergence(losses: Iterator[float]) -> list[float]:
    found: list[float] = []
    lowest = math.inf
    for loss in losses:
        found.append(loss)
        recent = sum(found[-_REACH:]) / len(found[-_REACH:])
        lowest = min(lowest, recent)
        if not recent <= _DIVERGED * lowest:  # as for nan
            break
    return found
