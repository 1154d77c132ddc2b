"""Convolutions and linear layers, with the conventions of the published weights.

Images are NHWC, kernels HWIO. Padding is explicit and symmetric: XLA's `SAME` pads a strided
convolution on one side only, which would change the published logits.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.models.layers.cpu_gradients import convolve, times_matrix, xla_convolution
from flax_resnet.onednn.choice import ONEDNN, cpu_kernels

Dtype = Any
Initializer = Callable[..., Array]
# NHWC; the axes have no names because layers change their lengths.
Images = Float[Array, "_ _ _ _"]

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
linear_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv2d(
    x: Images,
    kernel: Float[Array, "k k c o"],
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: int | None = None,
) -> Images:
    """Convolve NHWC images with an odd square HWIO kernel.

    Args:
      pad: rows and columns of zeros on each side; None: half of the kernel's extent.
    """
    pad = dilation * (kernel.shape[0] - 1) // 2 if pad is None else pad
    if cpu_kernels.value == ONEDNN and x.dtype == jnp.float32:
        # Loaded only here, because its packages are optional.
        onednn = importlib.import_module("flax_resnet.onednn.primitives")
        settings = dict(stride=stride, dilation=dilation, pad=pad, groups=groups)
        return cast(Images, onednn.convolve(x, kernel, **settings))
    # Only XLA:CPU needs the other formulations.
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _on_cpu(x, kernel, stride, dilation, groups, pad),
        default=lambda x, kernel: xla_convolution(
            x, kernel, stride=stride, dilation=dilation, pad=pad, groups=groups
        ),
    )


def _is_matrix_product(x: Images, kernel: Array, stride: int, dilation: int, pad: int) -> bool:
    """Return whether XLA:CPU is faster with a matrix product than with its own convolution.

    This holds for 1x1 convolutions (ResNet-50 trains 1.6 times faster), and if the output is not
    larger than the kernel, which XLA:CPU has no fast path for: a 3x3 convolution of 2x2 pixels and
    512 channels takes 200 times as long.
    """
    size = kernel.shape[0]
    reach = dilation * (size - 1)
    height, width = ((length + 2 * pad - reach - 1) // stride + 1 for length in x.shape[1:3])
    return size == 1 or min(height, width) <= reach + 1


def _on_cpu(x: Images, kernel: Array, stride: int, dilation: int, groups: int, pad: int) -> Images:
    if groups == 1:
        if _is_matrix_product(x, kernel, stride, dilation, pad):
            return _matrix_product(x, kernel, stride, dilation, pad)
        return convolve(x, kernel, stride, dilation, pad)
    # The gradient of a grouped convolution takes XLA:CPU ten to twenty times as long as that of a
    # few dense convolutions, each of several groups with zeros between them.
    blocks = math.gcd(groups, 4)
    many, (size, _, channels, features) = groups // blocks, kernel.shape
    spread = kernel.reshape(size, size, 1, channels, blocks, many, -1)
    spread = spread * jnp.eye(many, dtype=kernel.dtype)[None, None, :, None, None, :, None]
    dense = spread.reshape(size, size, many * channels, features)
    parts = zip(jnp.split(x, blocks, -1), jnp.split(dense, blocks, -1), strict=True)
    return jnp.concatenate([_on_cpu(a, b, stride, dilation, 1, pad) for a, b in parts], -1)


def _matrix_product(x: Images, kernel: Array, stride: int, dilation: int, pad: int) -> Images:
    size, features = kernel.shape[0], kernel.shape[-1]
    height, width = (length + 2 * pad - dilation * (size - 1) for length in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    offsets = range(0, size * dilation, dilation)
    taps = [
        x[:, top : top + height : stride, left : left + width : stride]
        for top in offsets
        for left in offsets
    ]
    return times_matrix(jnp.concatenate(taps, -1), kernel.reshape(-1, features))


class Conv(nn.Module):
    """Convolve with a square kernel, stored in float32 and applied in `dtype`.

    If `standardize` is a number, the kernel of each output is shifted to mean 0 and scaled to
    variance 1 before it is applied, with this number added to the variance (Qiao et al.,
    arXiv:1903.10520). `pad` is as in `conv2d`.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    pad: int | None = None
    standardize: float | None = None
    kernel_init: Initializer = he_normal
    bias_init: Initializer = nn.initializers.zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        size = self.kernel_size
        shape = (size, size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        if self.standardize is not None:
            kernel = _standardized(kernel, self.standardize)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = conv2d(x, kernel, self.stride, self.dilation, self.groups, self.pad)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
            y = y + along_channels(bias.astype(self.dtype), y)
        return y


def _standardized(kernel: Float[Array, "k k c o"], epsilon: float) -> Float[Array, "k k c o"]:
    axes = (0, 1, 2)
    centered = kernel - kernel.mean(axes, keepdims=True)
    return centered * lax.rsqrt(lax.square(centered).mean(axes, keepdims=True) + epsilon)


def along_channels(vector: Float[Array, " c"], x: Array) -> Array:
    """Reshape a vector of one value per channel so that it broadcasts over `x`."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def at_least_float32(x: Array) -> Array:
    """Convert half precision to float32, for sums and heads; float64 is unchanged."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Linear(nn.Module):
    """Multiply by a matrix and add a bias, in float32 at least."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n o"]:
        x = at_least_float32(x)
        kernel = self.param("kernel", linear_uniform, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ kernel.astype(x.dtype) + along_channels(bias.astype(x.dtype), x)
