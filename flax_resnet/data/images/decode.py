"""Read and decode image files, with limits on their type and size."""

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from flax_resnet.data.images import pillow

# An ImageNet image has 0.2 megapixels, one of a large camera 100. A PNG of a few kilobytes that
# expands to gigabytes is an attack or an error.
MAX_PIXELS = 2**27
# A photograph has a few megabytes, a large uncompressed scan a hundred.
MAX_BYTES = 2**28

_PNG = b"\x89PNG\r\n\x1a\n"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_JPEG = b"\xff\xd8\xff"
_RIFF = b"RIFF"
# How files start; those of WebP have their length between these words.
_MAGIC = (_JPEG, _PNG, b"RIFFWEBP", *pillow.MAGIC)
# Phones write HEIC, and programs call it JPEG.
_HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")
FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, PPM or JPEG 2000"
# What Pillow calls pixels that are not read.
_MODES = {"F": "floating-point numbers", "LAB": "CIELAB colors"}
# The position of the number of bits of each channel.
_PNG_DEPTH = slice(24, 25)
# The names of files that `decode_image` can decode, in lower case.
SUFFIXES = pillow.SUFFIXES | {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"}
SUFFIXES |= {".png", ".apng", ".webp"}
# Frame headers: SOF0 .. SOF15, except three codes with other meanings.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Segments with a length that may precede them: tables, application data and comments.
_SEGMENTS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)})

_KINDS: dict[str, Callable[[int], bool]] = {
    "folder": stat.S_ISDIR,
    "named pipe": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}


class DecodeError(ValueError):
    """An error in the bytes of an image; the loader adds the name of the image."""


