"""The shapes of a network's variables, found without computing anything."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def variable_shapes(model: nn.Module) -> dict[str, Any]:
    """Return the variables of `model` as shapes and dtypes."""
    return dict(jax.eval_shape(model.init, jax.random.key(0), example_images(model)))


def example_images(model: Any, image_size: int | None = None) -> jax.ShapeDtypeStruct:
    """Return the shape of one image, of the size that the model is meant for or another."""
    size = image_size or model.image_size
    return jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
