"""Encoded images become the arrays that Pillow makes of them."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from flax_resnet.data.decode import DecodeError, decode_image, image_size, is_rgb_or_grey_jpeg


def pillow(data: bytes, mode: str) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode)
    return np.asarray(image).reshape(image.height, image.width, -1).astype(int)


def assert_like_pillow(data: bytes, channels: int = 3, tolerance: int = 0) -> None:
    image = decode_image(data, channels)
    expected = pillow(data, "RGB" if channels == 3 else "L")
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_every_format_in_colour(encode, photo, kind):
    assert_like_pillow(encode(photo, kind))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_every_kind_of_jpeg(encode, photo, options):
    assert_like_pillow(encode(photo, "JPEG", **options))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_greyscale_fills_three_channels_or_one(encode, photo, kind):
    data = encode(Image.fromarray(photo).convert("L"), kind)
    assert_like_pillow(data, 3)
    assert_like_pillow(data, 1)


def test_colour_becomes_grey_by_luminance(encode, photo):
    # A PNG's colours are weighted here, with another rounding; a JPEG's luminance is stored.
    assert_like_pillow(encode(photo, "PNG"), 1, tolerance=1)
    assert_like_pillow(encode(np.full((8, 8, 3), (200, 30, 90), np.uint8), "JPEG"), 1, tolerance=1)


def test_cmyk_jpeg_has_pillows_colours(encode, photo):
    data = encode(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=95)
    assert not is_rgb_or_grey_jpeg(data)
    assert_like_pillow(data, tolerance=1)


def test_adobe_cmyk_jpeg_is_inverted(encode, photo):
    # Photoshop stores 255 - ink and says so with an Adobe marker, which Pillow writes as well.
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    red, green, blue = decode_image(data, 3)[4, 4]
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_turns_the_image(encode, photo, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert_like_pillow(data)


def test_16_bit_png_keeps_its_high_bytes(encode, photo):
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    np.testing.assert_array_equal(decode_image(encode(grey, "PNG"), 1)[..., 0], grey >> 8)
    colour = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    data = cv2.imencode(".png", colour[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, 3), colour >> 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(encode, photo, mode):
    alpha = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64, 1) % 256
    image = Image.fromarray(np.concatenate([photo, alpha.astype(np.uint8)], -1)).convert(mode)
    assert_like_pillow(encode(image, "PNG"))


@pytest.mark.parametrize("options", [{}, {"transparency": 3}])
def test_palette_png(encode, photo, options):
    assert_like_pillow(encode(Image.fromarray(photo).convert("P"), "PNG", **options))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_truncated_data_is_an_error(encode, kind, kept):
    noise = np.random.default_rng(0).integers(256, size=(200, 300, 3), dtype=np.uint8)
    data = encode(noise, kind)
    with pytest.raises(DecodeError):
        decode_image(data[: int(len(data) * kept)], 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"hello world", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_an_error_that_says_so(data):
    with pytest.raises(DecodeError, match="expected a JPEG, PNG, WebP, BMP or GIF"):
        decode_image(data, 3)


def test_a_decompression_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    bomb += struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(DecodeError, match="50000 x 50000 pixels are more than the limit"):
        decode_image(bomb, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 300, 3)])
def test_size_is_read_from_the_header(encode, kind, shape):
    image = np.zeros(shape, np.uint8)
    assert image_size(encode(image, kind)) == shape[:2]
    if kind == "WEBP":  # Its other two encodings: lossless and extended.
        assert image_size(encode(image, kind, lossless=True)) == shape[:2]
        exif = Image.Exif()
        exif[0x0112] = 1
        assert image_size(encode(image, kind, exif=exif)) == shape[:2]
