"""Batch normalization over the batch and over ghost batches."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from flax_resnet import InputError
from flax_resnet.models.layers import BatchNorm

SCALE, BIAS = np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 3.0])
MEAN, VAR = np.array([0.1, 0.2, 0.3]), np.array([1.1, 0.9, 2.0])


@pytest.fixture
def images() -> np.ndarray:
    """Eight float64 images whose channels differ in mean and spread."""
    images = np.random.default_rng(0).standard_normal((8, 3, 5, 3))
    return images * np.array([1.0, 0.1, 4.0]) + np.array([0.0, 2.0, -1.0])


def variables(dtype: str = "float64") -> dict[str, Any]:
    def cast(a: np.ndarray) -> jax.Array:
        return jnp.asarray(a, dtype)

    return {
        "params": {"scale": cast(SCALE), "bias": cast(BIAS)},
        "batch_stats": {"mean": cast(MEAN), "var": cast(VAR)},
    }


@functools.partial(jax.jit, static_argnums=1)
def train(
    x: jax.typing.ArrayLike, group_size: int | None = None
) -> tuple[jax.Array, dict[str, Any]]:
    """Normalize in float64 and return the output and the new running statistics."""
    norm = BatchNorm(group_size, dtype=jnp.float64)
    y, new = norm.apply(variables(), jnp.asarray(x), train=True, mutable=["batch_stats"])
    return y, new["batch_stats"]


@pytest.mark.usefixtures("x64")
def test_training_normalizes_by_the_batch(images: np.ndarray) -> None:
    mean, var = images.mean((0, 1, 2)), images.var((0, 1, 2))
    expected = (images - mean) / np.sqrt(var + 1e-5) * SCALE + BIAS
    np.testing.assert_allclose(train(images)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_inference_normalizes_by_the_running_statistics(images: np.ndarray) -> None:
    expected = (images - MEAN) / np.sqrt(VAR + 1e-5) * SCALE + BIAS
    found = BatchNorm(dtype=jnp.float64).apply(variables(), jnp.asarray(images))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_running_mean_moves_a_tenth_of_the_way(images: np.ndarray) -> None:
    expected = 0.9 * MEAN + 0.1 * images.mean((0, 1, 2))
    np.testing.assert_allclose(train(images)[1]["mean"], expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_running_variance_is_torchs_unbiased_estimate(images: np.ndarray) -> None:
    expected = 0.9 * VAR + 0.1 * images.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(train(images)[1]["var"], expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [1, 2, 4])
def test_ghost_groups_equal_separate_batches(images: np.ndarray, size: int) -> None:
    found, statistics = train(images, size)
    parts = [train(part) for part in images.reshape(-1, size, *images.shape[1:])]
    np.testing.assert_allclose(found, np.concatenate([y for y, _ in parts]), rtol=1e-12, atol=1e-12)
    for name in ("mean", "var"):
        expected = np.mean([new[name] for _, new in parts], axis=0)
        np.testing.assert_allclose(statistics[name], expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradients_of_ghost_groups_equal_those_of_separate_batches(images: np.ndarray) -> None:
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(images.shape))

    @functools.partial(jax.jit, static_argnums=2)
    @jax.grad
    def gradient(x: jax.Array, weights: jax.Array, size: int | None) -> jax.Array:
        return (train(x, size)[0] * weights).sum()

    found = gradient(jnp.asarray(images), weights, 2)
    for start in range(0, 8, 2):
        part = slice(start, start + 2)
        expected = gradient(jnp.asarray(images[part]), weights[part], None)
        np.testing.assert_allclose(found[part], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_group_of_the_whole_batch_is_the_global_batch(images: np.ndarray) -> None:
    np.testing.assert_array_equal(train(images, 8)[0], train(images)[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [None, 4])
def test_gradient_passes_through_the_batch_statistics(images: np.ndarray, size: int | None) -> None:
    wave = jax.jit(lambda x: jnp.sin(train(x, size)[0]))
    check_grads(wave, (jnp.asarray(images),), 1, ["rev"], eps=1e-5)


@pytest.mark.parametrize("size", [3, 5, 16])
def test_a_group_size_that_does_not_divide_the_batch_is_an_error(size: int) -> None:
    with pytest.raises(InputError, match=rf"batch of 8 images .* groups of {size}: make the batch"):
        BatchNorm(size).apply(variables("float32"), jnp.ones((8, 2, 2, 3)), True)


@pytest.mark.parametrize("size", [0, -1, -2])
def test_a_group_size_below_one_is_an_error(size: int) -> None:
    with pytest.raises(InputError, match=f"groups of {size}"):
        BatchNorm(size).apply(variables("float32"), jnp.ones((8, 2, 2, 3)), True)


@pytest.mark.parametrize(("batch", "size"), [(1, None), (4, 1)])
def test_one_value_per_channel_is_an_error_in_training(batch: int, size: int | None) -> None:
    norm, x = BatchNorm(size), jnp.ones((batch, 1, 1, 3))
    with pytest.raises(InputError, match=r"more than one value per channel.*train=False"):
        norm.apply(variables("float32"), x, True)
    assert norm.apply(variables("float32"), x, False).shape == x.shape


def test_initialization_in_training_mode_leaves_the_running_statistics(init: Any) -> None:
    statistics = init(BatchNorm(), jnp.ones((4, 2, 2, 3)), True)["batch_stats"]
    assert not statistics["mean"].any()
    assert (statistics["var"] == 1).all()


def test_training_mode_without_mutable_statistics_normalizes_by_the_batch() -> None:
    x = jnp.arange(24.0).reshape(2, 2, 2, 3)
    found = BatchNorm().apply(variables("float32"), x, True)
    expected, _ = BatchNorm().apply(variables("float32"), x, True, mutable=["batch_stats"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_constant_channel_normalizes_to_its_bias(offset: float) -> None:
    """Rounding must not make the variance of a channel far from zero negative, and its root NaN."""
    found = BatchNorm().apply(variables("float32"), jnp.full((4, 3, 3, 3), offset * 1.1), True)
    np.testing.assert_allclose(found, np.broadcast_to(BIAS, found.shape), atol=1e-3)


def test_statistics_of_bfloat16_images_are_summed_in_float32(images: np.ndarray) -> None:
    x = jnp.asarray(images, jnp.bfloat16)
    norm = BatchNorm(dtype=jnp.bfloat16)
    y, new = norm.apply(variables("float32"), x, True, mutable=["batch_stats"])
    assert (y.dtype, new["batch_stats"]["var"].dtype) == (jnp.bfloat16, jnp.float32)
    expected = 0.9 * VAR + 0.1 * np.asarray(x, np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["var"], expected, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_batch_norm_equals_torchs(images: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    mean, var = torch.tensor(MEAN), torch.tensor(VAR)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2))
    expected = torch.nn.functional.batch_norm(
        x, mean, var, torch.tensor(SCALE), torch.tensor(BIAS), training=True
    )
    found, statistics = train(images)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(statistics["mean"], mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(statistics["var"], var.numpy(), rtol=1e-12)
