"""The operations of policies, by name.

Each takes uint8 (height, width, 1 or 3), an argument in its own unit and a `Canvas`, and returns
a new image of that shape. Arguments have the same meaning as in Pillow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flax_resnet.data.augment import colour, geometry, lookup
from flax_resnet.data.augment.canvas import Canvas

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
    "rotate": geometry.rotate,
    "shear_x": geometry.shear_x,
    "shear_y": geometry.shear_y,
    "translate_x": geometry.translate_x,
    "translate_y": geometry.translate_y,
    "translate_x_relative": geometry.translate_x_relative,
    "translate_y_relative": geometry.translate_y_relative,
}
