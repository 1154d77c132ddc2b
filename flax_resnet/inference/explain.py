"""Where a network looks: Grad-CAM of one class, laid over the picture as the network saw it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import UInt8

from flax_resnet.inference.predictor import Predictor
from flax_resnet.lab.cam import gradient_maps, stage_names
from flax_resnet.models import DenseNet, ResNet
from flax_resnet.steps.gradient import normalize

# What is smaller is enlarged, for people to see.
_SIDE = 224
Explain = Callable[[UInt8[np.ndarray, "h w c"], int], bytes]


def make_explain(predictor: Predictor) -> Explain | None:
    """Return a function from a prepared picture and a class to a PNG; None for other networks."""
    model, data = predictor.model, predictor.data
    if not isinstance(model, ResNet | DenseNet):
        return None
    part = stage_names(model)[-1]

    @jax.jit
    def gradient_map(variables: dict[str, Any], pixels: jax.Array, label: jax.Array) -> jax.Array:
        images = normalize(pixels[None], data.mean, data.std)
        return gradient_maps(model, variables, images, label[None], part)[0]

    def explain(pixels: np.ndarray, label: int) -> bytes:
        found = gradient_map(predictor.variables, pixels, jnp.asarray(label))
        return _overlay(pixels, np.asarray(found, np.float32))

    return explain


def _overlay(pixels: np.ndarray, values: np.ndarray) -> bytes:
    """Return the picture as PNG, grey where the map is zero and coloured where it is large."""
    height, width = pixels.shape[:2]
    factor = max(1.0, _SIDE / max(height, width))
    size = round(width * factor), round(height * factor)
    grey = cv2.resize(pixels.mean(-1).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    share = cv2.resize(values / max(float(values.max()), 1e-12), size).clip(0, 1)[..., None]
    color = matplotlib.colormaps["inferno"](share[..., 0])[..., :3] * 255
    mixed = (1 - 0.7 * share) * (80 + 0.69 * grey[..., None]) + 0.7 * share * color
    _, encoded = cv2.imencode(".png", mixed[..., ::-1].clip(0, 255).astype(np.uint8))
    return encoded.tobytes()
