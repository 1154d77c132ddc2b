"""What networks say of arguments and of images that they cannot take."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array

from flax_resnet.errors import InputError, require_known

RATES = ("drop_path", "drop_block", "block_dropout", "layer_dropout", "dropout")
LEAST = {
    "num_classes": 0,
    "in_channels": 1,
    "image_size": 1,
    "norm_group": 1,
    "base_width": 1,
    "depth": 1,
}


def check_arguments(network: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise `InputError` unless words, rates and numbers of a network are what they can be.

    Args:
      choices: the words that arguments can have; None can be one where it is the default.
    """
    fields = type(network).__dataclass_fields__
    for name, allowed in choices.items():
        value = getattr(network, name)
        if value is not None or fields[name].default is not None:
            require_known(name, value, allowed)
    for name in RATES:
        if name in fields and not 0 <= getattr(network, name) < 1:
            raise InputError(f"{name} is {getattr(network, name)}; expected 0 or more, below 1")
    for name, least in LEAST.items():
        value = getattr(network, name, None)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; expected {least} or more")


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
