"""Rates that follow the ratio of weights and gradients, layer by layer: LARS's rule."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

LEAST_GRADIENT = 1e-8


def scale_by_lars(trust: float, weight_decay: float) -> optax.GradientTransformation:
    """Add the weight decay and scale by `trust |w| / (|g| + decay |w|)` (arXiv:1708.03888).

    `optax.lars` takes the norm of gradient and decay together instead, and puts the rate before the
    momentum: both differ from the paper and from the published weights' code.
    """

    def scale(gradient: jax.Array, weights: jax.Array) -> jax.Array:
        weight, length = jnp.linalg.norm(weights.ravel()), jnp.linalg.norm(gradient.ravel())
        ratio = trust * weight / (length + weight_decay * weight + LEAST_GRADIENT)
        ratio = jnp.where((weight > 0) & (length > 0), ratio, 1.0)
        return ratio * (gradient + weight_decay * weights)

    def update(updates: Any, state: optax.EmptyState, params: Any) -> Any:
        return jax.tree.map(scale, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
