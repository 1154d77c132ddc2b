"""Every operation equals Pillow's bit by bit, on photographs, noise and the smallest images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from flax_resnet.data.augment import colour, lookup
from flax_resnet.data.augment.canvas import Canvas, mean_colour
from flax_resnet.data.augment.operations import OPERATIONS
from tests.data.augment.images import IMAGES

FILL = (124, 116, 104)
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
FACTORS = (0.0, 0.1, 0.37, 0.5, 0.9999, 1.0, 1.27, 1.9, 1.99)
TURNS = (-30.0, -135.0, -0.6, 0.0, 7.3, 30.0, 90.0, 135.0)
SHEARS = (-0.99, -0.3, -0.01, 0.0, 0.12, 0.3, 0.99)

Reference = Callable[[Image.Image, float, Image.Resampling], Image.Image]


def affine(picture: Image.Image, matrix: tuple[float, ...], filter_) -> Image.Image:
    fill = FILL if picture.mode == "RGB" else FILL[0]
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=filter_, fillcolor=fill
    )


def turned(picture: Image.Image, degrees: float, filter_) -> Image.Image:
    fill = FILL if picture.mode == "RGB" else FILL[0]
    return picture.rotate(degrees, resample=filter_, fillcolor=fill)


def added(picture: Image.Image, addition: float) -> Image.Image:
    table = [min(255, i + addition) if i < 128 else i for i in range(256)]
    return picture.point(table * len(picture.getbands()))


def enhanced(kind: type) -> Reference:
    return lambda picture, factor, _: kind(picture).enhance(factor)


REFERENCES: dict[str, tuple[Reference, tuple[float, ...]]] = {
    "identity": (lambda picture, _, __: picture, (0.0,)),
    "autocontrast": (lambda picture, _, __: ImageOps.autocontrast(picture), (0.0,)),
    "equalize": (lambda picture, _, __: ImageOps.equalize(picture), (0.0,)),
    "invert": (lambda picture, _, __: ImageOps.invert(picture), (0.0,)),
    "posterize": (lambda picture, bits, _: ImageOps.posterize(picture, bits), tuple(range(1, 9))),
    "solarize": (
        lambda picture, threshold, _: ImageOps.solarize(picture, threshold),
        (0, 1, 76, 128, 199.5, 255, 256),
    ),
    "solarize_add": (lambda picture, addition, _: added(picture, addition), (0, 33, 110, 128)),
    "colour": (enhanced(ImageEnhance.Color), FACTORS),
    "contrast": (enhanced(ImageEnhance.Contrast), FACTORS),
    "brightness": (enhanced(ImageEnhance.Brightness), FACTORS),
    "sharpness": (enhanced(ImageEnhance.Sharpness), FACTORS),
    "rotate": (turned, TURNS),
    "shear_x": (lambda picture, x, filter_: affine(picture, (1, x, 0, 0, 1, 0), filter_), SHEARS),
    "shear_y": (lambda picture, x, filter_: affine(picture, (1, 0, 0, x, 1, 0), filter_), SHEARS),
    "translate_x": (
        lambda picture, x, filter_: affine(picture, (1, 0, x, 0, 1, 0), filter_),
        (-300.0, -32, -5.0, -0.4, 0.0, 1.0, 3.7, 9, 31.99, 32),
    ),
    "translate_y": (
        lambda picture, x, filter_: affine(picture, (1, 0, 0, 0, 1, x), filter_),
        (-300.0, -32, -5.0, -0.4, 0.0, 1.0, 3.7, 9, 31.99, 32),
    ),
    "translate_x_relative": (
        lambda picture, x, filter_: affine(picture, (1, 0, x * picture.width, 0, 1, 0), filter_),
        (-0.45, -0.1, 0.0, 0.25, 0.33, 0.45),
    ),
    "translate_y_relative": (
        lambda picture, x, filter_: affine(picture, (1, 0, 0, 0, 1, x * picture.height), filter_),
        (-0.45, -0.1, 0.0, 0.25, 0.33, 0.45),
    ),
}


def picture_of(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image if image.shape[2] == 3 else image[..., 0])


def expect_equal(found: np.ndarray, expected: Image.Image, image: np.ndarray, name: str) -> None:
    assert found.shape == image.shape and found.dtype == np.uint8
    wanted = np.asarray(expected).reshape(image.shape)
    np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_every_operation_has_a_reference():
    assert set(REFERENCES) == set(OPERATIONS)


@pytest.mark.parametrize("operation", REFERENCES)
def test_operations_equal_pillows(operation):
    reference, arguments = REFERENCES[operation]
    for name, image in IMAGES.items():
        picture, before = picture_of(image), image.copy()
        for argument in arguments:
            for filter_ in FILTERS:
                canvas = Canvas(FILL[: image.shape[2]], filter_)
                found = OPERATIONS[operation](image, argument, canvas)
                expected = reference(picture, argument, filter_)
                expect_equal(found, expected, image, f"{name}, {argument}")
        np.testing.assert_array_equal(image, before, err_msg="the image itself was changed")


@pytest.mark.parametrize("turn", [-0.5, -0.1, -0.003, 0.0, 0.05, 0.31, 0.5])
def test_hue_rotates_pillows_hue_and_keeps_gray_images(turn):
    for name, image in IMAGES.items():
        if image.shape[2] == 1:
            assert colour.hue(image, turn) is image
            continue
        hue, *others = picture_of(image).convert("HSV").split()
        step = np.array(int(turn * 255)).astype(np.uint8)
        hue = Image.fromarray(np.asarray(hue) + step)
        expected = Image.merge("HSV", (hue, *others)).convert("RGB")
        expect_equal(colour.hue(image, turn), expected, image, name)


def test_grey_keeps_pillows_luminance_in_three_channels():
    for name, image in IMAGES.items():
        if image.shape[2] == 3:
            expected = picture_of(image).convert("L").convert("RGB")
            expect_equal(colour.grey(image), expected, image, name)


@pytest.mark.parametrize("radius", [0.1, 0.8, 2.0])
def test_blur_equals_pillows(radius):
    for name, image in IMAGES.items():
        expected = picture_of(image).filter(ImageFilter.GaussianBlur(radius))
        expect_equal(colour.blur(image, radius), expected, image, name)


def test_zero_bits_give_black_where_pillow_refuses():
    assert not lookup.posterize(IMAGES["china"], 0).any()
    assert not lookup.posterize(IMAGES["china"], -1).any()


def test_contrast_rounds_the_mean_as_pillow_does():
    # Means of ... .5, where rounding to even would differ.
    for low in range(0, 250, 7):
        image = np.array([[[low] * 3, [low + 1] * 3]], np.uint8)
        expected = ImageEnhance.Contrast(picture_of(image)).enhance(0.0)
        expect_equal(lookup.contrast(image, 0.0), expected, image, str(low))


def test_the_fill_is_the_nearest_color_to_the_mean():
    assert mean_colour((0.485, 0.456, 0.406), 3) == (124, 116, 104)
    assert mean_colour((0.5,), 3) == (128, 128, 128)
    assert mean_colour((0.2860,), 1) == (73,)
    assert mean_colour((1.5, -1.0, 0.0), 3) == (255, 0, 0)
