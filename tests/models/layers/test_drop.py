"""Dropping in training: its distribution over thousands of draws."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.models.layers import DropBlock, DropPath

RNGS = {"dropout": jax.random.key(0)}


@functools.cache
def dropped_paths(rate: float) -> np.ndarray:
    """Drop the paths of 4000 images of ones."""
    x = jnp.ones((4000, 2, 3, 4))
    return np.asarray(DropPath().apply({}, x, rate, rngs=RNGS))


@functools.cache
def dropped_blocks(rate: float, size: int, scale: float = 1.0) -> np.ndarray:
    """Drop squares of 2000 maps of ones, 12x10 pixels and 2 channels."""
    x = jnp.ones((2000, 12, 10, 2))
    return np.asarray(DropBlock(rate, size, scale).apply({}, x, rngs=RNGS))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_a_path_is_dropped_for_whole_images(rate: float) -> None:
    images = dropped_paths(rate).reshape(4000, -1)
    assert (images == images[:, :1]).all()
    np.testing.assert_allclose(np.unique(images), [0, 1 / (1 - rate)], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_paths_are_dropped_at_their_rate_and_keep_their_expected_value(rate: float) -> None:
    images = dropped_paths(rate)[:, 0, 0, 0]
    deviation = (rate * (1 - rate) / 4000) ** 0.5
    assert abs((images == 0).mean() - rate) < 4 * deviation
    assert abs(images.mean() - 1) < 4 * deviation / (1 - rate)


def test_a_rate_of_zero_drops_no_path() -> None:
    assert (dropped_paths(0.0) == 1).all()


def test_a_dropped_path_keeps_the_dtype() -> None:
    x = jnp.ones((2, 1, 1, 1), jnp.bfloat16)
    assert DropPath().apply({}, x, 0.5, rngs=RNGS).dtype == jnp.bfloat16


@pytest.mark.parametrize(("rate", "size"), [(0.1, 3), (0.1, 5), (0.3, 1)])
def test_blocks_are_dropped_in_all_channels_and_what_is_left_is_scaled_alike(
    rate: float, size: int
) -> None:
    maps = dropped_blocks(rate, size)
    assert (maps[..., 0] == maps[..., 1]).all()
    assert len(np.unique(maps)) == 2
    assert maps.min() == 0


@pytest.mark.parametrize(("rate", "size"), [(0.1, 3), (0.1, 5), (0.3, 1)])
def test_dropping_blocks_keeps_the_sum(rate: float, size: int) -> None:
    assert float(dropped_blocks(rate, size).mean(dtype=np.float64)) == pytest.approx(1, rel=1e-5)


def filtered(mask: np.ndarray, size: int, border: bool, reduce: Any) -> np.ndarray:
    """Reduce over the square around each pixel; pixels outside of the map are `border`."""
    pad = size // 2
    padded = np.pad(mask, ((0, 0), (pad, pad), (pad, pad)), constant_values=border)
    view = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return reduce(view, axis=(-2, -1))


@pytest.mark.parametrize("size", [3, 5])
def test_what_is_dropped_is_a_union_of_squares(size: int) -> None:
    """An opening by a square changes nothing; squares can cross the border."""
    dropped = dropped_blocks(0.1, size)[..., 0] == 0
    pad = size // 2
    wide = np.pad(dropped, ((0, 0), (pad, pad), (pad, pad)), constant_values=True)
    grown = filtered(filtered(wide, size, True, np.all), size, False, np.any)
    np.testing.assert_array_equal(grown[:, pad:-pad, pad:-pad], dropped)
    assert dropped.any(axis=(1, 2)).mean() > 0.1


@pytest.mark.parametrize(("rate", "size", "scale"), [(0.1, 3, 1.0), (0.2, 5, 0.25), (0.3, 1, 1.0)])
def test_blocks_are_dropped_at_their_rate_but_for_overlaps_and_borders(
    rate: float, size: int, scale: float
) -> None:
    dropped = dropped_blocks(rate, size, scale)[..., 0] == 0
    center = scale * rate * 12 * 10 / (size**2 * (12 - size + 1) * (10 - size + 1))
    inside = size // 2  # rows and columns whose squares are all inside the map
    found = dropped[:, inside : 12 - inside, inside : 10 - inside].mean()
    expected = 1 - (1 - center) ** size**2
    assert found == pytest.approx(expected, rel=0.05)


def test_a_square_is_no_larger_than_the_map() -> None:
    maps = DropBlock(0.5, 7).apply({}, jnp.ones((500, 2, 3, 1)), rngs=RNGS)
    assert jnp.isfinite(maps).all()
    assert (maps == 0).any()
    assert (maps > 0).any()


def test_dropped_values_have_no_gradient() -> None:
    def total(x: jax.Array) -> jax.Array:
        return DropBlock(0.2, 3).apply({}, x, rngs=RNGS).sum()

    x = jnp.ones((50, 8, 8, 2))
    gradient = jax.grad(total)(x)
    np.testing.assert_array_equal(gradient, DropBlock(0.2, 3).apply({}, x, rngs=RNGS))
