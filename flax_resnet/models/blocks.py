"""The residual block: its branch, its shortcut and their sum.

One block serves the whole family. Its *shape* is `basic` (3x3, 3x3) or `bottleneck` (1x1, 3x3,
1x1; the stride in the 3x3, v1.5). Its *order* is `post` (convolution, norm, activation; the sum is
activated; He et al. 2015, arXiv:1512.03385) or `pre` (norm, activation, convolution; the sum is
not activated; He et al. 2016, arXiv:1603.05027). `act_before_add` is `post` with the last
activation before the sum instead of after it (figure 4c of the latter). The kinds of shortcut are:

| shortcut         | where shapes agree | where they differ                                       |
|------------------|--------------------|---------------------------------------------------------|
| `projection`     | identity           | 1x1 convolution and norm (option B)                     |
| `projection_3x3` | identity           | 3x3 convolution and norm where strided, else 1x1        |
| `average`        | identity           | 2x2 average, 1x1 convolution and norm (ResNet-D)        |
| `zero_pad`       | identity           | every second pixel, new channels zero (option A)        |
| `all`            | 1x1 convolution and norm everywhere (option C)                               ||
| `none`           | no shortcut: the plain network of the degradation experiment                 ||
| `gated`          | branch * T + x * (1 - T): exclusive gating, highway  | as `projection`       |
| `gated_shortcut` | branch + x * (1 - T): shortcut-only gating           | as `projection`       |
| `halved`         | branch / 2 + x / 2: constant scaling                 | as `projection`       |
| `dropout`        | in training half of the shortcut's values are dropped | as `projection`      |

The last four are compared in table 1 of He et al. 2016. T = sigmoid(1x1 convolution of x) has one
value for each value of the map, and starts as sigmoid(`carry_bias`). A projection has no gate. In
pre-activation order it projects the output of the first norm, and has no norm of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.design import ACTIVATIONS, Design, Layers, Scope
from flax_resnet.models.layers import (
    DropPath,
    EfficientChannelAttention,
    Images,
    SqueezeExcite,
    average_pairs,
    transform_gate,
)
from flax_resnet.models.spatial_layers import Middle, apply_middle
from flax_resnet.models.variables import SCAN

SCALED = ("gated", "gated_shortcut", "halved", "dropout")
SHORTCUTS = ("projection", "projection_3x3", "average", "zero_pad", "all", "none", *SCALED)
ORDERS = ("post", "act_before_add", "pre")
GATES = ("none", "se", "eca")
# For each shape: output channels in multiples of the width, number of the middle convolution, and
# kernel size of the others.
EXPANSION = {"basic": 1, "bottleneck": 4}
MIDDLE = {"basic": 1, "bottleneck": 2}
SIZE = {"basic": 3, "bottleneck": 1}


class Block(nn.Module):
    """One residual block.

    Attributes:
      shape: `basic` or `bottleneck`.
      width: output channels, before the bottleneck's expansion.
      pruned: output channels of each convolution; None: those of the shape.
    """

    shape: str
    width: int
    stride: int
    design: Design
    layers: Layers
    pruned: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, x: Images, drop_rate: float | Float[Array, ""] = 0.0) -> Images:
        design, layers = self.design, self.layers
        widths = self.pruned or conv_widths(self.shape, self.width, design)
        same = self.stride == 1 and x.shape[-1] == widths[-1]
        pre = design.order == "pre"
        entry = layers.normalize(x, "norm1", after_conv=False) if pre else x
        y = entry
        for number, features in enumerate(widths, 1):
            if number == len(widths):
                y = self._dropout(y)
            norm = f"norm{number + 1}" if pre else f"bn{number}"
            if number == MIDDLE[self.shape]:
                middle = Middle(design, layers, number, norm, not same)
                y = apply_middle(middle, y, features, self.stride)
            else:
                y = self._convolve(y, features, number, norm, last=number == len(widths))
        y = self._gate(y)
        if design.drop_path and layers.train:
            y = DropPath()(y, drop_rate)
        activate = ACTIVATIONS[layers.activation]
        if design.order == "act_before_add":
            y = activate(y)
        y = join(y, x, entry, self.stride, design, layers)
        return activate(y) if design.order == "post" else y

    def _convolve(self, y: Images, features: int, number: int, norm: str, last: bool) -> Images:
        """Apply a convolution other than the middle one, and its norm."""
        size, conv = SIZE[self.shape], f"conv{number}"
        zero = last and self.design.zero_init_last
        if last and self.design.order == "pre":
            return self.layers.conv(features, size, conv, normed=False, zero=zero)(y)
        options: dict[str, Any] = {"act": not last, "zero": zero}
        if self.design.middle != "selective_kernel":
            return self.layers.conv_norm(y, features, size, (conv, norm), **options)
        names = ("conv", "bn")  # one level deeper in the published keys
        return Scope(name=conv)(
            lambda y: self.layers.conv_norm(y, features, size, names, **options), y
        )

    def _dropout(self, y: Images) -> Images:
        rate = self.design.block_dropout
        return nn.Dropout(rate, deterministic=not self.layers.train)(y) if rate else y

    def _gate(self, y: Images) -> Images:
        design, dtype = self.design, self.layers.dtype
        if design.gate == "se":
            return SqueezeExcite(design.gate_ratio, dtype, name="se")(y)
        if design.gate == "eca":
            channels = self.width * EXPANSION[self.shape]
            return EfficientChannelAttention(channels, dtype, name="se")(y)
        return y


def conv_widths(shape: str, width: int, design: Design) -> tuple[int, ...]:
    """Return the output channels of a block's convolutions."""
    inner = width * design.base_width // 64 * design.cardinality
    first = inner // design.reduce_first * design.scale
    if shape == "basic":
        return first, width
    return first, inner, width * EXPANSION[shape]


