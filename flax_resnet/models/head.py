"""From the last maps to logits, in every network."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array

from flax_resnet.models.layers import (
    Conv,
    Images,
    Linear,
    at_least_float32,
    global_average_pool,
    linear_uniform,
    within,
)


def classify_pixels(x: Images, network: Any) -> Array:
    """Turn every pixel's features into logits where the network has classes."""
    if not network.num_classes:
        return x
    x = at_least_float32(x)
    head = Conv(
        network.num_classes,
        1,
        use_bias=True,
        kernel_init=linear_uniform,
        dtype=x.dtype,
        name=network.head_name,
    )
    return head(x)


def classify(x: Images, network: Any, train: bool, *, convolve: bool = False) -> Array:
    """Pool the maps, and turn them into logits where the network has classes.

    Args:
      convolve: the published head is a 1x1 convolution.
    """
    x = global_average_pool(x) if network.pool == "average" else x.reshape(x.shape[0], -1)
    x = nn.Dropout(network.dropout, deterministic=not train)(x) if network.dropout else x
    if not network.num_classes:
        return x
    *scopes, name = network.head_name.split(".")

    def head(x: Array) -> Array:
        if not convolve:
            return Linear(network.num_classes, name=name)(x)
        x = at_least_float32(x)
        options = dict(use_bias=True, kernel_init=linear_uniform, dtype=x.dtype, name=name)
        return Conv(network.num_classes, 1, **options)(x[:, None, None])[:, 0, 0]

    return within(tuple(scopes), head, x)
