"""What the benchmark of augmentation measures: operations, stages and recipes by name."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flax_resnet.data.augment import colour

# An argument of each operation that is neither its weakest nor a special case.
ARGUMENTS = {
    "autocontrast": 0.0,
    "equalize": 0.0,
    "invert": 0.0,
    "posterize": 4,
    "solarize": 100,
    "solarize_add": 60,
    "colour": 1.6,
    "contrast": 1.6,
    "brightness": 1.6,
    "sharpness": 1.6,
    "rotate": 17.0,
    "shear_x": 0.2,
    "shear_y": 0.2,
    "translate_x": 9,
    "translate_y": 9,
    "translate_x_relative": 0.237,
    "translate_y_relative": 0.237,
}
COLOURS: dict[str, tuple[Callable[..., np.ndarray], float]] = {
    "hue": (colour.hue, 0.1),
    "grey": (lambda image, _: colour.grey(image), 0.0),
    "blur": (colour.blur, 1.0),
}

_RSB: dict[str, Any] = {"policy": "rand", "magnitude_std": 0.5, "increasing": True}
STAGES: dict[str, dict[str, Any]] = {
    "AutoAugment": {"policy": "auto"},
    "RandAugment, 2 operations, magnitude 9": {"policy": "rand", "probability": 1.0},
    "RandAugment of RSB A1 and A2": _RSB | {"magnitude": 7.0},
    "TrivialAugment-Wide": {"policy": "trivial"},
    "colour jitter 0.4": {"jitter": (0.4, 0.4, 0.4, 0.0)},
    "colour jitter 0.4, hue 0.1": {"jitter": (0.4, 0.4, 0.4, 0.1)},
    "random erasing, mean": {"erase": 1.0},
    "random erasing, noise": {"erase": 1.0, "erase_mode": "pixel"},
}
# Settings of data, and of its augmentation.
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "crop and flip": ({}, {}),
    "crop and flip, Pillow's filters": ({"interpolation": "bilinear"}, {}),
    "AutoAugment": ({}, {"policy": "auto"}),
    "RSB A1 and A2": ({"interpolation": "random"}, _RSB | {"magnitude": 7.0}),
    "RSB A3, 160 px": ({"interpolation": "random", "image_size": 160}, _RSB | {"magnitude": 6.0}),
    "torchvision V2, 176 px": (
        {"interpolation": "bilinear", "image_size": 176},
        {"policy": "trivial", "fill": "black", "erase": 0.1},
    ),
    "colour jitter 0.4, hue 0.1": ({}, {"jitter": (0.4, 0.4, 0.4, 0.1)}),
}
