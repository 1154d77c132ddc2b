"""Pooling and upsampling against loops in numpy, borders included."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_resnet.models.layers import (
    TransposedConv,
    average_pairs,
    average_pool,
    blur_pool,
    global_average_pool,
    max_pool,
    upsample_bilinear,
    upsample_nearest,
)

pooled = jax.jit(max_pool, static_argnums=(1, 2, 3))
averaged = jax.jit(average_pool, static_argnums=(1, 2))
blurred = jax.jit(blur_pool, static_argnums=1)
paired = jax.jit(average_pairs)
upsampled = jax.jit(upsample_bilinear)
sides = st.tuples(st.integers(2, 9), st.integers(2, 9))
sizes = pytest.mark.parametrize("size", [(1, 1), (5, 4)])


@settings(max_examples=5)
@given(
    size=sides,
    window=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    border=st.sampled_from([-np.inf, 0.0]),
)
def test_max_pool_equals_a_loop_over_windows(
    size: tuple[int, int], window: int, stride: int, border: float, windows: Any, random: Any
) -> None:
    x = random(2, *size, 3).astype(np.float32) - 1  # a border of zeros is often the maximum
    expected = windows(x, window, stride, border).max(axis=0)
    found = pooled(x, window, stride, border)
    np.testing.assert_array_equal(found, expected)


def test_zero_padding_exceeds_negative_maps_and_infinite_padding_does_not() -> None:
    x = jnp.full((1, 4, 4, 1), -1.0)
    assert pooled(x, 3, 2).max() == -1
    assert pooled(x, 3, 2, 0.0)[0, :, :, 0].tolist() == [[0, 0], [0, -1]]


@settings(max_examples=5)
@given(
    size=sides,
    window=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    border=st.sampled_from([-np.inf, 0.0]),
)
def test_the_gradient_of_max_pool_goes_to_the_first_maximum(
    size: tuple[int, int], window: int, stride: int, border: float, random: Any
) -> None:
    x = random(2, *size, 3).round().astype(np.float32)  # integers have many ties
    pad = (window - 1) // 2

    def plain(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=border)
        return nn.max_pool(padded, (window,) * 2, (stride,) * 2)

    @jax.jit
    def both(x: jax.Array) -> Any:
        expected, back = jax.vjp(plain, x)
        found, ours = jax.vjp(lambda x: max_pool(x, window, stride, border), x)
        weights = jnp.sin(jnp.arange(found.size, dtype=x.dtype)).reshape(found.shape)
        return (found, *ours(weights)), (expected, *back(weights))

    (found, gradient), (expected, expected_gradient) = both(x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("platform", "scatters", "pads"), [("tpu", 1, 2), ("cuda", 0, 10), ("cpu", 0, 10)]
)
def test_a_program_has_the_gradient_of_max_pool_that_suits_its_platform(
    platform: str, scatters: int, pads: int
) -> None:
    @jax.jit
    def both(x: jax.Array) -> Any:
        y, back = jax.vjp(max_pool, x)
        return y, back(y)

    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.bfloat16)
    text = both.trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.select_and_scatter") == scatters
    assert text.count("stablehlo.pad") == pads


@settings(max_examples=5)
@given(
    size=sides,
    window=st.sampled_from([1, 2, 3]),
    stride=st.sampled_from([1, 2]),
)
def test_average_pool_equals_a_loop_that_counts_padding(
    size: tuple[int, int], window: int, stride: int, windows: Any, random: Any
) -> None:
    x = random(2, *size, 3)
    with jax.enable_x64(True):
        found = averaged(x, window, stride)
    expected = windows(x, window, stride).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_average_pool_leaves_out_an_odd_last_row() -> None:
    x = jnp.arange(15.0).reshape(1, 5, 3, 1)
    assert averaged(x)[0, :, :, 0].tolist() == [[2.0], [8.0]]


def test_average_pairs_keeps_an_odd_last_row() -> None:
    x = jnp.arange(15.0).reshape(1, 5, 3, 1)
    expected = [[2.0, 3.5], [8.0, 9.5], [12.5, 14.0]]
    assert paired(x)[0, :, :, 0].tolist() == expected


@settings(max_examples=5)
@given(size=sides)
def test_average_pairs_equals_a_loop_over_existing_pixels(
    size: tuple[int, int], random: Any
) -> None:
    x, (height, width) = random(2, *size, 3), size
    expected = [
        [x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, width, 2)]
        for i in range(0, height, 2)
    ]
    with jax.enable_x64(True):
        found = paired(x)
    np.testing.assert_allclose(found, np.moveaxis(np.array(expected), 2, 0), rtol=1e-12)


@settings(max_examples=5)
@given(
    size=sides,
    stride=st.sampled_from([1, 2]),
)
def test_blur_pool_is_a_binomial_convolution_of_a_mirrored_map(
    size: tuple[int, int], stride: int, random: Any
) -> None:
    x = random(2, *size, 3)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = np.zeros((2, -(-size[0] // stride), -(-size[1] // stride), 3))
    for i in range(expected.shape[1]):
        for j in range(expected.shape[2]):
            tap = padded[:, stride * i : stride * i + 3, stride * j : stride * j + 3]
            expected[:, i, j] = np.einsum("nhwc,hw->nc", tap, kernel)
    with jax.enable_x64(True):
        found = blurred(x, stride)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_blur_pool_removes_a_checkerboard() -> None:
    """The highest frequency, which plain subsampling would alias to a constant."""
    board = jnp.asarray(np.indices((6, 6)).sum(0) % 2, jnp.float32)[None, ..., None]
    assert np.all(np.asarray(blurred(board)) == 0.5)
    assert np.all(np.asarray(board)[:, ::2, ::2] == 0)


@pytest.mark.parametrize("pool", [max_pool, average_pool, average_pairs, blur_pool])
def test_pooling_keeps_the_compute_dtype(pool: Any) -> None:
    x = jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.bfloat16)
    assert jax.eval_shape(pool, x).dtype == jnp.bfloat16


def test_the_global_average_of_bfloat16_is_summed_in_float32() -> None:
    x = jnp.full((1, 64, 64, 1), 1.0, jnp.bfloat16)
    average = global_average_pool(x)
    assert average.dtype == jnp.float32
    assert average[0, 0] == 1  # a bfloat16 sum of ones stops growing at 256


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_pooling_equals_torchs(size: tuple[int, int], random: Any) -> None:
    torch = pytest.importorskip("torch")
    x = random(2, *size, 3)
    images, ours = torch.from_numpy(x.transpose(0, 3, 1, 2)), jnp.asarray(x)
    functional = torch.nn.functional
    for expected, found in (
        (functional.max_pool2d(images, 3, 2, 1), max_pool(ours)),
        (functional.avg_pool2d(images, 2, 2), average_pool(ours)),
        (functional.avg_pool2d(images, 3, 2, 1), average_pool(ours, 3, 2)),
        (
            functional.avg_pool2d(images, 2, 2, ceil_mode=True, count_include_pad=False),
            average_pairs(ours),
        ),
    ):
        np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-12)


@sizes
def test_a_transposed_convolution_equals_a_matrix_product_for_each_tap(
    size: tuple[int, int], random: Any
) -> None:
    x, kernel, bias = random(2, *size, 3), random(2, 2, 4, 3), random(4)
    expected = np.zeros((2, 2 * size[0], 2 * size[1], 4)) + bias
    for i, j in np.ndindex(2, 2):
        expected[:, i::2, j::2] += x @ kernel[i, j].T
    layer = TransposedConv(4)
    found = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_starts_with_outputs_of_variance_one(init: Any) -> None:
    layer, x = TransposedConv(64), np.random.default_rng(0).standard_normal((4, 8, 8, 64))
    found = layer.apply(init(layer, x), x)
    np.testing.assert_allclose(np.std(found), 1, atol=0.05)


@sizes
def test_bilinear_upsampling_equals_that_of_jax(size: tuple[int, int], random: Any) -> None:
    """jax renormalizes weights at the border, which is equivalent to repeating it."""
    x = random(2, *size, 3).astype(np.float32)
    expected = jax.image.resize(x, (2, 2 * size[0], 2 * size[1], 3), "bilinear")
    np.testing.assert_allclose(upsampled(x), expected, rtol=1e-5, atol=1e-6)


@sizes
def test_nearest_upsampling_repeats_pixels(size: tuple[int, int], random: Any) -> None:
    x = random(2, *size, 3).astype(np.float32)
    expected = np.kron(x, np.ones((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), expected)
