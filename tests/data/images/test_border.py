"""The weights of narrow gaps, against their equation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from flax_resnet.data.images.paired import border_weights
from flax_resnet.models import IGNORED


def by_definition(labels: np.ndarray, weight: float, sigma: float) -> np.ndarray:
    """Equation 2 of arXiv:1505.04597, with a distance map for each object."""
    pieces, count = ndimage.label((labels > 0) & (labels != IGNORED))
    distances = [ndimage.distance_transform_edt(pieces != n) for n in range(1, count + 1)]
    first, second = np.sort(distances, axis=0)[:2]
    return np.where(pieces == 0, weight * np.exp(-((first + second) ** 2) / (2 * sigma**2)), 0)


@pytest.mark.parametrize("sigma", [2.0, 5.0])
def test_weights_are_those_of_the_equation(sigma: float) -> None:
    rng = np.random.default_rng(0)
    labels = (ndimage.gaussian_filter(rng.standard_normal((60, 50)), 3) > 0.02).astype(np.uint8)
    labels[:4] = IGNORED
    found = border_weights(labels, 10.0, sigma)
    assert found.dtype == np.float32
    assert found.max() > 0.1
    np.testing.assert_allclose(found, by_definition(labels, 10.0, sigma), atol=10 * np.exp(-8))


def test_a_gap_of_one_pixel_weighs_most() -> None:
    labels = np.ones((9, 9), np.uint8)
    labels[:, 4] = 0
    weights = border_weights(labels, 10.0, 5.0)
    np.testing.assert_allclose(weights[:, 4], 10 * np.exp(-4 / 50), rtol=1e-6)
    assert not weights[labels == 1].any()


@pytest.mark.parametrize("value", [0, 1])
def test_fewer_than_two_objects_have_no_gap(value: int) -> None:
    assert not border_weights(np.full((8, 8), value, np.uint8), 10.0, 5.0).any()
    one = np.zeros((8, 8), np.uint8)
    one[2:5, 2:5] = value
    assert not border_weights(one, 10.0, 5.0).any()


def test_objects_that_touch_at_a_corner_are_two() -> None:
    labels = np.kron(np.eye(2, dtype=np.uint8), np.ones((4, 4), np.uint8))
    assert border_weights(labels, 10.0, 5.0)[3, 4] > 8
