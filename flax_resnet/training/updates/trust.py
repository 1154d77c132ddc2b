"""Rates that follow the ratio of weights and updates, layer by layer: the rules of LARS and LAMB.

In scanned blocks, whose arrays are stacked, every block is a layer of its own: `optax`'s rules take
one ratio for all of them. `optax.lars` also takes the norm of gradient and decay together, and puts
the rate before the momentum: both differ from the paper and from the published weights' code.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_resnet.training.updates.masks import is_stacked

LEAST_GRADIENT = 1e-8


def scale_by_lars(trust: float, weight_decay: float) -> optax.GradientTransformation:
    """Add the weight decay and scale by `trust |w| / (|g| + decay |w|)` (arXiv:1708.03888)."""

    def scale(path: Any, gradient: jax.Array, weights: jax.Array) -> jax.Array:
        weight, length = _norms(path, weights), _norms(path, gradient)
        ratio = trust * weight / (length + weight_decay * weight + LEAST_GRADIENT)
        ratio = jnp.where((weight > 0) & (length > 0), ratio, 1.0)
        return ratio * (gradient + weight_decay * weights)

    return _stateless(scale)


def scale_by_lamb() -> optax.GradientTransformation:
    """Scale by `|w| / |update|` (arXiv:1904.00962)."""

    def scale(path: Any, update: jax.Array, weights: jax.Array) -> jax.Array:
        weight, length = _norms(path, weights), _norms(path, update)
        both = (weight > 0) & (length > 0)
        return update * jnp.where(both, weight / jnp.where(both, length, 1.0), 1.0)

    return _stateless(scale)


def _norms(path: Any, array: jax.Array) -> jax.Array:
    axes = tuple(range(is_stacked(path), array.ndim))
    return jnp.sqrt(jnp.square(array).sum(axes, keepdims=True))


def _stateless(scale: Any) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates, params)
    )
