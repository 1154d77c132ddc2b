"""GIF, BMP, TIFF, AVIF, PPM and JPEG 2000, which Pillow decodes; OpenCV decodes the others."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, features

_FORMATS = ("GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_SUFFIXES = ".gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .jp2 .j2k .j2c .jpc .jpf .jpx"
SUFFIXES = frozenset([*_SUFFIXES.split(), *([".avif"] if features.check("avif") else [])])
# How files of these formats start; those of AVIF have the type of the box after its length.
MAGIC = (b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
AVIF = (b"ftypavif", b"ftypavis")
# What `read_pixels` converts: bits, gray, palettes and colors; whole numbers of more than 8 bits.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP = ("I", "I;16", "I;16L", "I;16B")
# Bits of whole numbers; a camera may have written its 12 into an image of 16.
_DEPTHS = (8, 12, 16, 24, 32)


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image of one of the formats, of which only the header has been read.

    Here and when its pixels are read, Pillow raises whatever it finds.
    """
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        yield image


def read_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """Return an opened image as uint8 (height, width, channels), rotated by its EXIF tag."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in DEEP:
        turned = Image.fromarray(high_bits(np.asarray(turned)))
    pixels = np.asarray(turned.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def high_bits(values: np.ndarray) -> np.ndarray:
    """Return the high 8 of the bits in use, 8, 12 or 16 by the largest value, as uint8.

    The high 8 of 16 bits would leave of 12-bit values, such as those of X-rays, 16 shades of black.
    """
    bits = next(bits for bits in _DEPTHS if int(values.max(initial=0)) < 2**bits)
    return (np.maximum(values, 0) >> (bits - 8)).astype(np.uint8)
