"""Grad-CAM: where in an image a network finds the evidence for a class, drawn over that image.

Selvaraju et al., arXiv:1610.02391, weight the channels of a stage's maps by the mean gradient of
the class's logit, and keep the positive part of their sum.
"""

from collections.abc import Callable
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import UInt8

from flax_resnet.inference.predictor import Predictor
from flax_resnet.models import DenseNet, ResNet
from flax_resnet.steps.gradient import normalize

Classifier = ResNet | DenseNet
Explain = Callable[[UInt8[np.ndarray, "h w c"], int], bytes]
# Smaller images are enlarged to this side, in pixels.
_SIDE = 224


def make_explain(predictor: Predictor) -> Explain | None:
    """Return a function from a prepared image and a class to a PNG; None for other families."""
    model, data = predictor.model, predictor.data
    if not isinstance(model, Classifier):
        return None
    stage = stage_names(model)[-1]

    @jax.jit
    def gradient_map(variables: dict[str, Any], pixels: jax.Array, label: jax.Array) -> jax.Array:
        images = normalize(pixels[None], data.mean, data.std)
        return gradient_maps(model, variables, images, label[None], stage)[0]

    def explain(pixels: np.ndarray, label: int) -> bytes:
        values = gradient_map(predictor.variables, pixels, jnp.asarray(label))
        return _overlay(pixels, np.asarray(values, np.float32))

    return explain


def gradient_maps(
    model: Classifier, variables: dict[str, Any], images: jax.Array, classes: jax.Array, stage: str
) -> jax.Array:
    """Return the Grad-CAM (n, h, w) of one class for each image, at a stage such as `layer2`."""
    path = stage_path(model, stage)
    shapes = jax.eval_shape(lambda: with_output(model, variables, images, path)[1])

    def chosen(delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, maps = with_output(model, variables, images, path, delta)
        return jnp.take_along_axis(logits, classes[:, None], axis=1).sum(), maps

    # In inference mode an image does not affect another's logits: one gradient of the sum suffices.
    gradient, maps = jax.grad(chosen, has_aux=True)(jnp.zeros(shapes.shape, shapes.dtype))
    return jax.nn.relu((gradient.mean((1, 2), keepdims=True) * maps).sum(-1))


def with_output(
    model: Classifier,
    variables: dict[str, Any],
    images: jax.Array,
    path: tuple[str, ...],
    delta: jax.Array | float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the logits and the output of the module at `path`, after `delta` is added to it."""
    outputs: list[jax.Array] = []

    def add(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        if context.module.path != path or context.method_name != "__call__":
            return result
        outputs.append(result + delta)
        return outputs[-1]

    with nn.intercept_methods(add):
        logits = jnp.asarray(model.apply(variables, images))
    return logits, outputs[-1]


def stage_names(model: Classifier) -> list[str]:
    """Return the names of the stages, as the model's `features` has them."""
    return [f"layer{number}" for number in range(1, len(model.stage_sizes) + 1)]


def stage_path(model: Classifier, stage: str) -> tuple[str, ...]:
    """Return the path of a stage's module."""
    number = int(stage.removeprefix("layer"))
    if isinstance(model, DenseNet):
        return "features", f"denseblock{number}"
    return ("stages", str(number - 1)) if model.order == "pre" else (stage,)


def _overlay(pixels: np.ndarray, values: np.ndarray) -> bytes:
    """Return the image as a PNG: gray where the map is zero, colored where it is large."""
    height, width = pixels.shape[:2]
    factor = max(1.0, _SIDE / max(height, width))
    size = round(width * factor), round(height * factor)
    gray = cv2.resize(pixels.mean(-1).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    share = cv2.resize(values / max(float(values.max()), 1e-12), size).clip(0, 1)[..., None]
    color = matplotlib.colormaps["inferno"](share[..., 0])[..., :3] * 255
    mixed = (1 - 0.7 * share) * (80 + 0.69 * gray[..., None]) + 0.7 * share * color
    _, encoded = cv2.imencode(".png", mixed[..., ::-1].clip(0, 255).astype(np.uint8))
    return encoded.tobytes()
