"""The guard of a run: which updates are skipped because their numbers are not finite."""

from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from flax_resnet.errors import InputError

NONE, DYNAMIC = "none", "dynamic"
# The rule of NVIDIA's Apex: halve the scale when gradients overflow, double it after
# GROWTH_INTERVAL good updates.
FIRST_SCALE, LEAST_SCALE, LARGEST_SCALE = 2.0**16, 1.0, 2.0**24
GROWTH_INTERVAL = 2000


class Guard(flax.struct.PyTreeNode):
    """Counts of bad updates, whose loss or gradient was not finite, and the loss scale.

    Attributes:
      streak: bad updates in a row, int32. An overflow that a smaller loss scale may cure neither
        adds to it nor resets it.
      skipped: updates skipped since the start of the run, int32.
      scale: the dynamic loss scale, float32.
      steady: good updates since `scale` last changed, int32.
    """

    streak: Any = np.int32(0)
    skipped: Any = np.int32(0)
    scale: Any = np.float32(FIRST_SCALE)
    steady: Any = np.int32(0)


def check_loss_scale(name: str, loss_scale: str) -> None:
    """Raise `InputError` unless the setting is `none`, `dynamic` or a positive number."""
    try:
        good = loss_scale in (NONE, DYNAMIC) or 0 < float(loss_scale) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise InputError(
            f"{name} is {loss_scale!r}; expected none, dynamic, or a positive number such as 1024"
        )


def current_scale(guard: Guard, loss_scale: str) -> Float[Array, ""] | None:
    """Return the factor of the loss before differentiation; None if the loss is not scaled."""
    if loss_scale == NONE:
        return None
    if loss_scale == DYNAMIC:
        return jnp.asarray(guard.scale)
    return jnp.asarray(float(loss_scale), jnp.float32)


def check_update(
    guard: Guard,
    loss: Float[Array, ""],
    gradient_norm: Float[Array, ""],
    max_nonfinite: int | None = None,
    loss_scale: str = NONE,
) -> tuple[Bool[Array, ""], Guard]:
    """Return whether to apply an update, and the guard after it.

    After more than `max_nonfinite` bad updates in a row no update is applied any more, so that a
    host that reads the metrics a few steps late still has the state from before.

    Args:
      max_nonfinite: None applies bad updates as well, so that a run that diverges shows it.
      loss_scale: `none`, `dynamic`, or a number as text.
    """
    sound = jnp.isfinite(loss)
    finite = sound & jnp.isfinite(gradient_norm)
    stopped = jnp.asarray(max_nonfinite is not None and guard.streak > max_nonfinite)
    good = finite & ~stopped
    overflow = jnp.asarray(False)
    if loss_scale == DYNAMIC:
        # The loss itself is not scaled, so a loss that is not finite is not an overflow.
        overflow = sound & ~finite & ~stopped & (guard.scale > LEAST_SCALE)
        guard = _rescaled(guard, good, overflow)
    applies = ~overflow if max_nonfinite is None else good
    streak = jnp.where(good, 0, guard.streak + ~overflow)
    return applies, guard.replace(streak=streak, skipped=guard.skipped + ~applies)


def _rescaled(guard: Guard, good: Bool[Array, ""], overflow: Bool[Array, ""]) -> Guard:
    steady = jnp.where(overflow, 0, guard.steady + good)
    grows = steady == GROWTH_INTERVAL
    grown = jnp.where(grows, jnp.minimum(guard.scale * 2, LARGEST_SCALE), guard.scale)
    scale = jnp.where(overflow, guard.scale / 2, grown)
    return guard.replace(scale=scale, steady=jnp.where(grows, 0, steady))
