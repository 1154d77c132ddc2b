"""The U-Net: an encoder and a decoder, with skip connections at every resolution."""

import itertools
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
from flax_resnet.models.ends import classify_pixels
from flax_resnet.models.layers import Images, TransposedConv, max_pool, upsample_bilinear

CHOICES = {
    "up": ("transposed", "bilinear"),
    "padding": ("same", "valid"),
    "norm": NORMS,
    "activation": tuple(ACTIVATIONS),
}


class UNet(nn.Module):
    """Classify the pixels of NHWC images (Ronneberger et al., arXiv:1505.04597).

    Keys are `enc1.0`, `enc1.1` (its norm), `enc1.3`, `enc1.4` ... `bottleneck.0` ..., `up4`,
    `dec4.0` ... `out`. Maps and parts are named `layer1` ... (the encoder), `bottleneck`,
    `decoder4` ... `decoder1`, `head`.

    Attributes:
      base_width: channels at full resolution; every level doubles them.
      depth: number of times that the maps are halved.
      up: `transposed` convolutions, or `bilinear` interpolation of maps that have half as many
        channels.
      padding: `same`: logits for every pixel of images of any size; `valid`: convolutions without
        padding, and skip connections cropped (as in the paper: 572 pixels become 388).
      norm, norm_group, frozen, activation: as in `ResNet`.
      biased: give convolutions in front of norms a bias as well.
      dropout: dropout rate after the bottleneck.
      num_classes: outputs for each pixel; 0 returns the last maps instead of logits.
      in_channels: channels of the images.
      image_size: height and width that the network is designed for; others work.
      dtype: compute dtype. Parameters, statistics and logits are float32 at least.
    """

    base_width: int = 64
    depth: int = 4
    up: str = "transposed"
    padding: str = "same"
    norm: str = "batch"
    norm_group: int | None = None
    frozen: str = ""
    activation: str = "relu"
    biased: bool = True
    dropout: float = 0.0
    num_classes: int = 1
    in_channels: int = 3
    image_size: int = 256
    dtype: Any = jnp.float32

    pool = "none"
    head_name = "out"
    first_conv = "enc1.0"

    def __post_init__(self) -> None:
        check_arguments(self, CHOICES)
        super().__post_init__()

    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n y x classes"]:
        """Return logits of every pixel, or the last maps if `num_classes` is 0.

        Raises:
          InputError: padding is `valid` and the size cannot be halved at every level.
        """
        return self._forward(images, train)[1]

    def features(self, images: Float[Array, "n h w c"], train: bool = False) -> Mapping[str, Array]:
        """Return the maps of every level of the encoder and of the decoder, by name.

        With `same` padding they are those of the images padded to a multiple of `2**depth`.
        """
        return self._forward(images, train)[0]

    @nn.compact
    def _forward(self, images: Images, train: bool) -> tuple[dict[str, Array], Array]:
        check_images(images, self)
        layers = Layers.of(self, train)
        height, width = images.shape[1:3]
        if self.padding == "same":
            images = pad_to_multiple(images, 2**self.depth)
        else:
            check_valid(height, width, self.depth)
        convs = dict(biased=self.biased, pad=0 if self.padding == "valid" else None)

        def level_of(name: str, x: Images, widths: tuple[int, int]) -> Images:
            return Scope(name=name)(lambda x: two_convs(x, widths, layers, **convs), x)

        maps, x = {}, images
        for level in range(1, self.depth + 1):
            x = max_pool(x, 2, 2) if level > 1 else x
            x = level_of(f"enc{level}", x, self._widths(level))
            maps[f"layer{level}"] = x
        inner = self.base_width * 2**self.depth // (2 if self.up == "bilinear" else 1)
        x = level_of("bottleneck", max_pool(x, 2, 2), (inner, inner))
        x = nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
        maps["bottleneck"] = x
        for level in range(self.depth, 0, -1):
            x = self._enlarge(x, level)
            x = jnp.concatenate([x, crop(maps[f"layer{level}"], *x.shape[1:3])], axis=-1)
            x = level_of(f"dec{level}", x, self._widths(level, decoder=True))
            maps[f"decoder{level}"] = x
        x = x[:, :height, :width]  # crop the padding
        return maps, classify_pixels(x, self)

    def _widths(self, level: int, *, decoder: bool = False) -> tuple[int, int]:
        """Return the channels of a level's two convolutions."""
        width = self.base_width * 2 ** (level - 1)
        halved = decoder and self.up == "bilinear" and level > 1
        return width, width // 2 if halved else width

    def _enlarge(self, x: Images, level: int) -> Images:
        if self.up == "bilinear":
            return upsample_bilinear(x)
        return TransposedConv(self._widths(level)[0], dtype=self.dtype, name=f"up{level}")(x)


def two_convs(x: Images, widths: tuple[int, int], layers: Layers, **options: Any) -> Images:
    """Convolve twice in the calling scope; numbers 2 and 5 are left to the activations."""
    for index, features in zip((0, 3), widths, strict=True):
        x = layers.conv_norm(x, features, 3, (str(index), str(index + 1)), **options)
    return x


def pad_to_multiple(x: Images, multiple: int) -> Images:
    """Pad with mirrored rows and columns at the bottom and the right, up to a multiple."""
    height, width = (-length % multiple for length in x.shape[1:3])
    if not height and not width:
        return x
    return jnp.pad(x, ((0, 0), (0, height), (0, width), (0, 0)), "symmetric")


def crop(x: Images, height: int, width: int) -> Images:
    """Return the central part of a map."""
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def check_valid(height: int, width: int, depth: int) -> None:
    """Raise `InputError` unless images of this size can be halved without padding."""
    for name, size in (("height", height), ("width", width)):
        if valid_size(size, depth) is None:
            larger = next(s for s in itertools.count(size) if valid_size(s, depth))
            raise InputError(
                f"images have a {name} of {size}, which cannot be halved {depth} times without "
                f"padding; the next size that can is {larger}, or use padding='same'"
            )


def valid_size(size: int, depth: int) -> int | None:
    """Return the size of the logits without padding, or None if it does not exist."""
    for _ in range(depth):
        size -= 4
        if size < 2 or size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(depth):
        size = 2 * size - 4
        if size < 1:
            return None
    return size if size > 0 else None
