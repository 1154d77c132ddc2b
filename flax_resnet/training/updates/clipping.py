"""Gradients that are too long made shorter: all together, or each unit against its weights."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_resnet.models.parts import part_of
from flax_resnet.training.updates.masks import is_stacked

# Below this norm the weights of a unit count as this large, so that those that start at zero move.
LEAST_NORM = 1e-3


def clip_units(limit: float) -> optax.GradientTransformation:
    """Shorten each unit's gradient to `limit` times the norm of its weights (arXiv:2102.06171).

    A unit is what makes one output channel: a column of a kernel with its axes (..., in, out), in
    scanned blocks one of each block. Vectors are a unit as a whole, one for each block. The head is
    left alone, as in the paper.
    """

    def shorten(path: Any, update: jax.Array, weights: jax.Array) -> jax.Array:
        if part_of(key.key for key in path) == "head":
            return update
        axes = _axes_of_unit(path, weights.ndim)
        most = limit * jnp.maximum(_norms(weights, axes), LEAST_NORM)
        # No gradient is found through this: a division by zero that is not taken does no harm.
        return jnp.where((norm := _norms(update, axes)) > most, update * (most / norm), update)

    def update(updates: Any, state: optax.EmptyState, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(shorten, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _norms(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.square(array).sum(axes, keepdims=True))


def _axes_of_unit(path: Any, axes: int) -> tuple[int, ...]:
    outputs = path[-1].key == "kernel"
    return tuple(range(is_stacked(path), axes - outputs))
