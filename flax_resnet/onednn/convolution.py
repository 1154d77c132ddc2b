"""Convolutions and their gradients as calls of oneDNN, in float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flax_resnet.onednn.handler import TARGET, prepare
from flax_resnet.onednn.plans import Convolution, Kind


def forward(x: Array, kernel: Array, **settings: int) -> Array:
    """Return the convolution."""
    shape = _output(x.shape, kernel.shape, **settings)
    return _call(Kind.FORWARD, x.shape, kernel.shape, shape, (x, kernel), **settings)


def to_images(gradient: Array, kernel: Array, *, shape: Any, **settings: int) -> Array:
    """Return the gradient for images of this shape."""
    operands = gradient, kernel
    return _call(Kind.TO_IMAGES, shape, kernel.shape, gradient.shape, operands, **settings)


def to_kernel(x: Array, gradient: Array, *, shape: Any, **settings: int) -> Array:
    """Return the gradient for a kernel of this shape."""
    return _call(Kind.TO_KERNEL, x.shape, shape, gradient.shape, (x, gradient), **settings)


def _output(images: Any, kernel: Any, *, stride: int, dilation: int, pad: int, groups: int) -> Any:
    reach = dilation * (kernel[0] - 1) + 1
    sizes = [(length + 2 * pad - reach) // stride + 1 for length in images[1:3]]
    return (images[0], *sizes, kernel[3])


def fused(
    x: Array,
    kernel: Array,
    bias: Array,
    summand: Array | None = None,
    *,
    relu: bool,
    **settings: int,
) -> Array:
    """Return the convolution plus bias and summand, and its positive part if `relu`."""
    shape = _output(x.shape, kernel.shape, **settings)
    operands = (x, kernel, bias) + (() if summand is None else (summand,))
    extra = dict(bias=True, summand=summand is not None, relu=relu)
    return _call(Kind.FORWARD, x.shape, kernel.shape, shape, operands, **settings, **extra)


def _call(
    kind: Kind, images: Any, kernel: Any, output: Any, operands: Any, **settings: Any
) -> Array:
    case = Convolution(kind, tuple(images), tuple(kernel), tuple(output), **settings)
    key, workspace = prepare(case)
    shape = {Kind.FORWARD: output, Kind.TO_IMAGES: images, Kind.TO_KERNEL: kernel}[kind]
    results = (
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct((workspace,), jnp.uint8),
    )
    call = jax.ffi.ffi_call(TARGET, results, vmap_method="sequential")
    return call(*operands, plan=np.int64(key))[0]
