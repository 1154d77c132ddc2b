"""The stem of a network, which takes the images, and its head, which returns the logits."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array

from flax_resnet.models.design import Layers, Scope, within
from flax_resnet.models.layers import (
    Conv,
    Images,
    Linear,
    at_least_float32,
    average_pool,
    blur_pool,
    global_average_pool,
    linear_uniform,
    max_pool,
)

# Kernel size and stride of each convolution.
STEMS = {
    "7x7": ((7, 2),),
    "deep": ((3, 2), (3, 1), (3, 1)),
    "tiered": ((3, 2), (3, 1), (3, 1)),
    "cifar": ((3, 1),),
}
POOLS = ("max", "max_zeros", "average", "blur", "conv", "none")
# Published names of the convolutions and of the norms after them, by whether the order is `pre`.
# If it is not, the norm after the last convolution is one level higher in the key: `bn1`.
_SINGLE = {False: (("conv1", None),), True: (("conv", None),)}
_DEEP = {
    False: (("0", "1"), ("3", "4"), ("6", None)),
    True: (("conv1", "norm1"), ("conv2", "norm2"), ("conv3", None)),
}

# The class of pixels that count neither in the loss nor in the metrics.
IGNORED = 255


def first_conv_key(stem: str, order: str) -> str:
    """Return the published key of a stem's first convolution."""
    if order == "pre":
        return "stem.conv" if len(STEMS[stem]) == 1 else "stem.conv1"
    return "conv1" if len(STEMS[stem]) == 1 else "conv1.0"


def stem_stride(network: Any) -> int:
    """Return the total stride of the stem, pooling included."""
    strides = math.prod(stride for _, stride in STEMS[network.stem])
    return strides if _pooling(network) == "none" else 2 * strides


def run_stem(images: Images, network: Any, layers: Layers) -> tuple[Array, Array]:
    """Apply the stem of a `ResNet` in its scope; return the maps before and after pooling."""
    stem, pre = network.stem, network.order == "pre"
    width = network.stem_width or network.widths[0]
    names = (_SINGLE if len(STEMS[stem]) == 1 else _DEEP)[pre]
    if not pre and len(names) == 1:
        x = convolve_stem(images, stem, width, names, layers, normed=True)
    else:
        scope = Scope(name="stem" if pre else "conv1")
        x = scope(lambda: convolve_stem(images, stem, width, names, layers, normed=not pre))
    if not pre:
        x = layers.normalize(x, "bn1")
    return x, pool_stem(x, network, layers)


def convolve_stem(
    x: Images,
    stem: str,
    width: int,
    names: Sequence[tuple[str, str | None]],
    layers: Layers,
    *,
    normed: bool,
) -> Images:
    """Apply the convolutions of a stem, and the norms whose name is not None.

    Args:
      width: output channels.
      normed: whether a norm follows the last convolution, here or in the caller.
    """
    half = width // 2
    widths = (half // 4 * 3 if stem == "tiered" else half, half, width)[-len(STEMS[stem]) :]
    for (conv, norm), features, (size, stride) in zip(names, widths, STEMS[stem], strict=True):
        last = conv == names[-1][0]
        x = layers.conv(features, size, conv, stride=stride, normed=normed or not last)(x)
        x = layers.normalize(x, norm) if norm else x
    return x


def pool_stem(x: Images, network: Any, layers: Layers) -> Images:
    """Pool the stem's maps; `conv` has the name of the pooling that it replaces (ResNet-RS)."""
    kind = _pooling(network)
    if kind == "conv":
        names = ("0", "1")
        return Scope(name="maxpool")(lambda: layers.conv_norm(x, x.shape[-1], 3, names, stride=2))
    if kind == "average":
        return average_pool(x)
    if kind == "blur":
        return blur_pool(max_pool(x, 3, 1))
    if kind == "none":
        return x
    return max_pool(x, 3, 2, 0.0) if kind == "max_zeros" else max_pool(x)


def _pooling(network: Any) -> str:
    return str(network.stem_pool or ("none" if network.stem == "cifar" else "max"))


def classify_pixels(x: Images, network: Any) -> Array:
    """Return the logits of every pixel, or the features if the network has no classes."""
    return _conv_head(x, network, network.head_name) if network.num_classes else x


def classify(x: Images, network: Any, train: bool, *, convolve: bool = False) -> Array:
    """Pool the maps and return logits, or the pooled features if the network has no classes.

    Args:
      convolve: whether the published head is a 1x1 convolution.
    """
    x = global_average_pool(x) if network.pool == "average" else x.reshape(x.shape[0], -1)
    x = nn.Dropout(network.dropout, deterministic=not train)(x) if network.dropout else x
    if not network.num_classes:
        return x
    *scopes, name = network.head_name.split(".")

    def head(x: Array) -> Array:
        if convolve:
            return _conv_head(x[:, None, None], network, name)[:, 0, 0]
        return Linear(network.num_classes, name=name)(x)

    return within(tuple(scopes), head, x)


def _conv_head(x: Images, network: Any, name: str) -> Images:
    x = at_least_float32(x)
    head = Conv(
        network.num_classes,
        1,
        use_bias=True,
        kernel_init=linear_uniform,
        dtype=x.dtype,
        name=name,
    )
    return head(x)