def read_file(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
      DecodeError: it is not a regular file, or has more than `MAX_BYTES`.
      OSError: it does not exist or cannot be read.
    """
    with open_plain(path) as file:
        # With a limit, since the file may grow while it is read.
        return file.read(os.fstat(file.fileno()).st_size)


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file as a context manager; raise as `read_file` does."""
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if kind := special_kind(status.st_mode):
            raise DecodeError(f"it is a {kind}; expected a file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"its {status.st_size} bytes are more than the limit of {MAX_BYTES}")
        yield file


def special_kind(mode: int) -> str | None:
    """Return the kind of a special file with this `st_mode`, or None for a regular one."""
    return next((kind for kind, holds in _KINDS.items() if holds(mode)), None)


def _at_once(path: str, mode: int) -> int:
    # Without O_NONBLOCK, opening a named pipe waits for a writer. Windows has neither.
    return os.open(path, mode | getattr(os, "O_NONBLOCK", 0))


def decode_image(data: bytes, channels: int) -> np.ndarray:
    """Decode the bytes of an image to uint8 (height, width, channels), as Pillow does.

    The formats are JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, PPM and JPEG 2000. Grayscale, palette,
    CMYK and 16-bit images become gray (1 channel) or RGB (3), rotated by their EXIF tag. An alpha
    channel is dropped, as by Pillow's `convert("RGB")` and by TensorFlow, which published networks
    were trained with. Of 16-bit values that fit into 12 bits, the high 8 of these are kept.

    Raises:
      DecodeError: the format is another one, the data are truncated, or the image has more than
        `MAX_PIXELS`.
    """
    if not data.startswith((_JPEG, _PNG, _RIFF)):
        with _opened(data) as other:
            check_pixels(other.height, other.width)
            if other.mode not in (*pillow.MODES, *pillow.DEEP):
                raise DecodeError(
                    f"its pixels are {_MODES.get(other.mode, other.mode)}; expected gray or color "
                    "of 8 or 16 bits: convert it"
                )
            return pillow.read_pixels(other, channels)
    check_pixels(*image_size(data))
    flags = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    if data.startswith(_PNG) and data[_PNG_DEPTH] == b"\x10":
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(_still(data), np.uint8), flags)
    except cv2.error as error:
        raise DecodeError(f"OpenCV says {error.err or error}") from None
    if image is None:
        raise _truncated(data)
    image = image if image.dtype == np.uint8 else pillow.high_bits(image)
    return image.reshape(*image.shape[:2], channels)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image of another format with Pillow; also turn what reading its pixels raises."""
    try:
        with pillow.opened(data) as image:
            yield image
    except DecodeError:
        raise
    except UnidentifiedImageError:
        raise _unknown(data) from None
    except (OSError, SyntaxError, EOFError, ValueError, struct.error):
        raise _truncated(data) from None
    except Exception as error:  # Pillow raises various exceptions for damaged files.
        raise DecodeError(f"Pillow says {error}") from error


def _truncated(data: bytes) -> DecodeError:
    return DecodeError(f"the {len(data)} bytes are truncated or damaged")


def _unknown(data: bytes) -> DecodeError:
    """Return the error for bytes without a header that can be read."""
    start = _RIFF + data[8:12] if data.startswith(_RIFF) else data
    cut = any(start.startswith(magic) or magic.startswith(start) for magic in _MAGIC)
    if data and (cut or data[4:12] in pillow.AVIF):
        return _truncated(data)
    if data[4:12] in _HEIC:
        return DecodeError("it is a HEIC image, which cannot be decoded: convert it to JPEG")
    shown = data[:8].hex(" ") or "nothing"
    return DecodeError(f"its {len(data)} bytes start with {shown}; expected a {FORMATS}")


def check_pixels(height: int, width: int) -> None:
    """Raise `DecodeError` above `MAX_PIXELS`."""
    if height * width > MAX_PIXELS:
        raise DecodeError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS}")


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert uint8 (height, width, 1 or 3) between gray and RGB."""
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of an image's header, before any EXIF rotation."""
    try:
        size = _header_size(data)
    except struct.error:
        size = None
    if size is None:
        raise _unknown(data)
    if min(size) < 1:
        raise DecodeError(f"its header says {size[1]} x {size[0]} pixels")
    return size


def jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Return (height, width, color components) of a JPEG, or None without a frame header."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, at + 5)
            return height, width, components
        if marker in _SEGMENTS:
            at += 2 + length
        elif marker == 0xFF:  # A fill byte.
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # Markers without a length.
            at += 2
        else:
            # libjpeg skips other codes differently, and could find another frame.
            return None
    return None


def is_rgb_or_grey_jpeg(data: bytes) -> bool:
    """Return whether the bytes are an RGB or gray JPEG, which all readers decode alike."""
    frame = jpeg_frame(data) if data.startswith(_JPEG) else None
    return frame is not None and frame[2] in (1, 3)


def _header_size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(_JPEG):
        frame = jpeg_frame(data)
        return frame[:2] if frame else None
    if data.startswith(_PNG):
        return _png_size(data)
    if data.startswith(_RIFF):
        return _webp_size(data) if data[8:12] == b"WEBP" else None
    with _opened(data) as image:
        return image.height, image.width


def _png_size(data: bytes) -> tuple[int, int] | None:
    kinds = [kind for kind, _ in _png_chunks(data)]
    if kinds[:1] != [b"IHDR"]:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _still(data: bytes) -> bytes:
    """Return a PNG without its animation: OpenCV crashes if the first frame is damaged."""
    if not data.startswith(_PNG) or not any(kind in data for kind in _ANIMATION):
        return data
    chunks = [chunk for kind, chunk in _png_chunks(data) if kind not in _ANIMATION]
    return b"".join([_PNG, *chunks])


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and the bytes of every chunk."""
    view, at = memoryview(data), len(_PNG)
    while at + 8 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        if end > len(data):
            # OpenCV would allocate the declared length of the chunk, up to 2 GiB.
            raise _truncated(data)
        yield data[at + 4 : at + 8], view[at:end]
        at = end


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":  # Extended: 24-bit sizes, less one.
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return height, width
    if chunk == b"VP8L":  # Lossless: 14 bits each, less one, after a signature byte.
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8 ":  # Lossy: 14 bits each after the frame's start code.
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None
