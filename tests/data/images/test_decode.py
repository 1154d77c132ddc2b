"""Encoded images become the same arrays as with Pillow."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from flax_resnet.data.images.decode import (
    DecodeError,
    decode_image,
    image_size,
    is_rgb_or_grey_jpeg,
)
from tests.hostile import made


def pillow(data: bytes, mode: str) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode)
    return np.asarray(image).reshape(image.height, image.width, -1).astype(int)


def assert_like_pillow(data: bytes, channels: int = 3, tolerance: int = 0) -> None:
    image = decode_image(data, channels)
    expected = pillow(data, "RGB" if channels == 3 else "L")
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= tolerance


KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "JPEG2000"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_in_color(encode, photo, kind):
    assert_like_pillow(encode(photo, kind))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "I;16"])
def test_every_kind_of_tiff(encode, photo, mode):
    image = Image.fromarray(photo)
    image = image.convert("L") if mode == "I;16" else image
    data = encode(image.convert(mode), "TIFF", compression="tiff_lzw")
    assert_like_pillow(data, 3)
    assert_like_pillow(data, 1)


def test_floating_point_numbers_are_an_error(encode):
    with pytest.raises(DecodeError, match="are floating-point numbers; expected gray or color"):
        decode_image(encode(np.ones((4, 4), np.float32), "TIFF"), 3)


def test_transparent_pixels_of_a_gif_keep_their_color(encode, photo):
    image = Image.fromarray(photo).quantize(16)
    first, other = (encode(image, "GIF", transparency=at) for at in (3, 5))
    assert_like_pillow(first)
    np.testing.assert_array_equal(decode_image(first, 3), decode_image(other, 3))


@pytest.mark.parametrize("masks", [None, (0xF800, 0x07E0, 0x001F)])
def test_16_bit_bmp_has_pillows_colors(masks):
    pixels = np.arange(48 * 64, dtype="<u2").tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 64, 48, 1, 16, 3 if masks else 0, 0, 0, 0, 0, 0)
    head += struct.pack("<3I", *masks) if masks else b""
    start = 14 + len(head)
    data = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + pixels
    assert_like_pillow(data)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_every_kind_of_jpeg(encode, photo, options):
    assert_like_pillow(encode(photo, "JPEG", **options))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grayscale_fills_three_channels_or_one(encode, photo, kind):
    data = encode(Image.fromarray(photo).convert("L"), kind)
    assert_like_pillow(data, 3)
    assert_like_pillow(data, 1)


def test_color_becomes_gray_by_luminance(encode, photo):
    # A PNG's colors are weighted here, with a different rounding; a JPEG's luminance is stored.
    assert_like_pillow(encode(photo, "PNG"), 1, tolerance=1)
    assert_like_pillow(encode(np.full((8, 8, 3), (200, 30, 90), np.uint8), "JPEG"), 1, tolerance=1)


def test_cmyk_jpeg_has_pillows_colors(encode, photo):
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


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (12, 4), (16, 8)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_fewer_bits_in_16_are_not_black(encode, bits, shift, kind):
    grey = (np.arange(48 * 64).reshape(48, 64) % 2**bits).astype(np.uint16)
    grey[0, 0] = 2**bits - 1
    found = decode_image(encode(grey, kind), 3)
    np.testing.assert_array_equal(found, np.repeat((grey >> shift)[..., None], 3, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(encode, photo, mode):
    alpha = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64, 1) % 256
    image = Image.fromarray(np.concatenate([photo, alpha.astype(np.uint8)], -1)).convert(mode)
    assert_like_pillow(encode(image, "PNG"))


@pytest.mark.parametrize("options", [{}, {"transparency": 3}])
def test_palette_png(encode, photo, options):
    assert_like_pillow(encode(Image.fromarray(photo).convert("P"), "PNG", **options))


# Pillow warns of damaged TIFFs before it raises.
DAMAGED_TIFF = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


@DAMAGED_TIFF
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [12, 20, 0.02, 0.5, 0.95])
def test_truncated_data_is_called_so(encode, kind, kept):
    noise = np.random.default_rng(0).integers(256, size=(200, 300, 3), dtype=np.uint8)
    data = encode(noise, kind)
    cut = data[: kept if kept > 1 else int(len(data) * kept)]
    for read in (image_size, lambda data: decode_image(data, 3)):
        try:
            read(cut)
            assert read is image_size, "it was decoded"
        except DecodeError as error:
            assert str(error) == f"the {len(cut)} bytes are truncated or damaged"


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8"]
)
def test_a_few_first_bytes_are_a_truncated_image(data):
    with pytest.raises(DecodeError, match=f"the {len(data)} bytes are truncated or damaged"):
        decode_image(data, 3)


@pytest.mark.parametrize("data", [b"", b"hello world", b"RIFF1234WAVE", bytes(40)])
def test_a_file_that_is_not_an_image_is_an_error(data):
    with pytest.raises(DecodeError, match="expected a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, PPM"):
        decode_image(data, 3)


def test_a_heic_image_is_named():
    with pytest.raises(DecodeError, match=r"it is a HEIC image, .* convert it to JPEG"):
        decode_image(b"\0\0\0\x18ftypheic" + bytes(40), 3)


def test_a_decompression_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    bomb += struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(DecodeError, match="50000 x 50000 pixels are more than the limit"):
        decode_image(bomb, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 300, 3)])
def test_size_is_read_from_the_header(encode, kind, shape):
    image = np.zeros(shape, np.uint8)
    assert image_size(encode(image, kind)) == shape[:2]
    if kind == "WEBP":  # The other two encodings of WebP: lossless and extended.
        assert image_size(encode(image, kind, lossless=True)) == shape[:2]
        exif = Image.Exif()
        exif[0x0112] = 1
        assert image_size(encode(image, kind, exif=exif)) == shape[:2]


def test_the_first_version_of_bmp_is_read(photo):
    header = struct.pack("<IHHHH", 12, 64, 48, 1, 24)
    rows = photo[::-1, :, ::-1].tobytes()  # Rows from the bottom, blue first.
    data = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + header + rows
    np.testing.assert_array_equal(decode_image(data, 3), photo)


def test_the_still_image_of_an_animated_png_is_read(encode, photo):
    other = Image.fromarray(255 - photo)
    assert_like_pillow(encode(photo, "PNG", save_all=True, append_images=[other]))
    # The still image need not be part of the animation.
    options = {"save_all": True, "append_images": [other, other.rotate(180)]}
    assert_like_pillow(encode(photo, "PNG", default_image=True, **options))


@pytest.mark.parametrize(
    "data", [made.broken_animation(), made.lying_chunk(), made.two_frames()], ids=lambda _: ""
)
def test_files_that_crash_opencv_or_exhaust_memory_never_reach_it(data, monkeypatch):
    seen = []
    decode = cv2.imdecode
    monkeypatch.setattr(
        cv2, "imdecode", lambda data, _: seen.append(bytes(data)) or decode(data, 1)
    )
    with pytest.raises(DecodeError):
        decode_image(data, 3)
    assert not any(b"acTL" in data for data in seen)
    assert data == made.broken_animation() or not seen


NOISE = made.picture(20, 24)
STILL = {kind: {"lossless": True} if kind == "WEBP" else {} for kind in KINDS}
SEEDS = [made.encoded(kind, NOISE, **options) for kind, options in STILL.items()]
SEEDS += [made.encoded("JPEG", NOISE, progressive=True), made.encoded("PNG", NOISE.convert("P"))]
SEEDS += [
    made.encoded(kind, NOISE, save_all=True, append_images=[NOISE.rotate(90)])
    for kind in ("PNG", "WEBP", "GIF")
]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),  # The position, closer to the header than to the end.
        st.sampled_from([0, 1, 4]),  # The number of bytes to remove.
        st.binary(max_size=4) | st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"]),
    ),
    min_size=1,
    max_size=6,
)


@DAMAGED_TIFF
@given(st.sampled_from(SEEDS), EDITS, st.sampled_from([1, 3]))
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_bytes_give_an_image_of_the_size_in_the_header_or_an_error(seed, edits, channels):
    data = seed
    for where, gone, new in edits:
        at = int(where**3 * len(data))
        data = data[:at] + new + data[at + gone :]
    try:
        size = image_size(data)
        if size[0] * size[1] > 2**20:  # Allowed, but slow.
            return
        image = decode_image(data, channels)
    except DecodeError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == channels
    assert sorted(image.shape[:2]) == sorted(size)  # An EXIF tag may turn it.
