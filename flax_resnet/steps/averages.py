"""An average of a run's variables over its updates, kept beside the raw ones.

Networks end up flatter, and mostly better, at the average of the last part of their path than at
its end.
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
# Before the names of the figures of each kind.
PREFIXES = ("ema_", "swa_")
# What follows is (average, variables after an update, number of updates so far) -> the average
# with these variables in it, and whether it is its turn.
Averaging = Callable[["Average", Variables, jax.Array], tuple["Average", jax.Array]]


@dataclass(frozen=True)
class AverageConfig:
    """Choose what is averaged over updates, or measured anew, before an evaluation.

    An average is evaluated beside the raw variables (`ema_top1` beside `top1`), ranks the
    checkpoints, and is what `restore` gives.
    """

    ema: float = 0.0
    """Decay of an exponential moving average of parameters and batch statistics; 0: none."""
    ema_warmup: bool = False
    """Use the decay (1 + n) / (10 + n) in the n-th averaging while that is less."""
    ema_from: float = 0.0
    """The average follows the parameters for so many epochs, say while the rate warms up."""
    swa_from: float | None = None
    """Average parameters with equal weights from this epoch on (arXiv:1803.05407); None: do not.
    It needs `precise_batches`: no network has had the batch statistics of averaged parameters."""
    every: int = 1
    """Average after every so many updates."""
    precise_batches: int = 0
    """Before an evaluation take the batch statistics, of raw and averaged parameters, from so many
    training batches (arXiv:2105.07576): the next ones, not mixed. 0: as training leaves them."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work together."""
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
                "expected one of them, for a run keeps one average"
            )
        if self.swa_from is not None and not self.precise_batches:
            raise InputError(
                "config.average.precise_batches is 0; expected a number of batches, such as 100, "
                "where config.average.swa_from is set"
            )

    @property
    def kind(self) -> str | None:
        """Return `ema`, `swa`, or None where nothing is averaged."""
        if self.swa_from is not None:
            return "swa"
        return "ema" if self.ema else None

    @property
    def start(self) -> float:
        """Return the epoch at which averaging begins."""
        return self.ema_from if self.swa_from is None else self.swa_from


class Average(flax.struct.PyTreeNode):
    """What a run remembers of the variables that it had.

    Attributes:
      variables: parameters and batch statistics, averaged each by itself.
      count: how many went into the average, int32. At 0 the variables are a copy, and not shown.
      kind: `ema` or `swa`; their figures have `ema_` or `swa_` before their names.
    """

    variables: Variables
    count: Any
    kind: str = flax.struct.field(pytree_node=False)


def begin_average(kind: str | None, variables: Variables) -> Average | None:
    """Return an average into which nothing went yet: a copy; None where there is to be none."""
    if kind is None:
        return None
    # The state is donated: it may not hold an array twice.
    return Average(jax.tree.map(jnp.copy, variables), jnp.zeros((), jnp.int32), kind)


def make_averaging(config: AverageConfig, steps_per_epoch: float) -> Averaging | None:
    """Return how an average takes up the variables after an update; None where there is none.

    An exponential average is `decay * average + (1 - decay) * variables`, as timm has it: it starts
    with the first variables. The other is the plain mean (Izmailov et al., arXiv:1803.05407).
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
            # Until then it follows the parameters.
            weight = jnp.where(begun, _ema_weight(config, count), 1.0)
            count = jnp.where(begun, count, 0)
        mixed = jax.tree.map(lambda old, new: _mix(old, new, weight), average.variables, variables)
        return average.replace(variables=mixed, count=count), due

    return averaging


def shown_average(average: Average | None) -> Average | None:
    """Return the average where something went into it; waits for the device."""
    return average if average is not None and int(average.count) > 0 else None


def fitting_average(average: Average | None, metrics: Mapping[str, float]) -> Average | None:
    """Return the average of a checkpoint where its batch statistics are those of its parameters.

    For equal weights they are measured before an evaluation, whose figures tell that it was done.
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
