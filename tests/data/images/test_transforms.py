"""Crops, resizes and flips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flax_resnet.data.config import CROP_NAMES, DataConfig
from flax_resnet.data.images import transforms
from flax_resnet.data.images.transforms import (
    CROPS,
    centre_crop,
    eval_transform,
    pad_crop,
    random_rectangle,
    resize,
    train_transform,
)

sides = st.integers(1, 300)


@given(sides, sides, st.integers(0, 2**32))
def test_a_random_rectangle_lies_in_the_image(height, width, seed):
    rng = np.random.default_rng(seed)
    top, left, h, w = random_rectangle(height, width, rng, (0.08, 1.0), (3 / 4, 4 / 3))
    assert top >= 0 and left >= 0 and h >= 1 and w >= 1
    assert top + h <= height and left + w <= width


@given(st.integers(0, 2**32))
def test_a_random_rectangle_keeps_the_scale_and_the_ratio(seed):
    rng = np.random.default_rng(seed)
    _, _, height, width = random_rectangle(400, 500, rng, (0.2, 0.5), (0.8, 1.25))
    assert 0.19 < height * width / (400 * 500) < 0.51
    assert 0.79 < width / height < 1.27


@pytest.mark.parametrize(
    ("shape", "expected"), [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10))]
)
def test_the_largest_central_rectangle_is_used_if_none_fits(shape, expected):
    rng = np.random.default_rng(0)
    assert random_rectangle(*shape, rng, (1.0, 1.0), (3 / 4, 4 / 3)) == expected


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("channels", [1, 3])
@given(height=sides, width=sides, seed=st.integers(0, 2**32))
def test_every_crop_has_the_given_size(crop, channels, height, width, seed):
    config = DataConfig(image_size=16, channels=channels, crop=crop, mean=(0.5,), std=(0.5,))
    image = np.zeros((height, width, channels), np.uint8)
    for result in (
        train_transform(image, np.random.default_rng(seed), config),
        eval_transform(image, config),
    ):
        assert result.shape == (16, 16, channels)
        assert result.dtype == np.uint8


@pytest.mark.parametrize("crop", CROPS)
def test_the_same_generator_gives_the_same_crop(photo, crop):
    config = DataConfig(image_size=24, crop=crop)
    results = [train_transform(photo, np.random.default_rng(3), config) for _ in range(2)]
    np.testing.assert_array_equal(*results)


@given(st.integers(0, 2**32), st.integers(0, 6))
def test_pad_crop_cuts_a_window_of_the_padded_image(seed, padding):
    config = DataConfig(image_size=8, channels=1, crop_padding=padding, mean=(0.5,), std=(0.5,))
    image = np.arange(1, 65, dtype=np.uint8).reshape(8, 8, 1)
    result = pad_crop(image, np.random.default_rng(seed), config)
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[..., 0], (8, 8))
    assert (windows == result[..., 0]).all(axis=(2, 3)).sum() == 1


def test_pad_crop_reaches_every_shift():
    config = DataConfig(image_size=4, channels=1, crop_padding=1, mean=(0.5,), std=(0.5,))
    image = np.arange(1, 17, dtype=np.uint8).reshape(4, 4, 1)
    rng = np.random.default_rng(0)
    assert len({pad_crop(image, rng, config).tobytes() for _ in range(200)}) == 9


def test_half_of_the_images_are_mirrored_and_none_when_flips_are_off(photo):
    def mirrored(flip: bool) -> int:
        config = DataConfig(image_size=48, crop="none", flip=flip)
        rngs = (np.random.default_rng(seed) for seed in range(200))
        results = [train_transform(photo[:, :48], rng, config) for rng in rngs]
        return sum(not np.array_equal(result, photo[:, :48]) for result in results)

    assert mirrored(False) == 0
    assert 70 < mirrored(True) < 130


def test_an_image_of_the_right_size_is_evaluated_unchanged(photo):
    config = DataConfig(image_size=48, eval_crop=1.0)
    np.testing.assert_array_equal(eval_transform(photo[:, :48], config), photo[:, :48])


def test_evaluation_resizes_the_short_side_and_keeps_the_proportions():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 90:110] = 255  # A bar in the middle, a tenth of the width.
    config = DataConfig(image_size=56, eval_crop=0.875)
    result = eval_transform(image, config)[28, :, 0] / 255
    assert abs(result.sum() - 20 * 64 / 100) < 0.1
    np.testing.assert_allclose(result, result[::-1], atol=0.01)


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(32, 0.875), (30, 0.95), (29, 0.965), (41, 1.0)])
def test_images_for_published_weights_equal_pillows_and_torchvisions(photo, filter_, size, crop):
    """Resize, CenterCrop and their rounding, as timm composes them."""
    config = DataConfig(image_size=size, eval_crop=crop, interpolation=filter_)
    short = int(size / crop)
    height, width = photo.shape[:2]
    assert height < width
    image = Image.fromarray(photo).resize(
        (int(short * width / height), short), Image.Resampling[filter_.upper()]
    )
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    expected = image.crop((left, top, left + size, top + size))
    np.testing.assert_array_equal(eval_transform(photo, config), np.asarray(expected))


def test_evaluation_is_bicubic_if_training_draws_the_interpolation(photo):
    results = [
        eval_transform(photo, DataConfig(image_size=24, interpolation=interpolation))
        for interpolation in ("random", "bicubic")
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_gray_images_are_resized_by_pillow_too(photo, filter_):
    grey = photo[..., :1]
    found = resize(grey, (20, 30), filter_)
    expected = Image.fromarray(grey[..., 0]).resize((30, 20), Image.Resampling[filter_.upper()])
    np.testing.assert_array_equal(found[..., 0], np.asarray(expected))


@pytest.mark.parametrize("size", [(24, 32), (20, 30), (96, 128)])
def test_resizing_is_like_pillows(photo, size):
    expected = Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR)
    difference = resize(photo, size).astype(float) - np.asarray(expected)
    assert np.sqrt(np.mean(difference**2)) < 5


@pytest.mark.parametrize("size", [(32, 42), (20, 26), (12, 16), (7, 10), (48, 9)])
def test_smooth_is_closer_to_pillows_filter_than_area(photo, size):
    expected = np.asarray(Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR))
    area, smooth = (
        np.sqrt(np.mean((resize(photo, size, name) - expected.astype(float)) ** 2))
        for name in ("area", "smooth")
    )
    assert smooth < area


@pytest.mark.parametrize("size", [(48, 96), (60, 64), (96, 128)])
def test_images_that_do_not_shrink_are_not_blurred(photo, size):
    found, expected = (resize(photo, size, name) for name in ("smooth", "aliased"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(1, 5000, 1), (5000, 1, 3), (30, 40, 1)])
def test_smooth_keeps_the_mean_of_any_shape(shape):
    image = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    small = resize(image, (16, 16), "smooth")
    assert small.shape == (16, 16, shape[2])
    assert abs(small.mean() - image.mean()) < 4


def test_antialiasing_averages_over_all_pixels():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::4] = 200
    assert np.ptp(resize(stripes, (16, 16))) == 0
    assert resize(stripes, (16, 16))[0, 0, 0] == 50


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_center_crop_is_centered(size, more_rows, more_columns):
    image = np.zeros((size + more_rows, size + more_columns, 1), np.uint8)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    assert centre_crop(image, size).shape == (size, size, 1)
    for index in (rows, columns):
        cut = centre_crop(index[..., None], size)
        assert abs(cut.mean() - index.mean()) <= 0.5


def test_every_crop_that_a_config_may_name_is_in_the_table():
    assert set(CROPS) == set(CROP_NAMES)


@pytest.mark.parametrize("shape", [(5, 80), (80, 5), (30, 40), (20, 21)])
@pytest.mark.parametrize("interpolation", ["area", "smooth", "bilinear", "bicubic", "aliased"])
def test_evaluation_resizes_whole_images_up_to_16_to_1(shape, interpolation):
    image = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    config = DataConfig(image_size=16, eval_crop=1.0, interpolation=interpolation)
    scale = 16 / min(shape)
    whole = resize(image, (int(shape[0] * scale), int(shape[1] * scale)), interpolation)
    np.testing.assert_array_equal(eval_transform(image, config), centre_crop(whole, 16))


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_line_is_cropped_before_evaluation_enlarges_it(shape, monkeypatch):
    resized = []
    monkeypatch.setattr(
        transforms, "resize", lambda image, size, _: resized.append(size) or resize(image, size)
    )
    line = np.zeros((*shape, 3), np.uint8)
    middle = tuple(slice(side // 2 - 8, side // 2 + 8) for side in shape)
    line[middle] = 200
    assert (eval_transform(line, DataConfig()) == 200).all()
    assert max(max(size) for size in resized) == 16 * 256
