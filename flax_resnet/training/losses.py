"""Losses, one value for each example, in float32."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], smoothing: float = 0.0
) -> Float[Array, " n"]:
    """Return softmax cross-entropies, with label smoothing (arXiv:1512.00567) where it is > 0.

    Smoothing gives every class `smoothing / classes` and the label the rest.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing == 0:
        return plain
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * plain + smoothing * uniform
