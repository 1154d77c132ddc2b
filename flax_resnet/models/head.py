"""What all networks share: the head, and their checks of arguments and images."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array

from flax_resnet.errors import InputError, require_known
from flax_resnet.models.layers import (
    Conv,
    Images,
    Linear,
    at_least_float32,
    global_average_pool,
    linear_uniform,
    within,
)


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


def check_choices(network: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise `InputError` unless each argument is one of its words, or None by default."""
    for field, allowed in choices.items():
        value = getattr(network, field)
        if value is not None or type(network).__dataclass_fields__[field].default is not None:
            require_known(field, value, allowed)


def check_images(images: Array, network: Any) -> None:
    """Raise `InputError` unless the network can take images of this shape."""
    if images.ndim != 4 or images.shape[-1] != network.in_channels or 0 in images.shape:
        raise InputError(
            f"images have shape {images.shape}, but the network takes (n, height, width, "
            f"{network.in_channels}) with no empty axis: arrange them as NHWC or pass "
            "in_channels= to create_model"
        )
    size = network.image_size
    if network.pool == "flatten" and images.shape[1:3] != (size, size):
        raise InputError(
            f"images are {images.shape[1]}x{images.shape[2]}, but a flattening head is made "
            f"for {size}x{size}: resize them or pass image_size="
        )
