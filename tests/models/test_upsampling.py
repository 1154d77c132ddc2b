"""Larger maps from smaller ones, against sums written out in numpy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.models.layers import TransposedConv, upsample_bilinear, upsample_nearest

SIZES = pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])


@SIZES
def test_a_transposed_convolution_writes_a_patch_for_every_pixel(
    size: tuple[int, int], random: Any
) -> None:
    x, kernel, bias = random(2, *size, 3), random(2, 2, 4, 3), random(4)
    expected = np.zeros((2, 2 * size[0], 2 * size[1], 4)) + bias
    for i, j in np.ndindex(2, 2):
        expected[:, i::2, j::2] += x @ kernel[i, j].T
    layer = TransposedConv(4)
    found = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_keeps_the_size_of_what_it_sees(init: Any) -> None:
    layer, x = TransposedConv(64), np.random.default_rng(0).standard_normal((4, 8, 8, 64))
    found = layer.apply(init(layer, x), x)
    np.testing.assert_allclose(np.std(found), 1, atol=0.05)


@SIZES
def test_bilinear_upsampling_is_that_of_jax(size: tuple[int, int], random: Any) -> None:
    """jax leaves out weights beyond the border; that is the same as to repeat it."""
    x = random(2, *size, 3).astype(np.float32)
    expected = jax.image.resize(x, (2, 2 * size[0], 2 * size[1], 3), "bilinear")
    np.testing.assert_allclose(upsample_bilinear(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


@SIZES
def test_nearest_upsampling_repeats_pixels(size: tuple[int, int], random: Any) -> None:
    x = random(2, *size, 3).astype(np.float32)
    expected = np.kron(x, np.ones((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), expected)
