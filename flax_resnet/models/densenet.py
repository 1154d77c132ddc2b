"""Densely connected networks: every layer sees the outputs of all layers before it."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.design import (
    ACTIVATIONS,
    NORMS,
    Layers,
    Scope,
    check_arguments,
    check_images,
)
from flax_resnet.models.ends import POOLS, STEMS, classify, convolve_stem, pool_stem
from flax_resnet.models.layers import Images, average_pool

he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
CHOICES = {
    "stem": tuple(STEMS),
    "stem_pool": POOLS,
    "norm": NORMS,
    "activation": tuple(ACTIVATIONS),
}


class DenseNet(nn.Module):
    """Classify NHWC images with a densely connected network (Huang et al., arXiv:1608.06993).

    Keys are those of torchvision and timm: `features.denseblock1.denselayer1.conv1.weight`.
    `scan_blocks` does not exist here: every layer of a block sees more channels than the one
    before it, so no two of them are equal.

    Attributes:
      stage_sizes: layers in each dense block.
      growth_rate: channels that each layer adds.
      bottleneck: channels of a layer's 1x1 convolution in multiples of the growth rate; 0: none.
      compression: fraction of the channels that a transition between blocks keeps.
      stem, stem_pool: as in `ResNet`, with `2 * growth_rate` channels; a `cifar` stem has no norm.
      norm, norm_group, frozen, activation: as in `ResNet`.
      layer_dropout: dropout rate after every layer.
      dropout: dropout rate before the head.
      num_classes: outputs; 0 returns the pooled features instead of logits.
      in_channels: channels of the images.
      image_size: height and width that the network is designed for; others work.
      remat: recompute the concatenated and normalized maps of a layer for the gradient; storing
        them takes memory quadratic in depth (Pleiss et al., arXiv:1707.06990).
      dtype: compute dtype. Parameters, statistics and logits are float32 at least.
    """

    stage_sizes: tuple[int, ...]
    growth_rate: int = 32
    bottleneck: int = 4
    compression: float = 0.5
    stem: str = "7x7"
    stem_pool: str | None = None
    norm: str = "batch"
    norm_group: int | None = None
    frozen: str = ""
    activation: str = "relu"
    layer_dropout: float = 0.0
    dropout: float = 0.0
    num_classes: int = 1000
    in_channels: int = 3
    image_size: int = 224
    remat: bool = False
    dtype: Any = jnp.float32

    pool = "average"
    head_name = "classifier"
    first_conv = "features.conv0"

    def __post_init__(self) -> None:
        check_arguments(self, CHOICES)
        if not 0 < self.compression <= 1:
            raise InputError(f"compression is {self.compression}; expected above 0 and at most 1")
        super().__post_init__()

    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n classes"]:
        """Return logits, or pooled features if `num_classes` is 0."""
        return self._forward(images, train)[1]

    def features(self, images: Float[Array, "n h w c"], train: bool = False) -> Mapping[str, Array]:
        """Return the maps of the stem (before its pooling) and of every dense block, by name."""
        return self._forward(images, train)[0]

    @nn.compact
    def _forward(self, images: Images, train: bool) -> tuple[dict[str, Array], Array]:
        check_images(images, self)
        layers = Layers.of(self, train, kernel_init=he_fan_in)
        # A submodule and a method are both called `features`, so it cannot be created in `setup`.
        maps, x = Scope(name="features")(run_dense_blocks, images, self, layers)
        return maps, classify(x, self, train)


def run_dense_blocks(
    images: Images, network: DenseNet, layers: Layers
) -> tuple[dict[str, Array], Images]:
    """Apply stem, dense blocks and transitions; return maps, and the last one normalized."""
    width, plain = 2 * network.growth_rate, network.stem == "cifar"
    count = len(STEMS[network.stem])
    names = [(f"conv{n}", None if plain else f"norm{n}") for n in range(count)]
    x = convolve_stem(images, network.stem, width, names, layers, normed=not plain)
    maps = {"stem": x}
    x = pool_stem(x, network, layers)
    for number, size in enumerate(network.stage_sizes, 1):
        x = Scope(name=f"denseblock{number}")(dense_block, x, size, network, layers)
        maps[f"layer{number}"] = x
        if number < len(network.stage_sizes):
            x = Scope(name=f"transition{number}")(transition, x, network.compression, layers)
    return maps, layers.normalize(x, "norm5", after_conv=False)


def dense_block(x: Images, size: int, network: DenseNet, layers: Layers) -> Images:
    """Concatenate the output of each layer to its input."""
    make = nn.remat(DenseLayer) if network.remat else DenseLayer
    for number in range(1, size + 1):
        layer = make(network.growth_rate, network.bottleneck, layers, name=f"denselayer{number}")
        y = layer(x)
        if network.layer_dropout:
            y = nn.Dropout(network.layer_dropout, deterministic=not layers.train)(y)
        x = jnp.concatenate([x, y], axis=-1)
    return x


class DenseLayer(nn.Module):
    """Norm, activation and 3x3 convolution; before them, optionally, those of a 1x1 bottleneck."""

    growth_rate: int
    bottleneck: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Images) -> Images:
        layers = self.layers
        y = layers.normalize(x, "norm1", after_conv=False)
        if self.bottleneck:
            y = layers.conv_norm(y, self.bottleneck * self.growth_rate, 1, ("conv1", "norm2"))
        name = "conv2" if self.bottleneck else "conv1"
        return layers.conv(self.growth_rate, 3, name, normed=False)(y)


def transition(x: Images, compression: float, layers: Layers) -> Images:
    """Reduce the channels by `compression`, and halve height and width."""
    y = layers.normalize(x, "norm", after_conv=False)
    y = layers.conv(int(y.shape[-1] * compression), 1, "conv", normed=False)(y)
    return average_pool(y)
