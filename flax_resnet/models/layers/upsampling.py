"""Larger maps from smaller ones: learned, or interpolated."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.models.layers.convolution import Dtype, Images, Initializer, along_channels

# Each output sees one tap, whose inputs fan_in counts once for every tap of the four.
one_tap = nn.initializers.variance_scaling(4.0, "fan_in", "normal", in_axis=-1, out_axis=-2)


class TransposedConv(nn.Module):
    """Turn every pixel into 2x2 pixels of `features` channels, by four matrices and a bias.

    That is a transposed convolution with a 2x2 kernel and stride 2. The kernel has the axes
    (2, 2, outputs, inputs), so that the rule for published convolutions holds for it too.
    """

    features: int
    kernel_init: Initializer = one_tap
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", self.kernel_init, (2, 2, self.features, channels))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        y: Float[Array, "n h 2 w 2 o"] = jnp.einsum(
            "nhwi,aboi->nhawbo", x.astype(self.dtype), kernel.astype(self.dtype)
        )
        y = y.reshape(batch, 2 * height, 2 * width, self.features)
        return y + along_channels(bias, y)


def upsample_bilinear(x: Images) -> Images:
    """Double height and width; pixels are squares, and those at the border repeat beyond it."""
    for axis in (1, 2):
        length, pads = x.shape[axis], [(0, 0)] * 4
        pads[axis] = (1, 1)
        padded = jnp.pad(x, pads, "edge")
        before, after = (lax.slice_in_dim(padded, k, k + length, axis=axis) for k in (0, 2))
        first, second = before / 4 + x * 0.75, after / 4 + x * 0.75
        x = _spread(first, axis, 0) + _spread(second, axis, 1)
    return x


def upsample_nearest(x: Images) -> Images:
    """Double height and width by repeating every pixel."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _spread(x: Images, axis: int, offset: int) -> Images:
    """Write rows (or columns) to every second place, from `offset` on; the others are zero."""
    config: list[Any] = [(0, 0, 0)] * 4
    config[axis] = (offset, 1 - offset, 1)
    return lax.pad(x, jnp.zeros((), x.dtype), config)
