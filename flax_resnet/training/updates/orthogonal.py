"""Momentum made orthogonal, kernel by kernel: Muon's rule."""

import functools

import jax
import jax.numpy as jnp
import optax

# Of the quintic x -> a x + b x^3 + c x^5 that every round applies to the singular values.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
LEAST_NORM = 1e-7


def orthogonal_momentum(momentum: float, nesterov: bool) -> optax.GradientTransformation:
    """Average gradients, and bring the singular values of each average near one.

    The rule is Jordan's (https://kellerjordan.github.io/posts/muon). `optax.contrib.muon` corrects
    the bias of the average and that of the gradient by different factors, so that Nesterov's mix of
    both is another one in the first steps.
    """
    return optax.chain(
        optax.trace(momentum, nesterov),
        optax.scale(1 - momentum),  # from a sum to an average, for LEAST_NORM is compared with it
        optax.stateless(lambda updates, params: jax.tree.map(orthogonalize, updates)),
    )


def orthogonalize(kernel: jax.Array) -> jax.Array:
    """Return the kernel with singular values near one, or near sqrt(outputs / inputs) above one.

    The kernel of a convolution, (height, width, in, out), is a matrix of all but its last axis by
    the last. In scanned blocks, where a first axis counts them, there is a matrix for each.
    """
    # The author's file of today has height / width of a square kernel, 1, below the root; up to
    # January 2025 it had those of the flattened matrix, as optax has.
    blocks = kernel.shape[: kernel.ndim % 2]
    matrices = kernel.reshape(*blocks, -1, kernel.shape[-1])
    inputs, outputs = matrices.shape[-2:]
    found = _newton_schulz(matrices) if inputs <= outputs else _newton_schulz(matrices.mT).mT
    return max(1.0, outputs / inputs) ** 0.5 * found.reshape(kernel.shape)


def _newton_schulz(wide: jax.Array) -> jax.Array:
    # The author multiplies in bfloat16. Here it is the gradient's dtype on every device, so that a
    # run's curve does not depend on the device.
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    a, b, c = COEFFICIENTS
    wide = wide / (jnp.linalg.norm(wide, axis=(-2, -1), keepdims=True) + LEAST_NORM)
    for _ in range(ROUNDS):
        gram = product(wide, wide.mT)
        wide = a * wide + product(b * gram + c * product(gram, gram), wide)
    return wide
