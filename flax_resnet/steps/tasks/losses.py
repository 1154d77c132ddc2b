"""Losses, computed in float32."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from flax_resnet.models.layers import at_least_float32


def cross_entropy(
    logits: Float[Array, "*n classes"], labels: Int[Array, "*n"], smoothing: float = 0.0
) -> Float[Array, "*n"]:
    """Return the softmax cross-entropy of each example or pixel.

    Label smoothing (arXiv:1512.00567) gives every class the probability `smoothing / classes`, and
    the label the rest.
    """
    logits = at_least_float32(logits)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing == 0:
        return plain
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * plain + smoothing * uniform


def cross_entropy_of_any(
    logits: Float[Array, "n classes"], right: Bool[Array, "n classes"]
) -> Float[Array, " n"]:
    """Return -log of the probability of all right classes together; infinite if there are none.

    With one right class it is the cross-entropy.
    """
    logits = at_least_float32(logits)
    chosen = jnp.where(right, logits, -jnp.inf)
    return jax.nn.logsumexp(logits, axis=-1) - jax.nn.logsumexp(chosen, axis=-1)


def soft_cross_entropy(
    logits: Float[Array, "*n classes"],
    targets: Float[Array, "*n classes"],
    smoothing: float = 0.0,
    weights: Float[Array, " classes"] | None = None,
) -> Float[Array, "*n"]:
    """Return the softmax cross-entropy with target probabilities, smoothed likewise.

    Args:
      weights: factors of the smoothed targets.
    """
    targets = optax.smooth_labels(targets, smoothing) if smoothing else targets
    targets = targets if weights is None else targets * _along(weights, targets)
    return optax.softmax_cross_entropy(at_least_float32(logits), targets)


def binary_cross_entropy(
    logits: Float[Array, "*n classes"],
    targets: Float[Array, "*n classes"],
    smoothing: float = 0.0,
    threshold: float | None = None,
    weights: Float[Array, " classes"] | None = None,
) -> Float[Array, "*n"]:
    """Return the sigmoid cross-entropy, averaged over classes (as in RSB, arXiv:2110.00476).

    Each class is a binary decision of its own.

    Args:
      threshold: after smoothing, targets above it become 1 and the others 0; None keeps them.
      weights: factors of the targets, but not of their complements.
    """
    targets = optax.smooth_labels(targets, smoothing) if smoothing else targets
    logits = at_least_float32(logits)
    if threshold is not None:
        targets = (targets > threshold).astype(logits.dtype)
    if weights is None:
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean(-1)
    positive = _along(weights, targets) * targets * jax.nn.log_sigmoid(logits)
    return -(positive + (1 - targets) * jax.nn.log_sigmoid(-logits)).mean(-1)


def soft_dice(
    logits: Float[Array, "*n classes"], labels: Int[Array, "*n"], counted: Bool[Array, "*n"]
) -> Float[Array, " classes"]:
    """Return each class's soft Dice coefficient (Milletari et al., arXiv:1606.04797).

    It is 2 sum(p t) / (sum(p) + sum(t)) over the `counted` pixels of the whole batch, where p are
    probabilities and t is 1 at pixels of the class, else 0. A class without any pixel has 1.
    """
    classes = logits.shape[-1]
    probabilities = jax.nn.softmax(at_least_float32(logits))
    truth = jax.nn.one_hot(labels, classes, dtype=probabilities.dtype) * counted[..., None]
    axes = tuple(range(labels.ndim))
    present = truth.sum(axes)
    found = (probabilities * counted[..., None]).sum(axes)
    both = (probabilities * truth).sum(axes)
    return jnp.where(present > 0, 2 * both / jnp.maximum(found + present, 1e-6), 1.0)


def _along(weights: jax.Array, targets: jax.Array) -> jax.Array:
    return weights.reshape((1,) * (targets.ndim - 1) + weights.shape).astype(targets.dtype)
