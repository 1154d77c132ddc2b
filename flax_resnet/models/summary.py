"""Counts that need no data: parameters, statistics, multiply-adds.

Multiply-adds (MACs) are counted on the traced computation, convolutions and matrix products
alone, padding taps included: the convention of the published tables. XLA's `cost_analysis`
leaves padding taps out and counts elementwise work.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core


def variable_shapes(model: nn.Module) -> dict[str, Any]:
    """Return the variables of `model` as shapes and dtypes, without computing anything."""
    return dict(jax.eval_shape(model.init, jax.random.key(0), _example(model)))


def count_parameters(model: nn.Module, collection: str = "params") -> int:
    """Count the scalars of a collection (`params` or `batch_stats`)."""
    leaves = jax.tree.leaves(variable_shapes(model).get(collection, {}))
    return sum(math.prod(leaf.shape) for leaf in leaves)


def count_macs(model: nn.Module, image_size: int | None = None) -> int:
    """Count the multiply-adds of one image in inference mode."""
    images = _example(model, image_size)
    trace = jax.make_jaxpr(lambda variables, x: model.apply(variables, x))
    return _jaxpr_macs(trace(variable_shapes(model), images).jaxpr)


def _example(model: Any, image_size: int | None = None) -> jax.ShapeDtypeStruct:
    size = image_size or model.image_size
    return jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)


def _conv_macs(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    out_axis = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[out_axis]


def _dot_macs(equation: Any) -> int:
    contracted = equation.params["dimension_numbers"][0][0]
    lhs = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(lhs[axis] for axis in contracted)


COUNTERS: dict[str, Callable[[Any], int]] = {
    "conv_general_dilated": _conv_macs,
    "dot_general": _dot_macs,
}


def _jaxpr_macs(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in COUNTERS:
            total += COUNTERS[name](equation)
            continue
        inner = [_jaxpr_macs(sub) for sub in _sub_jaxprs(equation.params)]
        if name == "cond":  # a choice of branch, such as one per platform: one of them runs
            total += max(inner)
        else:
            total += sum(inner) * equation.params.get("length", 1)
    return total


def _sub_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
