"""Muon's rule for one kernel: singular values near one, of each matrix for itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.steps.updates.rules import orthogonalize


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
