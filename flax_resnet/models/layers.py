"""Convolution, normalisation and pooling, with the conventions of the published weights.

Images are NHWC, kernels HWIO. Padding is explicit and symmetric: XLA's `SAME` pads a strided
convolution on one side only, and published logits do not survive that.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.errors import InputError

Dtype = Any
Initializer = Callable[..., Array]
# NHWC; the axes are anonymous, for layers change them.
Images = Float[Array, "_ _ _ _"]

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
linear_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv2d(x: Images, kernel: Float[Array, "k k c o"], stride: int = 1) -> Images:
    """Convolve NHWC images with an odd square HWIO kernel, padded symmetrically by (k - 1) / 2."""
    size = kernel.shape[0]
    height, width = (-(-length // stride) for length in x.shape[1:3])
    if size > 1 and min(height, width) > size:
        return _convolution(x, kernel, stride)
    # A 1x1 convolution is a matrix product, and XLA:CPU does not see that: ResNet-50 trains 1.6
    # times faster this way. And where the output is no larger than the kernel it leaves its fast
    # path: 3x3 over 2x2 pixels and 512 channels takes 200 times as long. Accelerators know better.
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_matrix_product, stride=stride),
        default=functools.partial(_convolution, stride=stride),
    )


def _convolution(x: Images, kernel: Array, stride: int) -> Images:
    pad = (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad), (pad, pad)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _matrix_product(x: Images, kernel: Array, stride: int) -> Images:
    size, _, _, features = kernel.shape
    pad = (size - 1) // 2
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [
        x[:, top : top + height : stride, left : left + width : stride]
        for top in range(size)
        for left in range(size)
    ]
    return jnp.einsum("nhwc,co->nhwo", jnp.concatenate(taps, -1), kernel.reshape(-1, features))


class Conv(nn.Module):
    """Convolve with a square kernel, stored in float32 and applied in `dtype`."""

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        size = self.kernel_size
        kernel = self.param("kernel", he_normal, (size, size, x.shape[-1], self.features))
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + along_channels(bias.astype(self.dtype), y)
        return y


def along_channels(vector: Float[Array, " c"], x: Array) -> Array:
    """Shape a vector of one value a channel so that it broadcasts over `x`."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


