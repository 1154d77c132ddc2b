"""Residual blocks, and how a branch joins its shortcut.

Both blocks compute relu(branch(x) + shortcut(x)), in the order of He et al. 2015
(arXiv:1512.03385). What the shortcut does is a word, so that every experiment of the papers is an
argument of the same network:

| shortcut     | where shapes agree | where they differ                                      |
|--------------|--------------------|--------------------------------------------------------|
| `projection` | identity           | 1x1 convolution and norm (option B)                    |
| `zero_pad`   | identity           | every second pixel, new channels zero (option A)       |
| `all`        | 1x1 convolution and norm everywhere (option C)                              ||
| `none`       | no shortcut: the plain network of the degradation experiment                ||
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.models.layers import BatchNorm, Conv, Images, relu

SHORTCUTS = ("projection", "zero_pad", "all", "none")


@dataclass(frozen=True)
class Layers:
    """What every block of one network shares: compute dtype, norm and kind of shortcut."""

    dtype: Any = jnp.float32
    norm: str = "batch"
    norm_group: int | None = None
    zero_init_last: bool = False
    shortcut: str = "projection"

    @property
    def conv(self) -> Callable[..., Conv]:
        """Make convolutions; without a norm behind them they carry a bias."""
        return partial(Conv, use_bias=self.norm == "none", dtype=self.dtype)

    def normalize(self, x: Images, name: str, train: bool, last: bool = False) -> Images:
        """Apply the norm called `name`; `last` marks the one that ends a branch."""
        if self.norm == "none":
            return x
        zero = last and self.zero_init_last
        scale_init = nn.initializers.zeros if zero else nn.initializers.ones
        norm = BatchNorm(self.norm_group, scale_init=scale_init, dtype=self.dtype, name=name)
        return norm(x, train)


class Projection(nn.Module):
    """Bring `x` to another shape with a strided 1x1 convolution and a norm."""

    features: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        x = self.layers.conv(self.features, 1, self.stride, name="0")(x)
        return self.layers.normalize(x, "1", train)


def zero_pad_shortcut(x: Images, features: int, stride: int) -> Images:
    """Keep every `stride`-th pixel and add zero channels, half of them on each side."""
    x = x[:, ::stride, ::stride]
    new = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


def join(
    branch: Images, x: Float[Array, "n h w c"], stride: int, layers: Layers, train: bool
) -> Images:
    """Add the shortcut of `x` to the branch, in the calling block's scope, and rectify."""
    features = branch.shape[-1]
    same = stride == 1 and x.shape[-1] == features
    if layers.shortcut == "none":
        return relu(branch)
    if layers.shortcut == "all" or (not same and layers.shortcut == "projection"):
        x = Projection(features, stride, layers, name="downsample")(x, train)
    elif not same:
        x = zero_pad_shortcut(x, features, stride)
    return relu(branch + x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first one strided."""

    width: int
    stride: int
    layers: Layers
    expansion: ClassVar[int] = 1

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        conv, normalize = self.layers.conv, self.layers.normalize
        y = conv(self.width, 3, self.stride, name="conv1")(x)
        y = relu(normalize(y, "bn1", train))
        y = conv(self.width, 3, name="conv2")(y)
        y = normalize(y, "bn2", train, last=True)
        return join(y, x, self.stride, self.layers, train)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up; the stride is in the 3x3 (v1.5), as in torchvision."""

    width: int
    stride: int
    layers: Layers
    expansion: ClassVar[int] = 4

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        conv, normalize = self.layers.conv, self.layers.normalize
        y = conv(self.width, 1, name="conv1")(x)
        y = relu(normalize(y, "bn1", train))
        y = conv(self.width, 3, self.stride, name="conv2")(y)
        y = relu(normalize(y, "bn2", train))
        y = conv(self.width * self.expansion, 1, name="conv3")(y)
        y = normalize(y, "bn3", train, last=True)
        return join(y, x, self.stride, self.layers, train)


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}
