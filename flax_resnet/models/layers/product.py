"""Channels times a matrix, and convolutions with a kernel, as XLA:CPU is fast at them.

What is slow there is the kernel's gradient. It sums over all pixels, for which XLA:CPU turns an
operand of a product, and both of a convolution, around. That was a third of ResNet-50's step and
two fifths of the small CIFAR networks': batch norm and the residual sums were computed again for
it, value by value, in an order that memory is slow at.
"""

from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.models.layers.bilinear import bilinear, computed_once


def times_matrix(x: Float[Array, "n *pixels c"], matrix: Float[Array, "c o"]) -> Array:
    """Return `x @ matrix`, of one dtype."""
    return _times_matrix(x, matrix)


def convolve(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "k k c o"],
    stride: int,
    dilation: int,
    pad: int,
) -> Float[Array, "n y x o"]:
    """Convolve images with a kernel, of one dtype, with `pad` rows of zeros on each side."""
    return _convolve(x, kernel, stride=stride, dilation=dilation, pad=pad)


def _dot(x: Array, matrix: Array) -> Array:
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())))


def _dot_to_x(gradient: Array, x: Any, matrix: Array) -> Array:
    del x
    return times_matrix(gradient, matrix.T)


def _dot_to_matrix(gradient: Array, x: Array, matrix: Any) -> Array:
    del matrix
    pixels = tuple(range(x.ndim - 1))
    over_pixels = ((pixels, pixels), ((), ()))
    # The first one is turned. JAX's own rule has the gradient there, which behind a bottleneck
    # has four times the channels.
    if x.shape[-1] < gradient.shape[-1]:
        return lax.dot_general(computed_once(x), gradient, over_pixels)
    return lax.dot_general(computed_once(gradient), x, over_pixels).T


def _convolution(x: Array, kernel: Array, *, stride: int, dilation: int, pad: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad), (pad, pad)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolution_to_x(gradient: Array, x: Any, kernel: Array, **how: int) -> Array:
    return _transposed(lambda x: _convolution(x, kernel, **how), x.aval, gradient)


def _convolution_to_kernel(gradient: Array, x: Array, kernel: Any, **how: int) -> Array:
    x, gradient = computed_once(x), computed_once(gradient)
    return _transposed(lambda kernel: _convolution(x, kernel, **how), kernel.aval, gradient)


def _transposed(function: Any, aval: Any, gradient: Array) -> Array:
    like = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    result: Array = jax.linear_transpose(function, like)(gradient)[0]
    return result


_times_matrix = bilinear(_dot, _dot_to_x, _dot_to_matrix)
_convolve = bilinear(
    _convolution, _convolution_to_x, _convolution_to_kernel, ("stride", "dilation", "pad")
)