class BatchNorm(nn.Module):
    """Normalise channels over the batch, or over ghost batches of `group_size` images.

    The running variance is updated with the unbiased estimate, n / (n - 1), as torch does it;
    Flax's own layer keeps the biased one. Sums are taken in float32 at least, whatever the
    compute dtype. `group_size=None` takes the global batch: under `jit` over a mesh that is the
    batch of all devices. Groups are consecutive images, so they stay on one device where
    `group_size` divides the batch of a device (Hoffer et al., arXiv:1705.08741). With groups the
    running statistics move towards the mean of the groups' statistics.

    Raises:
      InputError: the batch is no multiple of `group_size`, or a group has one value a channel.
    """

    group_size: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, train: bool = False) -> Images:
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            mean, var = running_mean.value, running_var.value
            return self._normalize(x, along_channels(mean, x), along_channels(var, x), scale, bias)

        groups = _split_groups(x, self.group_size)
        count = groups.size // (groups.shape[0] * groups.shape[-1])
        if count == 1:
            raise InputError(
                "batch normalisation in training mode needs more than one value per channel, "
                f"but a batch-norm group has shape {groups.shape[1:]}: "
                "use a larger batch or image, or train=False"
            )
        mean, var = _moments(groups)
        y = self._normalize(groups, mean, var, scale, bias).reshape(x.shape)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            unbiased = var.mean((0, 1, 2, 3)) * (count / (count - 1))
            running_mean.value += (1 - self.momentum) * (
                mean.mean((0, 1, 2, 3)) - running_mean.value
            )
            running_var.value += (1 - self.momentum) * (unbiased - running_var.value)
        return y

    def _normalize(self, x: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
        factor = along_channels(scale, x) * lax.rsqrt(var + self.epsilon)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        y = (x.astype(wide) - mean) * factor + along_channels(bias, x)
        return y.astype(self.dtype)


def _split_groups(x: Images, group_size: int | None) -> Float[Array, "g k h w c"]:
    size = x.shape[0] if group_size is None else group_size
    if size < 1 or x.shape[0] % size:
        raise InputError(
            f"a batch of {x.shape[0]} images cannot be split into batch-norm groups of {size}: "
            "make the batch size a multiple of the group size"
        )
    return x.reshape(-1, size, *x.shape[1:])


def _moments(groups: Float[Array, "g k h w c"]) -> tuple[Array, Array]:
    """Return mean and biased variance of each group in one pass, shaped to broadcast."""
    wide = groups.astype(jnp.promote_types(groups.dtype, jnp.float32))
    axes = (1, 2, 3)
    mean = wide.mean(axes, keepdims=True)
    square = lax.square(wide).mean(axes, keepdims=True)
    return mean, jnp.maximum(square - lax.square(mean), 0)


class Linear(nn.Module):
    """Map features to outputs with a matrix and a bias; float32 at least, whatever the dtype."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n o"]:
        kernel = self.param("kernel", linear_uniform, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return x.astype(wide) @ kernel.astype(wide) + along_channels(bias.astype(wide), x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: Images, window: int = 3, stride: int = 2) -> Images:
    """Take maxima over square windows, padded symmetrically with minus infinity.

    The gradient goes to the first maximum of a window, as in torch. XLA's own gradient is a
    scatter, which gathers a batch that is split over devices onto each of them.
    """
    pad = (window - 1) // 2
    return nn.max_pool(x, (window, window), (stride, stride), [(pad, pad), (pad, pad)])


def _max_pool_forward(x: Images, window: int, stride: int) -> tuple[Images, Any]:
    pad = (window - 1) // 2
    height, width = ((length - 1) // stride + 1 for length in x.shape[1:3])
    lowest = jnp.asarray(-jnp.inf, x.dtype)
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=lowest)
    (_, rows, columns), *others = _taps(window, stride, height, width)
    y = padded[:, rows, columns]
    # Keeping the winner's number, and not comparing with the maximum later on, holds up when the
    # compiler computes x a second time and rounds it differently.
    winner = jnp.zeros(y.shape, jnp.int8)
    for number, rows, columns in others:
        tap = padded[:, rows, columns]
        winner = jnp.where(tap > y, jnp.int8(number), winner)
        y = jnp.maximum(y, tap)
    return y, (winner, jnp.zeros((0, *x.shape[1:3])))  # the second one carries a shape


def _max_pool_backward(window: int, stride: int, kept: Any, gradient: Images) -> tuple[Images]:
    winner, shape = kept
    (height, width), pad = shape.shape[1:], (window - 1) // 2
    padded = (len(gradient), height + 2 * pad, width + 2 * pad, gradient.shape[-1])
    result, zero = jnp.zeros(padded, gradient.dtype), jnp.zeros((), gradient.dtype)
    for number, *slices in _taps(window, stride, *gradient.shape[1:3]):
        spread = [
            (taps.start, padded[axis] - taps.stop, stride - 1)
            for axis, taps in zip((1, 2), slices, strict=True)
        ]
        tap = jnp.where(winner == number, gradient, zero)
        result += lax.pad(tap, zero, ((0, 0, 0), *spread, (0, 0, 0)))
    return (result[:, pad : pad + height, pad : pad + width],)


def _taps(window: int, stride: int, height: int, width: int) -> list[tuple[int, slice, slice]]:
    """Return number, rows and columns of each place in the windows, for outputs of this size."""
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    return [
        (
            top * window + left,
            slice(top, top + rows, stride),
            slice(left, left + columns, stride),
        )
        for top in range(window)
        for left in range(window)
    ]


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def global_average_pool(x: Images) -> Float[Array, "n c"]:
    """Average over height and width, summed in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))


relu = jax.nn.relu