def join(
    branch: Images, x: Images, entry: Images, stride: int, design: Design, layers: Layers
) -> Images:
    """Add the shortcut to the branch, in the calling block's scope.

    Args:
      x: the input of the block.
      entry: the input of its first convolution: x, or in pre-activation order x normalized.
    """
    features = branch.shape[-1]
    same = stride == 1 and x.shape[-1] == features
    if design.shortcut == "none":
        return branch
    if same and design.shortcut in SCALED:
        return add_scaled(branch, x, design, layers)
    if design.shortcut == "all" or (not same and design.shortcut != "zero_pad"):
        x = Scope(name="downsample")(project, entry, features, stride, design, layers)
    elif not same:
        x = zero_pad_shortcut(x, features, stride)
    if x.shape != branch.shape:
        raise InputError(
            f"a block's branch has maps of {branch.shape[1:3]} pixels and its shortcut of "
            f"{x.shape[1:3]}: choose an image size that can be halved at every stage"
        )
    return branch + x


def add_scaled(branch: Images, x: Images, design: Design, layers: Layers) -> Images:
    """Add branch and identity, one or both of them scaled, in the calling block's scope."""
    if design.shortcut == "halved":
        return branch / 2 + x / 2
    if design.shortcut == "dropout":
        return branch + nn.Dropout(0.5, deterministic=not layers.train)(x)
    transform = transform_gate(x, design.carry_bias, layers.dtype)
    kept = x * (1 - transform)
    return (branch * transform if design.shortcut == "gated" else branch) + kept


def project(x: Images, features: int, stride: int, design: Design, layers: Layers) -> Images:
    """Project `x` to the shape of the branch, with layers named in the calling scope."""
    size, index = 1, 0
    if design.shortcut == "average":
        index = 1
        if stride > 1:
            x, stride = average_pairs(x), 1
    elif design.shortcut == "projection_3x3" and stride > 1:
        size = 3
    if design.order == "pre":
        return layers.conv(features, size, "conv", stride=stride, normed=False)(x)
    names = (str(index), str(index + 1))
    return layers.conv_norm(x, features, size, names, stride=stride, act=False)


def zero_pad_shortcut(x: Images, features: int, stride: int) -> Images:
    """Return every `stride`-th pixel, with zero channels added, half of them on each side."""
    x = x[:, ::stride, ::stride]
    new = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


def run_blocks(
    x: Images,
    blocks: Sequence[Mapping[str, Any]],
    rates: Sequence[float],
    remat: bool,
    scan: bool,
) -> Images:
    """Apply blocks called `0`, `1` ... in the calling scope.

    Args:
      blocks: arguments of each block; only the first block may change the shape of the map.
      rates: rate at which each block's branch is dropped in training.
      remat: recompute the inside of each block for the gradient instead of storing it.
      scan: apply all blocks but the first as one scanned block; `scan` is its name.
    """
    first, *others = blocks
    # Inside a scan the compiler cannot merge the two computations: there is nothing to prevent.
    make: Callable[..., Any] = nn.remat(Block, prevent_cse=not scan) if remat else Block
    x = make(**first, name="0")(x, rates[0])
    if not scan or len(others) < 2:
        for number, arguments in enumerate(others, 1):
            x = make(**arguments, name=str(number))(x, rates[number])
        return x

    def step(block: nn.Module, x: Images, rate: jax.Array) -> tuple[Images, None]:
        return block(x, rate), None

    scanned = nn.scan(
        step,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=len(others),
    )
    return scanned(make(**others[0], name=SCAN), x, jnp.asarray(rates[1:]))[0]
