"""The two ends of a network: the stem that sees the image, and the head that gives the logits."""

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
# Published names of the convolutions and of the norms behind them, by whether the order is `pre`.
# Where it is not, the norm behind the last one lies a level further up.
_SINGLE = {False: (("conv1", None),), True: (("conv", None),)}
_DEEP = {
    False: (("0", "1"), ("3", "4"), ("6", None)),
    True: (("conv1", "norm1"), ("conv2", "norm2"), ("conv3", None)),
}

# The class of pixels that count neither in the loss nor in the metrics.
IGNORED = 255


def first_conv(stem: str, order: str) -> str:
    """Return the published key of a stem's first convolution."""
    if order == "pre":
        return "stem.conv" if len(STEMS[stem]) == 1 else "stem.conv1"
    return "conv1" if len(STEMS[stem]) == 1 else "conv1.0"


def stem_stride(network: Any) -> int:
    """Return how many pixels of the images lie between those of the maps behind the stem."""
    strides = math.prod(stride for _, stride in STEMS[network.stem])
    return strides if _pooling(network) == "none" else 2 * strides


def run_stem(images: Images, network: Any, layers: Layers) -> tuple[Array, Array]:
    """Return the maps before and after the pooling of a `ResNet`'s stem, in its scope."""
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
    """Apply the convolutions of a stem, and the norms that have a name.

    Args:
      width: channels of the result.
      normed: a norm follows the last convolution, whether it is applied here or not.
    """
    half = width // 2
    widths = (half // 4 * 3 if stem == "tiered" else half, half, width)[-len(STEMS[stem]) :]
    for (conv, norm), features, (size, stride) in zip(names, widths, STEMS[stem], strict=True):
        last = conv == names[-1][0]
        x = layers.conv(features, size, conv, stride=stride, normed=normed or not last)(x)
        x = layers.normalize(x, norm) if norm else x
    return x


def pool_stem(x: Images, network: Any, layers: Layers) -> Images:
    """Halve the stem's maps; `conv` is named as the pooling that it replaces (ResNet-RS)."""
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
