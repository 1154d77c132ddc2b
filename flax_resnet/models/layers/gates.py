"""Gates: channel attention, and the transform gate of highway networks."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.models.layers.convolution import Conv, Dtype, Images, linear_uniform
from flax_resnet.models.layers.resampling import global_average_pool


def make_divisible(
    channels: float, divisor: int = 8, least: int | None = None, round_limit: float = 0.9
) -> int:
    """Return a multiple of `divisor` near `channels`, at least `round_limit` of `channels`."""
    rounded = max(least or divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * channels else rounded


def transform_gate(x: Images, carry_bias: float, dtype: Dtype, size: int = 1) -> Images:
    """Return T = sigmoid(convolution of x), of the shape of x, with a layer in the calling scope.

    Highway networks (Srivastava et al., arXiv:1505.00387) add H * T and x * (1 - T). The kernel of
    the convolution, `transform`, starts at zero. The more negative the initial bias, the more of x
    is passed on at first.
    """
    gate = Conv(
        x.shape[-1],
        size,
        use_bias=True,
        kernel_init=nn.initializers.zeros,
        bias_init=nn.initializers.constant(carry_bias),
        dtype=dtype,
        name="transform",
    )
    return jax.nn.sigmoid(gate(x))


class SqueezeExcite(nn.Module):
    """Scale channels by a two-layer network of their means (Hu et al., arXiv:1709.01507).

    The hidden width is `ratio` of the channels, rounded to the nearest multiple of 8.
    """

    ratio: float = 1 / 16
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        channels = x.shape[-1]
        hidden = make_divisible(channels * self.ratio, round_limit=0.0)
        y = global_average_pool(x)[:, None, None]
        y = Conv(hidden, 1, use_bias=True, dtype=self.dtype, name="fc1")(y)
        y = Conv(channels, 1, use_bias=True, dtype=self.dtype, name="fc2")(jax.nn.relu(y))
        return x * jax.nn.sigmoid(y)


class EfficientChannelAttention(nn.Module):
    """Scale each channel by a function of its neighbors' means (Wang et al., arXiv:1910.03151).

    The width of the neighborhood grows with the logarithm of `channels`: the number of channels
    before pruning, if `x` is pruned.
    """

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        extent = int((math.log2(self.channels) + 1) / 2)
        extent = max(extent + (extent + 1) % 2, 3)
        y = ChannelConv(extent, name="conv")(global_average_pool(x))
        return x * jax.nn.sigmoid(y)[:, None, None].astype(self.dtype)


class ChannelConv(nn.Module):
    """Convolve along the channels of a vector with one kernel."""

    kernel_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n c"]:
        size, channels = self.kernel_size, x.shape[-1]
        kernel = self.param("kernel", linear_uniform, (size, 1, 1)).astype(x.dtype)
        pad = (size - 1) // 2
        padded = jnp.pad(x, ((0, 0), (pad, pad)))
        taps = [padded[:, start : start + channels] for start in range(size)]
        return jnp.einsum("knc,k->nc", jnp.stack(taps), kernel[:, 0, 0])
