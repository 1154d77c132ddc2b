"""Losses in float32."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "*n classes"], labels: Int[Array, "*n"], smoothing: float = 0.0
) -> Float[Array, "*n"]:
    """Return softmax cross-entropies, with label smoothing (arXiv:1512.00567) where it is > 0.

    There is one for each example, or for each pixel. Smoothing gives every class
    `smoothing / classes` and the label the rest.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing == 0:
        return plain
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * plain + smoothing * uniform


def soft_dice(
    logits: Float[Array, "*n classes"], labels: Int[Array, "*n"], counted: Bool[Array, "*n"]
) -> Float[Array, " classes"]:
    """Return each class's Dice coefficient of probabilities (Milletari et al., arXiv:1606.04797).

    It is 2 sum(p t) / (sum(p) + sum(t)), over the pixels of the whole batch that count: 1 where
    every one has its class for sure. A class that no pixel has is left at 1, for it has nothing to
    find.
    """
    classes = logits.shape[-1]
    probabilities = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    truth = jax.nn.one_hot(labels, classes, dtype=probabilities.dtype) * counted[..., None]
    axes = tuple(range(labels.ndim))
    present = truth.sum(axes)
    found = (probabilities * counted[..., None]).sum(axes)
    both = (probabilities * truth).sum(axes)
    return jnp.where(present > 0, 2 * both / jnp.maximum(found + present, 1e-6), 1.0)
