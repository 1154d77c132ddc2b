"""Update rules that optax lacks or defines differently: LARS, LAMB, Muon, adaptive clipping."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_resnet.models.variables import part_of
from flax_resnet.steps.updates.groups import is_stacked

LEAST_GRADIENT = 1e-8
# The least norm that a unit's weights are taken to have, so that weights of zero can change.
LEAST_UNIT_NORM = 1e-3
# Muon's quintic x -> a x + b x^3 + c x^5, which each round applies to the singular values.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
LEAST_MATRIX_NORM = 1e-7


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


def orthogonal_momentum(momentum: float, nesterov: bool) -> optax.GradientTransformation:
    """Return Muon's rule: average gradients, then bring each average's singular values near one.

    See https://kellerjordan.github.io/posts/muon. `optax.contrib.muon` corrects the biases of
    average and gradient by different factors, so that its Nesterov momentum differs in the first
    steps.
    """
    return optax.chain(
        optax.trace(momentum, nesterov),
        # From a sum to an average, the scale that LEAST_MATRIX_NORM is meant for.
        optax.scale(1 - momentum),
        optax.stateless(lambda updates, params: jax.tree.map(orthogonalize, updates)),
    )


def orthogonalize(kernel: jax.Array) -> jax.Array:
    """Return a kernel with all singular values near max(1, sqrt(outputs / inputs)).

    A convolution's kernel (height, width, in, out) is a matrix of height x width x in by out. In
    scanned blocks, whose first axis counts the blocks, each block has a matrix.
    """
    # The author's current file takes the root of the kernel's height / width, which is 1 for square
    # kernels; until January 2025 it used the flattened matrix, as optax does.
    blocks = kernel.shape[: kernel.ndim % 2]
    matrices = kernel.reshape(*blocks, -1, kernel.shape[-1])
    inputs, outputs = matrices.shape[-2:]
    found = _newton_schulz(matrices) if inputs <= outputs else _newton_schulz(matrices.mT).mT
    return max(1.0, outputs / inputs) ** 0.5 * found.reshape(kernel.shape)


def _newton_schulz(wide: jax.Array) -> jax.Array:
    # The author multiplies in bfloat16. The gradient's dtype makes loss curves independent of the
    # device.
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    a, b, c = COEFFICIENTS
    wide = wide / (jnp.linalg.norm(wide, axis=(-2, -1), keepdims=True) + LEAST_MATRIX_NORM)
    for _ in range(ROUNDS):
        gram = product(wide, wide.mT)
        wide = a * wide + product(b * gram + c * product(gram, gram), wide)
    return wide


def clip_units(limit: float) -> optax.GradientTransformation:
    """Clip each unit's gradient to `limit` times the norm of its weights (arXiv:2102.06171).

    A unit is the part of a kernel (..., in, out) that computes one output channel, or a whole
    vector; scanned blocks have their own units. The head is not clipped, as in the paper.
    """

    def shorten(path: Any, update: jax.Array, weights: jax.Array) -> jax.Array:
        if part_of(key.key for key in path) == "head":
            return update
        axes = _axes_of_unit(path, weights.ndim)
        most = limit * jnp.maximum(_unit_norms(weights, axes), LEAST_UNIT_NORM)
        # Never differentiated, so the unused division by zero does no harm.
        return jnp.where((norm := _unit_norms(update, axes)) > most, update * (most / norm), update)

    def update(updates: Any, state: optax.EmptyState, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(shorten, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _unit_norms(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.square(array).sum(axes, keepdims=True))


def _axes_of_unit(path: Any, axes: int) -> tuple[int, ...]:
    outputs = path[-1].key == "kernel"
    return tuple(range(is_stacked(path), axes - outputs))
