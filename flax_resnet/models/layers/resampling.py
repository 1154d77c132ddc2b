"""Layers that change the size of maps: pooling, blurring and upsampling."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.models.layers.convolution import (
    Dtype,
    Images,
    Initializer,
    along_channels,
    at_least_float32,
)


def max_pool(x: Images, window: int = 3, stride: int = 2, border: float = -np.inf) -> Images:
    """Return maxima over square windows; maps are padded with `border` if `window` is odd.

    The gradient goes to the first maximum of a window, as in torch. XLA's own gradient is a
    scatter. A TPU has an operation for it; on a GPU it takes four times the bytes and is not
    deterministic, and ours would pad nine arrays on a TPU.
    """
    return lax.platform_dependent(
        x,
        tpu=lambda x: _xla_max_pool(x, window, stride, border),
        default=lambda x: _max_pool(x, window, stride, border),
    )


def _xla_max_pool(x: Images, window: int, stride: int, border: float) -> Images:
    padded = _pad(x, (window - 1) // 2, border)
    return nn.max_pool(padded, (window, window), (stride, stride), "VALID")


_max_pool = jax.custom_vjp(_xla_max_pool, nondiff_argnums=(1, 2, 3))


def _max_pool_forward(x: Images, window: int, stride: int, border: float) -> tuple[Images, Any]:
    padded = _pad(x, (window - 1) // 2, border)
    height, width = ((length - window) // stride + 1 for length in padded.shape[1:3])
    (_, rows, columns), *others = _taps(window, stride, height, width)
    y = padded[:, rows, columns]
    # The position of the maximum is stored: a comparison with the maximum in the backward pass
    # would fail if the compiler recomputes x and rounds it differently.
    winner = jnp.zeros(y.shape, jnp.int8)
    for number, rows, columns in others:
        tap = padded[:, rows, columns]
        winner = jnp.where(tap > y, jnp.int8(number), winner)
        y = jnp.maximum(y, tap)
    return y, (winner, jnp.zeros((0, *x.shape[1:3])))  # the second carries the shape of x


def _max_pool_backward(
    window: int, stride: int, border: float, kept: Any, gradient: Images
) -> tuple[Images]:
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


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _pad(x: Images, pad: int, border: float) -> Images:
    value = jnp.asarray(border, x.dtype)
    return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=value)


def _taps(window: int, stride: int, height: int, width: int) -> list[tuple[int, slice, slice]]:
    """Return number, rows and columns of each position in the windows, for outputs of this size."""
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


def average_pool(x: Images, window: int = 2, stride: int = 2) -> Images:
    """Return averages over square windows; zero padding of odd windows counts.

    Even windows have no padding, so the last row or column of an odd number is left out.
    """
    padded = _pad(x, (window - 1) // 2, 0.0)
    height, width = ((length - window) // stride + 1 for length in padded.shape[1:3])
    total, *taps = (padded[:, rows, cols] for _, rows, cols in _taps(window, stride, height, width))
    for tap in taps:
        total = total + tap
    return total / window**2


def average_pairs(x: Images) -> Images:
    """Return averages over 2x2 windows; at the end of an odd side, over the remaining pixels."""
    height, width = x.shape[1:3]
    return average_pool(jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge"))


def blur_pool(x: Images, stride: int = 2) -> Images:
    """Blur with the binomial 3x3 kernel and mirrored borders, then take every `stride`-th pixel.

    Zhang, Making Convolutional Networks Shift-Invariant Again (arXiv:1904.11486).
    """
    for axis in (1, 2):
        length, pads = x.shape[axis], [(0, 0)] * 4
        pads[axis] = (1, 1)
        padded = jnp.pad(x, pads, "reflect")
        before, here, after = (
            lax.slice_in_dim(padded, start, start + length, stride, axis) for start in range(3)
        )
        x = before / 4 + here / 2 + after / 4
    return x


def global_average_pool(x: Images) -> Float[Array, "n c"]:
    """Return averages over height and width, computed in float32 at least."""
    return at_least_float32(x).mean((1, 2))


# Each output depends on one tap, but fan_in counts the inputs of all four.
one_tap = nn.initializers.variance_scaling(4.0, "fan_in", "normal", in_axis=-1, out_axis=-2)


class TransposedConv(nn.Module):
    """Apply a transposed convolution with a 2x2 kernel and stride 2.

    The kernel has the axes (2, 2, outputs, inputs), so that published weights are converted by the
    same rule as those of other convolutions.
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
    """Double height and width, with half-pixel centers and repeated borders."""
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
    """Insert a zero row (or column) before (offset 1) or after (offset 0) each row."""
    config: list[Any] = [(0, 0, 0)] * 4
    config[axis] = (offset, 1 - offset, 1)
    return lax.pad(x, jnp.zeros((), x.dtype), config)
