"""Products whose gradients XLA:CPU computes without copies."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Bilinear = Callable[..., Array]


def bilinear(
    function: Bilinear, to_x: Bilinear, to_kernel: Bilinear, settings: tuple[str, ...] = ()
) -> Bilinear:
    """Return `function(x, kernel, **settings)` with its own gradients.

    Args:
      function: linear in each of its two arguments, and the same for every row of `x`.
      to_x: `(gradient, x, kernel, **settings)` to the gradient for `x`, of which only `.aval` is
        known.
      to_kernel: the same for the kernel.
    """
    primitive = Primitive(function.__name__.strip("_"))

    def bound(x: Array, kernel: Array, **how: Any) -> Array:
        value: Array = primitive.bind(x, kernel, **how)
        return value

    def shape(x: Any, kernel: Any, **how: Any) -> ShapedArray:
        out = jax.eval_shape(partial(function, **how), x, kernel)
        return ShapedArray(out.shape, out.dtype)

    def batched(operands: tuple[Array, Array], axes: tuple[Any, Any], **how: Any) -> Any:
        (x, kernel), (of_x, of_kernel) = operands, axes
        if of_x is None or of_kernel is not None:
            return jax.vmap(partial(function, **how), axes)(x, kernel), 0
        x = jnp.moveaxis(x, of_x, 0)
        y = bound(x.reshape(-1, *x.shape[2:]), kernel, **how)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0

    primitive.def_impl(jax.jit(function, static_argnames=settings))
    primitive.def_abstract_eval(shape)
    ad.defbilinear(primitive, to_x, to_kernel)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    return bound


def computed_once(x: Array) -> Array:
    """Return `x` as XLA's fusion cannot see through it, at the price of a copy.

    XLA:CPU computes what is elementwise anew for each of its users. Where the user reads in
    another order, as a kernel's gradient does, that is slow, and behind a chain of residual blocks
    all sums of the chain are computed again. Barriers do not help, they go before fusions come: a
    computation that must not be inlined does.
    """
    with set_xla_metadata(inlineable="false"):
        return _itself(x)


@jax.jit
def _itself(x: Array) -> Array:
    return x


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
