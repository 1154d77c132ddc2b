"""The operations of policies, by name.

Each takes uint8 (height, width, 1 or 3), an argument in its own unit and a `Canvas`, and returns
a new image of that shape. Arguments have the same meaning as in Pillow.
"""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from flax_resnet.data.augment import colour, lookup
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


Operation = Callable[[np.ndarray, float, Canvas], np.ndarray]


def _plain(change: Callable[[np.ndarray], np.ndarray]) -> Operation:
    return lambda image, argument, canvas: change(image)


def _scaled(change: Callable[[np.ndarray, float], np.ndarray]) -> Operation:
    return lambda image, argument, canvas: change(image, argument)


OPERATIONS: dict[str, Operation] = {
    "identity": _plain(lambda image: image),
    "autocontrast": _plain(lookup.autocontrast),
    "equalize": _plain(lookup.equalize),
    "invert": _plain(lookup.invert),
    "posterize": _scaled(lookup.posterize),
    "solarize": _scaled(lookup.solarize),
    "solarize_add": _scaled(lookup.solarize_add),
    "colour": _scaled(colour.saturation),
    "contrast": _scaled(lookup.contrast),
    "brightness": _scaled(lookup.brightness),
    "sharpness": _scaled(colour.sharpness),
    "rotate": rotate,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "translate_x_relative": translate_x_relative,
    "translate_y_relative": translate_y_relative,
}
