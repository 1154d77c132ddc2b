"""Random erasing: the position, size and content of rectangles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.data.augment.config import AugmentConfig
from flax_resnet.data.augment.erasing import draw_rectangle, erase

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DRAWS = 5000


def rectangles(height: int, width: int, **settings) -> list[tuple[int, int, int, int] | None]:
    config, rng = AugmentConfig(**settings), np.random.default_rng(0)
    return [draw_rectangle(height, width, rng, config) for _ in range(DRAWS)]


def test_the_area_is_uniform_and_the_ratio_log_uniform():
    # In small ranges every rectangle fits, so none is drawn again.
    found = rectangles(400, 400, erase=1.0, erase_scale=(0.02, 0.2), erase_ratio=(0.5, 2.0))
    _, _, height, width = np.array(found).T
    area = np.histogram(height * width / 400**2, bins=10, range=(0.02, 0.2))[0]
    ratio = np.histogram(np.log(height / width), bins=10, range=(-np.log(2), np.log(2)))[0]
    for counts in (area, ratio):
        assert np.abs(counts - DRAWS / 10).max() < 5 * (DRAWS / 10) ** 0.5


def test_rectangles_lie_anywhere_in_the_image():
    found = [each for each in rectangles(60, 90, erase=1.0) if each]
    top, left, height, width = np.array(found).T
    assert (height < 60).all() and (width < 90).all()
    for start, side, size in ((top, 60, height), (left, 90, width)):
        assert (start >= 0).all() and (start + size <= side).all()
        place = (start + 0.5) / (side - size + 1)
        assert abs(place.mean() - 0.5) < 0.03 and abs(place.std() - 12**-0.5) < 0.03


def test_images_are_erased_with_their_probability():
    found = rectangles(60, 90, erase=0.25)
    count = sum(each is not None for each in found)
    assert abs(count - 0.25 * DRAWS) < 5 * (0.25 * 0.75 * DRAWS) ** 0.5


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_small_images_are_unchanged_if_nothing_fits(height, width, seed):
    rng, config = np.random.default_rng(seed), AugmentConfig(erase=1.0, erase_scale=(0.5, 1.0))
    rectangle = draw_rectangle(height, width, rng, config)
    if rectangle is not None:
        top, left, rows, columns = rectangle
        assert 0 < rows < height and 0 < columns < width
        assert 0 <= top <= height - rows and 0 <= left <= width - columns


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
@pytest.mark.parametrize("channels", [1, 3])
def test_erased_pixels_have_the_right_color_and_others_do_not_change(mode, channels):
    mean, std = MEAN[:channels], STD[:channels]
    image = np.full((60, 80, channels), 9, np.uint8)
    rng = np.random.default_rng(1)
    found = erase(image, (10, 20, 30, 50), rng, mode, mean, std)
    inside = found[10:40, 20:70]
    rest = found.copy()
    rest[10:40, 20:70] = 9
    assert (rest == 9).all() and (image == 9).all()
    colours = len(np.unique(inside.reshape(-1, channels), axis=0))
    assert colours == 1 if mode != "pixel" else colours > 100
    if mode == "const":
        np.testing.assert_array_equal(inside[0, 0], np.rint(255 * np.array(mean)))
        normalised = (inside / 255 - mean) / std
        assert np.abs(normalised).max() < 0.5 / 255 / min(std) + 1e-9


@pytest.mark.parametrize("mode", ["rand", "pixel"])
def test_normalized_noise_is_standard_normal_except_for_clipping(mode):
    image, rng = np.zeros((40, 40, 3), np.uint8), np.random.default_rng(0)
    blocks = [erase(image, (0, 0, 40, 40), rng, mode, MEAN, STD) for _ in range(300)]
    values = np.array(blocks if mode == "pixel" else [block[0, 0] for block in blocks])
    seen = (values.reshape(-1, 3) / 255 - MEAN) / STD
    few = mode == "rand"
    # A thirtieth of a normal distribution is beyond black and white, and is clipped.
    assert np.abs(np.median(seen, axis=0)).max() < (0.3 if few else 0.02)
    spread = (np.quantile(seen, 0.84, axis=0) - np.quantile(seen, 0.16, axis=0)) / 2
    assert np.abs(spread - 0.9945).max() < (0.2 if few else 0.02)


def test_one_number_stands_for_all_channels():
    image, rng = np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0)
    for mode in ("const", "rand", "pixel"):
        assert erase(image, (0, 0, 4, 4), rng, mode, (0.5,), (0.5,)).shape == (8, 8, 3)
