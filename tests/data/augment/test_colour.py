"""Color jitter: how strong, how often, in which order."""

from __future__ import annotations

from collections import Counter

import numpy as np

from flax_resnet.data.augment.colour import CHANGES, draw_jitter
from flax_resnet.data.augment.config import AugmentConfig

DRAWS = 5000


def drawn(**settings) -> list[list[tuple[str, float]]]:
    config, rng = AugmentConfig(**settings), np.random.default_rng(0)
    return [draw_jitter(rng, config) for _ in range(DRAWS)]


def test_factors_are_uniform_around_one_and_hue_around_zero():
    steps = drawn(jitter=(0.4, 0.2, 1.5, 0.1))
    values = {name: np.array([dict(image)[name] for image in steps]) for name in CHANGES}
    ranges = ((0.6, 1.4), (0.8, 1.2), (0.0, 2.5), (-0.1, 0.1))
    for found, (low, high) in zip(values.values(), ranges, strict=True):
        assert low <= found.min() and found.max() <= high
        counts = np.histogram(found, bins=10, range=(low, high))[0]
        assert np.abs(counts - DRAWS / 10).max() < 5 * (DRAWS / 10) ** 0.5


def test_all_orders_are_equally_likely():
    orders = Counter(tuple(name for name, _ in image) for image in drawn(jitter=(0.4,) * 4))
    assert len(orders) == 24
    assert max(abs(count - DRAWS / 24) for count in orders.values()) < 5 * (DRAWS / 24) ** 0.5


def test_a_strength_of_zero_is_left_out():
    assert {len(image) for image in drawn(jitter=(0.4, 0.0, 0.0, 0.1))} == {2}
    assert {name for image in drawn(jitter=(0.4, 0.0, 0.0, 0.1)) for name, _ in image} == {
        "brightness",
        "hue",
    }


def test_jitter_is_applied_with_its_probability():
    count = sum(bool(image) for image in drawn(jitter=(0.4,) * 4, jitter_probability=0.8))
    assert abs(count - 0.8 * DRAWS) < 5 * (0.16 * DRAWS) ** 0.5
