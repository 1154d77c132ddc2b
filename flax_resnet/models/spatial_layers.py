"""The spatial layer in the middle of a block: a 3x3 convolution or one of its variants.

Each maps (x, features, stride) to a map of `features` channels, normalized and activated, and names
its layers `conv{number}` and so on in the calling block's scope.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.models.design import Design, Layers, Scope
from flax_resnet.models.layers import (
    DropBlock,
    Images,
    average_pool,
    blur_pool,
    global_average_pool,
    make_divisible,
)

# Whether the pooling that applies the stride comes before the convolution, and the pooling.
ANTI_ALIAS: dict[str, tuple[bool, Callable[[Images, int], Images]]] = {
    "average": (False, lambda x, stride: average_pool(x, 2, stride)),
    "average_3x3": (False, lambda x, stride: average_pool(x, 3, stride)),
    "average_3x3_first": (True, lambda x, stride: average_pool(x, 3, stride)),
    "blur": (False, blur_pool),
}


@dataclasses.dataclass(frozen=True)
class Middle:
    """The place of the spatial layer in its block: its number, the name of its norm.

    `changes_shape`: whether the block changes the shape of its input.
    """

    design: Design
    layers: Layers
    number: int
    norm: str
    changes_shape: bool

    def drop(self, x: Images) -> Images:
        """Apply DropBlock in training if the design includes it."""
        if self.design.drop_block is None or not self.layers.train:
            return x
        return DropBlock(*self.design.drop_block)(x)


def apply_middle(middle: Middle, x: Images, features: int, stride: int) -> Images:
    """Apply the design's spatial layer; if it is anti-aliased, a pooling applies the stride."""
    run = MIDDLES[middle.design.middle]
    if stride == 1 or middle.design.anti_alias == "none":
        return run(middle, x, features, stride)
    first, pool = ANTI_ALIAS[middle.design.anti_alias]
    if first:
        return run(middle, pool(x, stride), features, 1)
    return pool(run(middle, x, features, 1), stride)


def convolution(middle: Middle, x: Images, features: int, stride: int) -> Images:
    """Convolve 3x3, in `cardinality` groups (ResNeXt, arXiv:1611.05431)."""
    return middle.layers.conv_norm(
        x,
        features,
        3,
        (f"conv{middle.number}", middle.norm),
        stride=stride,
        groups=middle.design.cardinality,
        drop=middle.drop,
    )


def scales(middle: Middle, x: Images, features: int, stride: int) -> Images:
    """Convolve groups of channels one after the other (Res2Net, arXiv:1904.01169).

    Each part but the last has its own convolution, applied to the sum of the part and the previous
    part's output; in a block that changes the shape, to the part alone.
    """
    layers, scale = middle.layers, middle.design.scale
    convs, norms = Scope(name="convs"), Scope(name="bns")
    parts = jnp.split(x, scale, axis=-1)
    outputs: list[Array] = []
    for index, part in enumerate(parts[: max(1, scale - 1)]):
        if outputs and not middle.changes_shape:
            part = part + outputs[-1]
        conv = dict(stride=stride, groups=middle.design.cardinality)
        y = convs(lambda x, i=index, kw=conv: layers.conv(x.shape[-1], 3, str(i), **kw)(x), part)
        outputs.append(norms(lambda y, i=index: layers.normalize(y, str(i)), y))
    if scale > 1:
        rest = parts[-1]
        outputs.append(average_pool(rest, 3, stride) if middle.changes_shape else rest)
    return middle.drop(jnp.concatenate(outputs, axis=-1))


def split_attention(middle: Middle, x: Images, features: int, stride: int) -> Images:
    """Weight `radix` convolutions of the map by attention (ResNeSt, arXiv:2004.08955)."""
    return SplitAttention(middle, features, stride, name=f"conv{middle.number}")(x)


def selective_kernel(middle: Middle, x: Images, features: int, stride: int) -> Images:
    """Weight a small and a large kernel for each channel (SKNet, arXiv:1903.06586)."""
    return SelectiveKernel(middle, features, stride, name=f"conv{middle.number}")(x)


MIDDLES = {
    "conv": convolution,
    "scales": scales,
    "selective_kernel": selective_kernel,
    "split_attention": split_attention,
}


class SplitAttention(nn.Module):
    """The split-attention convolution; its `fc1` has a bias in front of a norm, as published."""

    middle: Middle
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Images) -> Images:
        design, layers, features = self.middle.design, self.middle.layers, self.features
        radix, groups = design.radix, design.cardinality
        hidden = make_divisible(x.shape[-1] * radix / 4, least=32)
        y = layers.conv_norm(
            x,
            features * radix,
            3,
            ("conv", "bn0"),
            stride=self.stride,
            groups=groups * radix,
            drop=self.middle.drop,
        )
        splits = y.reshape(*y.shape[:3], radix, features)
        pooled = global_average_pool(splits.sum(3))[:, None, None].astype(y.dtype)
        z = layers.conv_norm(pooled, hidden, 1, ("fc1", "bn1"), groups=groups, biased=True)
        z = layers.conv(features * radix, 1, "fc2", groups=groups, biased=True)(z)
        weights = _radix_softmax(z.reshape(z.shape[0], -1), radix, groups)
        return (splits * weights[:, None, None].astype(y.dtype)).sum(3)


def _radix_softmax(z: Float[Array, "n c"], radix: int, groups: int) -> Float[Array, "n r k"]:
    """Return weights that sum to 1 over the splits; for a single split, the sigmoid."""
    if radix == 1:
        return jax.nn.sigmoid(z)[:, None]
    scores = z.reshape(z.shape[0], groups, radix, -1)
    return jax.nn.softmax(scores, axis=2).swapaxes(1, 2).reshape(z.shape[0], radix, -1)


class SelectiveKernel(nn.Module):
    """A 3x3 convolution and a dilated one, each of half the channels if `split_input`."""

    middle: Middle
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Images) -> Images:
        design, layers = self.middle.design, self.middle.layers
        features, inputs = self.features, [x, x]
        if design.split_input:
            inputs = jnp.split(x, 2, axis=-1)

        def convolve(x: Images, dilation: int) -> Images:
            return layers.conv_norm(
                x,
                features,
                3,
                ("conv", "bn"),
                stride=self.stride,
                dilation=dilation,
                groups=min(features, design.cardinality),
                drop=self.middle.drop,
            )

        def attend(pooled: Images) -> Images:
            hidden = make_divisible(features * design.gate_ratio, design.gate_divisor)
            z = layers.conv_norm(pooled, hidden, 1, ("fc_reduce", "bn"))
            return layers.conv(2 * features, 1, "fc_select", normed=False)(z)

        def both() -> list[Images]:
            return [Scope(name=str(i))(convolve, part, i + 1) for i, part in enumerate(inputs)]

        paths = jnp.stack(Scope(name="paths")(both), axis=3)
        pooled = global_average_pool(paths.sum(3))[:, None, None].astype(paths.dtype)
        scores = Scope(name="attn")(attend, pooled)
        weights = jax.nn.softmax(scores.reshape(*scores.shape[:3], 2, features), axis=3)
        return (paths * weights).sum(3)
