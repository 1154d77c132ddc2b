"""Bilinear functions of images and a kernel, with gradients that XLA:CPU is fast at.

`jax.custom_vjp` knows no forward mode, `linear_call` neither `vmap` nor second derivatives; a
primitive knows them all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

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
