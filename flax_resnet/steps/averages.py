"""An average of a run's variables over its updates, kept beside the raw variables.

The average over the last part of training is in a flatter region of the loss than the last
variables are, and mostly generalizes better.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flax_resnet.errors import InputError

Variables = dict[str, Any]
# Prefixes of the metrics of each kind of average.
PREFIXES = ("ema_", "swa_")
# (average, variables after an update, number of updates so far) -> (the average with these
# variables added, whether to use it now)
Averaging = Callable[["Average", Variables, jax.Array], tuple["Average", jax.Array]]


@dataclass(frozen=True)
class AverageConfig:
    """Settings of weight averaging, and of batch statistics recomputed before an evaluation.

    The average is evaluated beside the raw variables (`ema_top1` beside `top1`), ranks the
    checkpoints, and is what `restore` returns.
    """

    ema: float = 0.0
    """Decay of an exponential moving average of parameters and batch statistics; 0: off."""
    ema_warmup: bool = False
    """Use the decay (1 + n) / (10 + n) in the n-th averaging while that is smaller."""
    ema_from: float = 0.0
    """Epochs before averaging begins, for example the warm-up; until then the average is a copy."""
    swa_from: float | None = None
    """Average parameters with equal weights from this epoch on (arXiv:1803.05407); None: off.
    Requires `precise_batches`, since averaged parameters have no batch statistics of their own."""
    every: int = 1
    """Number of updates between two averagings."""
    precise_batches: int = 0
    """Number of training batches (the next ones, not mixed) from which batch statistics of raw and
    averaged parameters are recomputed before an evaluation (arXiv:2105.07576); 0: off."""

    def __post_init__(self) -> None:
        """Check that the values are valid and consistent."""
        swa_from = 0.0 if self.swa_from is None else self.swa_from
        for name, holds, expected in (
            ("ema", 0 <= self.ema < 1, "0 or more, below 1"),
            ("ema_from", self.ema_from >= 0, "0 or more epochs"),
            ("swa_from", swa_from >= 0, "0 or more epochs, or None"),
            ("every", self.every >= 1, "at least 1 step"),
            ("precise_batches", self.precise_batches >= 0, "0 or more"),
        ):
            if not holds:
                value = getattr(self, name)
                raise InputError(f"config.average.{name} is {value}; expected {expected}")
        if self.swa_from is not None and self.ema:
            raise InputError(
                f"config.average.ema is {self.ema} and config.average.swa_from is {self.swa_from}; "
                "expected only one of them, since a run keeps one average"
            )
        if self.swa_from is not None and not self.precise_batches:
            raise InputError(
                "config.average.precise_batches is 0; expected a number of batches, such as 100, "
                "if config.average.swa_from is set"
            )

    @property
    def kind(self) -> str | None:
        """Return `ema`, `swa`, or None if nothing is averaged."""
        if self.swa_from is not None:
            return "swa"
        return "ema" if self.ema else None

    @property
    def start(self) -> float:
        """Return the epoch at which averaging begins."""
        return self.ema_from if self.swa_from is None else self.swa_from


class Average(flax.struct.PyTreeNode):
    """The average of a run's variables.

    Attributes:
      variables: parameters and batch statistics, averaged elementwise.
      count: the number of averagings so far, int32. At 0 `variables` is a copy of the raw ones, and
        is not evaluated.
      kind: `ema` or `swa`; the names of its metrics begin with `ema_` or `swa_`.
    """

    variables: Variables
    count: Any
    kind: str = flax.struct.field(pytree_node=False)


def begin_average(kind: str | None, variables: Variables) -> Average | None:
    """Return an average that starts as a copy of `variables`; None if `kind` is None."""
    if kind is None:
        return None
    # A copy, because a donated state must not contain an array twice.
    return Average(jax.tree.map(jnp.copy, variables), jnp.zeros((), jnp.int32), kind)


def make_averaging(config: AverageConfig, steps_per_epoch: float) -> Averaging | None:
    """Return the function that adds variables to an average; None if nothing is averaged.

    The exponential average is `decay * average + (1 - decay) * variables`, and starts at the first
    variables, as in timm. The other is the plain mean (Izmailov et al., arXiv:1803.05407).
    """
    if config.kind is None:
        return None
    start = math.ceil(config.start * steps_per_epoch)

    def averaging(
        average: Average, variables: Variables, updates: Int[Array, ""]
    ) -> tuple[Average, Bool[Array, ""]]:
        count, begun = average.count + 1, updates >= start
        due = updates % config.every == 0
        if config.kind == "swa":
            due &= begun
            weight = 1 / count.astype(jnp.float32)
        else:
            # Before averaging begins it is a copy of the raw variables.
            weight = jnp.where(begun, _ema_weight(config, count), 1.0)
            count = jnp.where(begun, count, 0)
        mixed = jax.tree.map(lambda old, new: _mix(old, new, weight), average.variables, variables)
        return average.replace(variables=mixed, count=count), due

    return averaging


def shown_average(average: Average | None) -> Average | None:
    """Return the average if its count is above 0, else None; waits for the device."""
    return average if average is not None and int(average.count) > 0 else None


def fitting_average(average: Average | None, metrics: Mapping[str, float]) -> Average | None:
    """Return the average of a checkpoint if its batch statistics fit its parameters, else None.

    With equal weights the statistics are recomputed before an evaluation, so the average fits only
    if the checkpoint's metrics include its own.
    """
    average = shown_average(average)
    if average is None or average.kind == "ema":
        return average
    measured = any(name.startswith(f"{average.kind}_") for name in metrics)
    return average if measured else None


def _ema_weight(config: AverageConfig, count: Int[Array, ""]) -> Float[Array, ""]:
    weight = jnp.asarray(1 - config.ema, jnp.float32)
    if not config.ema_warmup:
        return weight
    # 1 - (1 + n) / (10 + n)
    return jnp.maximum(weight, 9 / (10 + count.astype(jnp.float32)))


def _mix(old: jax.Array, new: jax.Array, weight: Float[Array, ""]) -> jax.Array:
    mixed = old + weight.astype(old.dtype) * (new - old)
    return jnp.where(weight == 1, new, mixed)
