"""A U-Net whose encoder is a classification network."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.design import ACTIVATIONS, Layers, Scope, check_arguments, check_images
from flax_resnet.models.ends import classify_pixels, stem_stride
from flax_resnet.models.layers import Images, upsample_bilinear
from flax_resnet.models.unet import pad_to_multiple, two_convs

# Arguments that are passed on to the encoder.
SHARED = ("in_channels", "image_size", "frozen", "norm_group", "dtype")


class EncoderUNet(nn.Module):
    """Classify the pixels of NHWC images with the features of another network.

    The encoder's variables are `params["encoder"]` and `batch_stats["encoder"]`, equal to those of
    the encoder alone with `num_classes=0`. Each level of the decoder doubles the size by
    interpolation, appends the encoder's last maps of that size, if any, and convolves twice:
    `dec5.0`, `dec5.1` (its norm), `dec5.3`, `dec5.4` ... `dec1.4`, `out`.

    Attributes:
      encoder: a `ResNet` or a `DenseNet`; `create_model` accepts its name too. It takes over
        in_channels, image_size, frozen, norm_group and dtype of this network.
      decoder_widths: channels at each size, the smallest first; the last is the images' size.
      norm: norm of encoder and decoder; None: the encoder's.
      norm_group, frozen, activation: as in `ResNet`.
      num_classes: outputs for each pixel; 0 returns the last maps instead of logits.
      in_channels: channels of the images.
      image_size: height and width that the network is designed for; others work.
      dtype: compute dtype. Parameters, statistics and logits are float32 at least.
    """

    encoder: Any
    decoder_widths: tuple[int, ...] = (256, 128, 64, 32, 32)
    norm: str | None = None
    norm_group: int | None = None
    frozen: str = ""
    activation: str = "relu"
    num_classes: int = 1
    in_channels: int = 3
    image_size: int = 224
    dtype: Any = jnp.float32

    pool = "none"
    head_name = "out"

    def __post_init__(self) -> None:
        check_arguments(self, {"activation": tuple(ACTIVATIONS)})
        if not hasattr(self.encoder, "stem"):
            raise InputError(
                f"encoder is a {type(self.encoder).__name__}; expected a ResNet or a DenseNet, as "
                "create_model returns them"
            )
        if self.norm is None:
            object.__setattr__(self, "norm", self.encoder.norm)
        shared = {name: getattr(self, name) for name in (*SHARED, "norm")}
        object.__setattr__(self, "encoder", self.encoder.clone(num_classes=0, **shared))
        object.__setattr__(self, "decoder_widths", tuple(self.decoder_widths))
        if len(self.decoder_widths) != self._doublings:
            raise InputError(
                f"decoder_widths has {len(self.decoder_widths)} entries; expected "
                f"{self._doublings}, one for each doubling up to the images' size"
            )
        super().__post_init__()

    @property
    def stride(self) -> int:
        """Return the stride of the encoder's last maps."""
        return int(stem_stride(self.encoder) * 2 ** (len(self.encoder.stage_sizes) - 1))

    @property
    def first_conv(self) -> str:
        """Return the key of the convolution applied to the images."""
        return f"encoder.{self.encoder.first_conv}"

    @property
    def _doublings(self) -> int:
        return int(math.log2(self.stride))

    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n h w classes"]:
        """Return logits of every pixel, or the last maps if `num_classes` is 0."""
        return self._forward(images, train)[1]

    def features(self, images: Float[Array, "n h w c"], train: bool = False) -> Mapping[str, Array]:
        """Return the encoder's maps and those of every level of the decoder, by name.

        They are those of the images padded to a multiple of the encoder's stride.
        """
        return self._forward(images, train)[0]

    @nn.compact
    def _forward(self, images: Images, train: bool) -> tuple[dict[str, Array], Array]:
        check_images(images, self)
        layers = Layers.of(self, train)
        height, width = images.shape[1:3]
        images = pad_to_multiple(images, self.stride)
        maps = dict(self.encoder.features(images, train))
        skips = {value.shape[1]: value for value in maps.values()}  # the last maps of each size
        x = maps[next(reversed(maps))]
        for level, features in zip(range(self._doublings, 0, -1), self.decoder_widths, strict=True):
            x = upsample_bilinear(x)
            if x.shape[1] in skips:
                x = jnp.concatenate([x, skips[x.shape[1]]], axis=-1)
            x = Scope(name=f"dec{level}")(two_convs, x, (features, features), layers)
            maps[f"decoder{level}"] = x
        return maps, classify_pixels(x[:, :height, :width], self)
