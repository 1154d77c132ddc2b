"""Highway networks: a gate mixes the input and the output of every layer, value by value."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.design import ACTIVATIONS, Layers, Scope, check_arguments, check_images
from flax_resnet.models.ends import classify
from flax_resnet.models.layers import Images, max_pool, transform_gate

CHOICES = {
    "kind": ("dense", "conv"),
    "shortcut": ("gated", "none"),
    "activation": tuple(ACTIVATIONS),
}


class Highway(nn.Module):
    """Classify NHWC images with a highway network (Srivastava et al., arXiv:1505.00387).

    A layer returns H * T + x * (1 - T): H is `branch`, activated, and the gate T is the sigmoid of
    `transform`. A `dense` network is a convolutional one on a single pixel whose channels are all
    values of the image: a layer of width n has 2 (n * n + n) parameters.

    Attributes:
      stage_sizes: layers in each stage, after the stem.
      widths: channels of each stage. A layer that changes the width has a branch but no gate.
      kind: `dense`, or `conv`: 3x3 convolutions, with 2x2 max-pooling between the stages.
      shortcut: `gated`, or `none`: the plain network of equal depth.
      carry_bias: initial bias of the gates, before the sigmoid; deeper networks need a more
        negative one (the paper: -1 to -3).
      activation: as in `ResNet`.
      frozen: as in `ResNet`; without effect, since there are no batch norms.
      dropout: dropout rate before the head.
      num_classes: outputs; 0 returns the pooled features instead of logits.
      in_channels: channels of the images.
      image_size: height and width that the network is designed for; others work if it is `conv`.
      dtype: compute dtype. Parameters and logits are float32 at least.
    """

    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    kind: str = "dense"
    shortcut: str = "gated"
    carry_bias: float = -2.0
    activation: str = "relu"
    frozen: str = ""
    dropout: float = 0.0
    num_classes: int = 10
    in_channels: int = 3
    image_size: int = 32
    dtype: Any = jnp.float32

    norm = "none"
    head_name = "fc"

    def __post_init__(self) -> None:
        for name in ("stage_sizes", "widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_arguments(self, CHOICES)
        if len(self.stage_sizes) != len(self.widths):
            raise InputError(
                f"stage_sizes is {self.stage_sizes} and widths is {self.widths}: expected one "
                "entry for each stage in both"
            )
        super().__post_init__()

    @property
    def pool(self) -> str:
        """Return `flatten` for a dense network, whose stem takes all values of an image at once."""
        return "flatten" if self.kind == "dense" else "average"

    @property
    def first_conv(self) -> str:
        """Return the key of the convolution applied to the images; empty for a dense network."""
        return "" if self.kind == "dense" else "stem"

    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n classes"]:
        """Return logits, or pooled features if `num_classes` is 0."""
        return self._forward(images, train)[1]

    def features(self, images: Float[Array, "n h w c"], train: bool = False) -> Mapping[str, Array]:
        """Return the maps of the stem and of every stage, by name."""
        return self._forward(images, train)[0]

    @nn.compact
    def _forward(self, images: Images, train: bool) -> tuple[dict[str, Array], Array]:
        check_images(images, self)
        layers = Layers.of(self, train, norm="none")
        dense = self.kind == "dense"
        size, activate = 1 if dense else 3, ACTIVATIONS[self.activation]
        x = images.reshape(images.shape[0], 1, 1, -1) if dense else images
        x = activate(layers.conv(self.widths[0], size, "stem")(x))
        maps = {"stem": x}

        def run(count: int, width: int, x: Images) -> Images:
            for number in range(count):
                arguments = (width, size, self.shortcut, self.carry_bias, layers)
                x = HighwayLayer(*arguments, name=str(number))(x)
            return x

        for number, (count, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True), 1):
            x = max_pool(x, 2, 2) if number > 1 and not dense else x
            x = Scope(name=f"layer{number}")(run, count, width, x)
            maps[f"layer{number}"] = x
        return maps, classify(x, self, train)


class HighwayLayer(nn.Module):
    """A branch and, if it keeps the number of channels, a gate."""

    width: int
    size: int
    shortcut: str
    carry_bias: float
    layers: Layers

    @nn.compact
    def __call__(self, x: Images) -> Images:
        branch = self.layers.conv(self.width, self.size, "branch")(x)
        branch = ACTIVATIONS[self.layers.activation](branch)
        if self.shortcut == "none" or x.shape[-1] != self.width:
            return branch
        transform = transform_gate(x, self.carry_bias, self.layers.dtype, self.size)
        return branch * transform + x * (1 - transform)
