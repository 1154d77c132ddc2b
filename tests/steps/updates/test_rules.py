"""Update rules: orthogonalized momentum, and adaptive clipping of each unit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from flax_resnet.steps.updates.rules import LEAST_UNIT_NORM, clip_units, orthogonalize


def kernel(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("shape", "scale"), [((3, 3, 4, 6), 1), ((6, 4), 1), ((4, 16), 2), ((1, 1, 4, 16), 2)]
)
def test_values_are_near_one_or_grow_with_the_outputs(shape: tuple[int, ...], scale: float) -> None:
    found = orthogonalize(kernel(*shape))
    assert found.shape == shape
    values = np.linalg.svd(np.asarray(found).reshape(-1, shape[-1]), compute_uv=False)
    assert 0.6 < values.min() / scale and values.max() / scale < 1.3


def test_scanned_blocks_have_a_matrix_each() -> None:
    blocks = kernel(5, 3, 3, 4, 6) * jnp.arange(1.0, 6).reshape(5, 1, 1, 1, 1)
    expected = jnp.stack([orthogonalize(block) for block in blocks])
    np.testing.assert_allclose(orthogonalize(blocks), expected, atol=1e-5)


def test_the_length_of_a_gradient_does_not_matter_and_zeros_stay() -> None:
    found = orthogonalize(kernel(4, 6))
    np.testing.assert_allclose(orthogonalize(100 * kernel(4, 6)), found, atol=1e-5)
    np.testing.assert_array_equal(orthogonalize(jnp.zeros((4, 6))), 0)


LIMIT = 0.1


def clipped(
    name: str, gradient: np.ndarray, weights: np.ndarray, leaf: str = "kernel"
) -> np.ndarray:
    path = (*name.split("."), leaf)
    trees = (traverse_util.unflatten_dict({path: array}) for array in (gradient, weights))
    found, _ = clip_units(LIMIT).update(next(trees), optax.EmptyState(), next(trees))
    return np.asarray(traverse_util.flatten_dict(found)[path])


def norms(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.sqrt((array**2).sum(axes))


@pytest.mark.parametrize(
    ("name", "shape", "axes"),
    [
        ("layer1.0.conv1", (3, 3, 4, 6), (0, 1, 2)),
        ("layer1.scan.conv1", (5, 3, 3, 4, 6), (1, 2, 3)),
        ("layer1.0.se.fc1", (4, 6), (0,)),
    ],
)
def test_units_of_kernels_are_output_channels(
    name: str, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(shape)
    gradient = rng.standard_normal(shape) * np.linspace(0.01, 1, shape[-1])
    found = clipped(name, gradient, weights)
    most = LIMIT * norms(weights, axes)
    before, after = norms(gradient, axes), norms(found, axes)
    np.testing.assert_allclose(after, np.minimum(before, most), rtol=1e-5)
    assert (before > most).any() and (before < most).any()
    directions = (found * gradient).sum(axes) / (after * before)
    np.testing.assert_allclose(directions, 1, rtol=1e-5)


def test_a_vector_is_one_unit_and_zeros_can_move() -> None:
    found = clipped("layer1", np.full(4, 10.0), np.zeros(4), leaf="scale")
    np.testing.assert_allclose(np.linalg.norm(found), LIMIT * LEAST_UNIT_NORM, rtol=1e-5)


def test_the_head_is_not_clipped() -> None:
    gradient = np.full((4, 2), 10.0)
    np.testing.assert_array_equal(clipped("fc", gradient, np.zeros((4, 2))), gradient)
