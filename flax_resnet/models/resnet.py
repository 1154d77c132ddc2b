"""The residual network: stem, stages, head. One module for the whole family."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError, require_known
from flax_resnet.models.blocks import BLOCKS, SHORTCUTS, Layers
from flax_resnet.models.layers import Images, Linear, global_average_pool, max_pool, relu

# kernel size, stride, max-pool behind it
STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False)}
CHOICES = {
    "block": tuple(BLOCKS),
    "stem": tuple(STEMS),
    "shortcut": SHORTCUTS,
    "norm": ("batch", "none"),
    "pool": ("average", "flatten"),
}


class Stage(nn.Module):
    """A run of equal blocks, of which the first may change the shape."""

    block: str
    blocks: int
    width: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        for index in range(self.blocks):
            stride = self.stride if index == 0 else 1
            x = BLOCKS[self.block](self.width, stride, self.layers, name=str(index))(x, train)
        return x


class ResNet(nn.Module):
    """Classify NHWC images with a residual network (He et al., arXiv:1512.03385).

    The path of every leaf is the key in torchvision's state dict up to its last word:
    `layer1.0.conv1.weight` is `params["layer1"]["0"]["conv1"]["kernel"]`.

    Attributes:
      stage_sizes: blocks in each stage; every stage but the first halves height and width.
      widths: channels of each stage's 3x3 convolutions.
      block: `basic` or `bottleneck`.
      stem: `imagenet` (7x7, stride 2, max-pool) or `cifar` (3x3, stride 1).
      shortcut: `projection` (option B), `zero_pad` (A), `all` (C) or `none` (plain network).
      norm: `batch`, or `none`: convolutions with biases and no norm.
      norm_group: images in one batch-norm group; None takes the global batch.
      zero_init_last: start the last norm of each block at zero, so that blocks start as identity.
      pool: `average` over the last maps, or `flatten` them (the head then fixes the image size).
      num_classes: outputs; 0 returns the pooled features instead of logits.
      in_channels: channels of the images.
      image_size: height and width that the network is meant for; others work unless `flatten`.
      head_name: key of the last linear layer in the published weights.
      dtype: compute dtype. Parameters, statistics and logits are float32 at least.
    """

    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "basic"
    stem: str = "imagenet"
    shortcut: str = "projection"
    norm: str = "batch"
    norm_group: int | None = None
    zero_init_last: bool = False
    pool: str = "average"
    num_classes: int = 1000
    in_channels: int = 3
    image_size: int = 224
    head_name: str = "fc"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for field, allowed in CHOICES.items():
            require_known(field, getattr(self, field), allowed)
        if len(self.stage_sizes) != len(self.widths):
            raise InputError(
                f"stage_sizes is {self.stage_sizes} and widths is {self.widths}: "
                "give each stage one of both"
            )
        super().__post_init__()

    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n classes"]:
        """Return logits, or pooled features where `num_classes` is 0."""
        return self._forward(images, train)[1]

    def features(self, images: Float[Array, "n h w c"], train: bool = False) -> Mapping[str, Array]:
        """Return the maps of the stem (before its pooling) and of every stage, by name."""
        return self._forward(images, train)[0]

    @nn.compact
    def _forward(self, images: Images, train: bool) -> tuple[dict[str, Array], Array]:
        self._check(images)
        layers = Layers(self.dtype, self.norm, self.norm_group, self.zero_init_last, self.shortcut)
        kernel_size, stride, pooled = STEMS[self.stem]
        x = layers.conv(self.widths[0], kernel_size, stride, name="conv1")(images)
        x = relu(layers.normalize(x, "bn1", train))
        maps = {"stem": x}
        x = max_pool(x) if pooled else x
        for index, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            name = f"layer{index + 1}"
            stage = Stage(self.block, blocks, width, 1 if index == 0 else 2, layers, name=name)
            maps[name] = x = stage(x, train)
        x = global_average_pool(x) if self.pool == "average" else x.reshape(x.shape[0], -1)
        if self.num_classes:
            x = Linear(self.num_classes, name=self.head_name)(x)
        return maps, x

    def _check(self, images: Array) -> None:
        if images.ndim != 4 or images.shape[-1] != self.in_channels or 0 in images.shape:
            raise InputError(
                f"images have shape {images.shape}, but the network takes (n, height, width, "
                f"{self.in_channels}) with no empty axis: arrange them as NHWC or pass "
                "in_channels= to create_model"
            )
        if self.pool == "flatten" and images.shape[1:3] != (self.image_size, self.image_size):
            raise InputError(
                f"images are {images.shape[1]}x{images.shape[2]}, but a flattening head is made "
                f"for {self.image_size}x{self.image_size}: resize them or pass image_size="
            )
