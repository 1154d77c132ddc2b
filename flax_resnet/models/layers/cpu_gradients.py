"""Matrix products and convolutions with gradients that are fast on XLA:CPU.

They are primitives of their own, so that JAX does not replace their gradients by its own rules.
"""

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


def times_matrix(x: Float[Array, "n *pixels c"], matrix: Float[Array, "c o"]) -> Array:
    """Return `x @ matrix`; both have the same dtype."""
    return _times_matrix(x, matrix)


def convolve(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "k k c o"],
    stride: int,
    dilation: int,
    pad: int,
) -> Float[Array, "n y x o"]:
    """Convolve images with a kernel of the same dtype, with `pad` zeros on each side."""
    return _convolve(x, kernel, stride=stride, dilation=dilation, pad=pad)


def xla_convolution(
    x: Array, kernel: Array, *, stride: int, dilation: int, pad: int, groups: int = 1
) -> Array:
    """Return XLA's own convolution of NHWC images with an HWIO kernel."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad), (pad, pad)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _convolution_to_x(gradient: Array, x: Any, kernel: Array, **settings: int) -> Array:
    return _transposed(lambda x: xla_convolution(x, kernel, **settings), x.aval, gradient)


def _convolution_to_kernel(gradient: Array, x: Array, kernel: Any, **settings: int) -> Array:
    x, gradient = _without_fusion(x), _without_fusion(gradient)
    return _transposed(lambda kernel: xla_convolution(x, kernel, **settings), kernel.aval, gradient)


def _transposed(function: Any, aval: Any, gradient: Array) -> Array:
    like = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    result: Array = jax.linear_transpose(function, like)(gradient)[0]
    return result


def _dot(x: Array, matrix: Array) -> Array:
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())))


def _dot_to_x(gradient: Array, x: Any, matrix: Array) -> Array:
    del x
    return times_matrix(gradient, matrix.T)


def _dot_to_matrix(gradient: Array, x: Array, matrix: Any) -> Array:
    del matrix
    pixels = tuple(range(x.ndim - 1))
    over_pixels = ((pixels, pixels), ((), ()))
    # XLA transposes the first operand. JAX's own rule puts the gradient there, which after a
    # bottleneck has four times as many channels as x.
    if x.shape[-1] < gradient.shape[-1]:
        return lax.dot_general(_without_fusion(x), gradient, over_pixels)
    return lax.dot_general(_without_fusion(gradient), x, over_pixels).T


def _without_fusion(x: Array) -> Array:
    """Return a copy of `x` that XLA does not fuse into the operations that use it.

    XLA:CPU recomputes elementwise operations in each fusion that uses them. This is slow where the
    elements are read in another order, as in the gradient of a kernel; after a chain of residual
    blocks, all sums of the chain are recomputed. Optimization barriers do not help, since XLA
    removes them before fusion; a call that must not be inlined does.
    """
    with set_xla_metadata(inlineable="false"):
        return _identity(x)


@jax.jit
def _identity(x: Array) -> Array:
    return x


def _bilinear(
    function: Bilinear, to_x: Bilinear, to_kernel: Bilinear, settings: tuple[str, ...] = ()
) -> Bilinear:
    """Return `function(x, kernel, **settings)` as a primitive with the given gradients.

    Args:
      function: linear in each of its two arguments, and independent for each row of `x`.
      to_x: returns the gradient for `x`, given `(gradient, x, kernel, **settings)`; of `x` only
        `.aval` is known.
      to_kernel: the same for the kernel.
    """
    primitive = Primitive(function.__name__.strip("_"))

    def bound(x: Array, kernel: Array, **values: Any) -> Array:
        result: Array = primitive.bind(x, kernel, **values)
        return result

    def shape(x: Any, kernel: Any, **values: Any) -> ShapedArray:
        out = jax.eval_shape(partial(function, **values), x, kernel)
        return ShapedArray(out.shape, out.dtype)

    def batched(operands: tuple[Array, Array], axes: tuple[Any, Any], **values: Any) -> Any:
        (x, kernel), (x_axis, kernel_axis) = operands, axes
        if x_axis is None or kernel_axis is not None:
            return jax.vmap(partial(function, **values), axes)(x, kernel), 0
        x = jnp.moveaxis(x, x_axis, 0)
        y = bound(x.reshape(-1, *x.shape[2:]), kernel, **values)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0

    primitive.def_impl(jax.jit(function, static_argnames=settings))
    primitive.def_abstract_eval(shape)
    ad.defbilinear(primitive, to_x, to_kernel)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    return bound


_times_matrix = _bilinear(_dot, _dot_to_x, _dot_to_matrix)
_convolve = _bilinear(
    xla_convolution,
    _convolution_to_x,
    _convolution_to_kernel,
    ("stride", "dilation", "pad"),
)
