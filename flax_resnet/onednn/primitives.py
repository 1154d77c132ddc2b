"""oneDNN's convolution and its two gradients as primitives.

Each is linear in both operands, and its gradients are the other two: so all derivatives exist.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from flax_resnet.onednn import convolution


def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k i o"], **settings: int
) -> Float[Array, "n y x o"]:
    """Convolve float32 images; the settings are stride, dilation, pad and groups."""
    result: Array = _forward.bind(x, kernel, **settings)
    return result


def _primitive(function: Callable[..., Array], to_first: Any, to_second: Any) -> Primitive:
    """Return `function(first, second, **settings)` as a primitive with the given gradients."""
    primitive = Primitive(f"onednn_{function.__name__}")

    def shape(*operands: Any, **settings: Any) -> ShapedArray:
        out = jax.eval_shape(partial(function, **settings), *operands)
        return ShapedArray(out.shape, out.dtype)

    def batched(operands: Any, axes: Any, **settings: Any) -> tuple[Array, int]:
        return jax.vmap(partial(function, **settings), axes)(*operands), 0

    def evaluated(*operands: Array, **settings: Any) -> Array:
        return jax.jit(partial(function, **settings))(*operands)

    primitive.def_impl(evaluated)
    primitive.def_abstract_eval(shape)
    ad.defbilinear(primitive, to_first, to_second)
    batching.primitive_batchers[primitive] = batched
    lowering = mlir.lower_fun(function, multiple_results=False)
    mlir.register_lowering(primitive, lowering, platform="cpu")
    return primitive


_forward: Primitive = _primitive(
    convolution.forward,
    lambda g, x, kernel, **settings: _images.bind(g, kernel, shape=x.aval.shape, **settings),
    lambda g, x, kernel, **settings: _kernel.bind(x, g, shape=kernel.aval.shape, **settings),
)
_images: Primitive = _primitive(
    convolution.to_images,
    lambda g, y, kernel, shape, **settings: _forward.bind(g, kernel, **settings),
    lambda g, y, kernel, shape, **settings: _kernel.bind(g, y, shape=kernel.aval.shape, **settings),
)
_kernel: Primitive = _primitive(
    convolution.to_kernel,
    lambda g, x, y, shape, **settings: _images.bind(y, g, shape=x.aval.shape, **settings),
    lambda g, x, y, shape, **settings: _forward.bind(x, g, **settings),
)
