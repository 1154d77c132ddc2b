"""Shared by the tests of layers: random images, and windows of images from a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def _windows(
    x: np.ndarray, window: int, stride: int, fill: float = 0.0, dilation: int = 1
) -> np.ndarray:
    pad = dilation * (window - 1) // 2 if window % 2 else 0
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    extent = dilation * (window - 1) + 1
    height, width = ((length - extent) // stride + 1 for length in padded.shape[1:3])
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return np.stack(
        [
            padded[:, i : i + rows : stride, j : j + columns : stride]
            for i in range(0, extent, dilation)
            for j in range(0, extent, dilation)
        ]
    )


@pytest.fixture(scope="session")
def windows() -> Callable[..., np.ndarray]:
    """Return `windows(x, window, stride, fill, dilation)`, which stacks the taps on a first axis.

    Images are padded with `fill` on all sides for odd windows, and not padded for even ones.
    """
    return _windows


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.fixture(scope="session")
def random() -> Callable[..., np.ndarray]:
    """Return `random(*shape)`: normal float64 numbers that depend only on the shape."""
    return _random
