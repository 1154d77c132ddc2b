"""Operations on colours and on neighbouring pixels, bit by bit as Pillow's."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from flax_resnet.data.augment.canvas import to_array, to_pillow

# Pillow's ImageFilter.SMOOTH. A sum of whole numbers over 13 is never half-way between two
# numbers, so both libraries round to the same one; Pillow takes ten times as long.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the grey image; factor 1 leaves the image, and grey images stay."""
    if image.shape[2] == 1:
        return image
    return to_array(ImageEnhance.Color(to_pillow(image)).enhance(factor))


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the colours by a fraction of their circle, -0.5 .. 0.5; grey images stay."""
    if image.shape[2] == 1:
        return image
    bands = np.array(to_pillow(image).convert("HSV"))
    bands[..., 0] += np.uint8(int(turn * 255) % 256)  # goes around
    return to_array(Image.fromarray(bands, "HSV").convert("RGB"))


def grey(image: np.ndarray) -> np.ndarray:
    """Take the colours away."""
    # Pillow's weights of red, green and blue: OpenCV rounds them otherwise.
    return cv2.cvtColor(np.asarray(to_pillow(image).convert("L")), cv2.COLOR_GRAY2RGB)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the smoothed image; factor 1 leaves the image, above it sharpens."""
    smooth = image.copy()
    if min(image.shape[:2]) >= 3:  # The outermost pixels stay.
        filtered = cv2.filter2D(image, -1, _SMOOTH).reshape(image.shape)
        smooth[1:-1, 1:-1] = filtered[1:-1, 1:-1]
    return to_array(Image.blend(to_pillow(smooth), to_pillow(image), factor))


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Blur by a Gaussian whose standard deviation is `radius` pixels."""
    return to_array(to_pillow(image).filter(ImageFilter.GaussianBlur(radius)))
