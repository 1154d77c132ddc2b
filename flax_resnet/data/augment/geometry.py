"""Geometric operations, by Pillow, since OpenCV's interpolation differs in the last bits.

Translations by whole pixels need no interpolation; OpenCV gives the same result.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from flax_resnet.data.augment.canvas import Canvas, to_array, to_pillow


def rotate(image: np.ndarray, degrees: float, canvas: Canvas) -> np.ndarray:
    """Rotate counterclockwise about the center."""
    turned = to_pillow(image).rotate(
        degrees, resample=canvas.resample, fillcolor=canvas.pillow_fill
    )
    return to_array(turned)


def shear_x(image: np.ndarray, factor: float, canvas: Canvas) -> np.ndarray:
    """Move each row to the left by `factor` times its distance from the top."""
    return _affine(image, (1, factor, 0, 0, 1, 0), canvas)


def shear_y(image: np.ndarray, factor: float, canvas: Canvas) -> np.ndarray:
    """Move each column up by `factor` times its distance from the left side."""
    return _affine(image, (1, 0, 0, factor, 1, 0), canvas)


def translate_x(image: np.ndarray, pixels: float, canvas: Canvas) -> np.ndarray:
    """Move to the left by a number of pixels."""
    if float(pixels).is_integer():
        return _moved(image, int(pixels), 0, canvas)
    return _affine(image, (1, 0, pixels, 0, 1, 0), canvas)


def translate_y(image: np.ndarray, pixels: float, canvas: Canvas) -> np.ndarray:
    """Move up by a number of pixels."""
    if float(pixels).is_integer():
        return _moved(image, 0, int(pixels), canvas)
    return _affine(image, (1, 0, 0, 0, 1, pixels), canvas)


def translate_x_relative(image: np.ndarray, fraction: float, canvas: Canvas) -> np.ndarray:
    """Move to the left by a fraction of the width."""
    return translate_x(image, fraction * image.shape[1], canvas)


def translate_y_relative(image: np.ndarray, fraction: float, canvas: Canvas) -> np.ndarray:
    """Move up by a fraction of the height."""
    return translate_y(image, fraction * image.shape[0], canvas)


def _affine(image: np.ndarray, matrix: tuple[float, ...], canvas: Canvas) -> np.ndarray:
    source = to_pillow(image)
    kind, colour = Image.Transform.AFFINE, canvas.pillow_fill
    bent = source.transform(source.size, kind, matrix, canvas.resample, fillcolor=colour)
    return to_array(bent)


def _moved(image: np.ndarray, left: int, up: int, canvas: Canvas) -> np.ndarray:
    height, width = image.shape[:2]
    if abs(up) >= height or abs(left) >= width:
        return np.full_like(image, canvas.fill)
    kept = image[max(up, 0) : height + min(up, 0), max(left, 0) : width + min(left, 0)]
    sides = max(-up, 0), max(up, 0), max(-left, 0), max(left, 0)
    moved = cv2.copyMakeBorder(kept, *sides, cv2.BORDER_CONSTANT, value=canvas.fill)
    return moved.reshape(image.shape)  # OpenCV drops a single channel.
