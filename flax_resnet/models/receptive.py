"""The theoretical receptive field, read off the computation itself.

Along the height of a map, row `i` of a value depends on the rows `stride * i + low` to
`stride * i + high` of the images. Each operation turns the intervals of its operands into that of
its result. Means over whole maps (gates, group norms) depend on everything; convention leaves
them out, and so does this.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core

HEIGHT = 1  # the axis, in NHWC


class Interval(NamedTuple):
    """Rows that a row of a map depends on."""

    stride: int
    low: int
    high: int


class Field(NamedTuple):
    """A receptive field: the side of the square, and pixels from one to the next."""

    size: int
    stride: int


def receptive_fields(
    function: Callable[..., dict[str, Any]], images: Any, *args: Any
) -> dict[str, Field]:
    """Return the receptive field of each map that `function(images, *args)` returns, by name."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(images, *args)
    count = len(closed.jaxpr.invars)
    intervals = _trace(closed.jaxpr, [Interval(1, 0, 0)] + [None] * (count - 1))
    return {
        name: Field(interval.high - interval.low + 1, interval.stride)
        for name, interval in zip(sorted(shapes), intervals, strict=True)
        if interval is not None
    }


def _trace(jaxpr: Any, inputs: list[Interval | None]) -> list[Interval | None]:
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def look(atom: Any) -> Interval | None:
        return None if isinstance(atom, core.Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        operands = [look(atom) for atom in equation.invars]
        inner = _inner(equation.params)
        if inner is not None:  # a call; a choice of branch has its index in front
            results = _trace(inner, operands[len(operands) - len(inner.invars) :])
        else:
            results = [_apply(equation, operands)] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return [look(atom) for atom in jaxpr.outvars]


def _inner(params: dict[str, Any]) -> Any:
    """Return the body of a call; of branches the last, which is the one for all platforms."""
    for value in params.values():
        last = value[-1] if isinstance(value, tuple) and value else value
        if isinstance(last, core.ClosedJaxpr):
            return last.jaxpr
        if isinstance(last, core.Jaxpr):
            return last
    return None


def _apply(equation: Any, operands: list[Interval | None]) -> Interval | None:
    """Return what the results of one operation depend on."""
    name, params = equation.primitive.name, equation.params
    shapes = [atom.aval.shape for atom in equation.invars]
    if name == "concatenate" and params["dimension"] == HEIGHT:
        # Borders that mirror or repeat the map: the map itself says where its rows are.
        longest = max(range(len(shapes)), key=lambda index: shapes[index][HEIGHT])
        before = sum(shape[HEIGHT] for shape in shapes[:longest])
        return _window(operands[longest], start=-before)
    if name in OPERATIONS:
        return OPERATIONS[name](operands[0], shapes, params)
    known = [interval for interval in operands if interval is not None]
    if not known or len(equation.outvars[0].aval.shape) <= HEIGHT:
        return None
    low, high = min(part.low for part in known), max(part.high for part in known)
    return Interval(known[0].stride, low, high)


def _window(
    interval: Interval | None, start: int = 0, extent: int = 1, stride: int = 1
) -> Interval | None:
    """Look through windows of `extent` rows, the first of which begins at row `start`."""
    if interval is None:
        return None
    step, low, high = interval
    return Interval(step * stride, low + step * start, high + step * (start + extent - 1))


def _slice(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    stride = params["strides"][HEIGHT] if params["strides"] else 1
    return _window(interval, start=params["start_indices"][HEIGHT], stride=stride)


def _pad(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    return _window(interval, start=-params["padding_config"][HEIGHT][0])


def _convolve(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    size = shapes[1][params["dimension_numbers"].rhs_spec[2]]
    extent = params["rhs_dilation"][0] * (size - 1) + 1
    return _window(interval, -params["padding"][0][0], extent, params["window_strides"][0])


def _pool(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    window, stride = params["window_dimensions"][HEIGHT], params["window_strides"][HEIGHT]
    return _window(interval, -params["padding"][HEIGHT][0], int(window), int(stride))


def _reduce(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    return None if min(params["axes"]) <= HEIGHT else interval


def _reshape(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    upto = slice(HEIGHT + 1)
    return interval if shapes[0][upto] == tuple(params["new_sizes"])[upto] else None


OPERATIONS: dict[str, Callable[..., Interval | None]] = {
    "slice": _slice,
    "pad": _pad,
    "conv_general_dilated": _convolve,
    "reduce_window_max": _pool,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "reshape": _reshape,
}
