"""The theoretical receptive field, derived from the traced computation.

Along the height of a map, row `i` depends on the rows `stride * i + low` to `stride * i + high` of
the images. After an upsampling, neighboring rows see squares of different sizes, in a pattern that
repeats after a few rows: `low` and `high` are stored for each row of the pattern. Each operation
maps the intervals of its operands to that of its result. Means over whole maps (gates, group norms)
depend on everything; they are left out by convention.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax.extend import core

HEIGHT = 1  # the axis, in NHWC
Span = tuple[int, int] | None  # the first and the last row; None: a row of zeros


class Interval(NamedTuple):
    """The rows that `len(spans)` neighboring rows see; the next ones see `stride` rows further."""

    stride: int
    spans: tuple[Span, ...]

    def span(self, row: int) -> Span:
        """Return the rows that one row depends on."""
        rounds, index = divmod(row, len(self.spans))
        span, shift = self.spans[index], rounds * self.stride
        return span and (span[0] + shift, span[1] + shift)


class Field(NamedTuple):
    """A receptive field: the side of the (largest) square, and its stride in pixels."""

    size: int
    stride: int


def receptive_fields(
    function: Callable[..., dict[str, Any]], images: Any, *args: Any
) -> dict[str, Field]:
    """Return the receptive field of each map that `function(images, *args)` returns, by name."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(images, *args)
    count = len(closed.jaxpr.invars)
    intervals = _propagate(closed.jaxpr, [Interval(1, ((0, 0),))] + [None] * (count - 1))
    return {
        name: Field(
            max(span[1] - span[0] + 1 for span in interval.spans if span),
            interval.stride // len(interval.spans),
        )
        for name, interval in zip(sorted(shapes), intervals, strict=True)
        if interval is not None
    }


def _propagate(jaxpr: Any, inputs: list[Interval | None]) -> list[Interval | None]:
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def interval_of(atom: Any) -> Interval | None:
        return None if isinstance(atom, core.Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        operands = [interval_of(atom) for atom in equation.invars]
        inner = _inner(equation.params)
        if inner is not None:  # a call; a branch takes its index as an additional first operand
            results = _propagate(inner, operands[len(operands) - len(inner.invars) :])
        else:
            results = [_apply(equation, operands)] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return [interval_of(atom) for atom in jaxpr.outvars]


def _inner(params: dict[str, Any]) -> Any:
    """Return the body of a call, or the last of several branches: the one for all platforms."""
    for value in params.values():
        last = value[-1] if isinstance(value, tuple) and value else value
        if isinstance(last, core.ClosedJaxpr):
            return last.jaxpr
        if isinstance(last, core.Jaxpr):
            return last
    return None


def _apply(equation: Any, operands: list[Interval | None]) -> Interval | None:
    """Return the interval of the results of one operation."""
    name, params = equation.primitive.name, equation.params
    shapes = [atom.aval.shape for atom in equation.invars]
    if name == "concatenate" and params["dimension"] == HEIGHT:
        # Borders that mirror or repeat the map: the rows are counted from the map itself.
        longest = max(range(len(shapes)), key=lambda index: shapes[index][HEIGHT])
        before = sum(shape[HEIGHT] for shape in shapes[:longest])
        return _window(operands[longest], start=-before)
    if name in OPERATIONS:
        return OPERATIONS[name](operands[0], shapes, params)
    known = [interval for interval in operands if interval is not None]
    if not known or len(equation.outvars[0].aval.shape) <= HEIGHT:
        return None
    return _merge(known)


def _merge(intervals: list[Interval]) -> Interval:
    """Return the interval of an elementwise function of several maps."""
    period = math.lcm(*(len(interval.spans) for interval in intervals))
    stride = intervals[0].stride * period // len(intervals[0].spans)
    rows = range(period)
    return Interval(stride, tuple(_union(part.span(row) for part in intervals) for row in rows))


def _union(spans: Iterable[Span]) -> Span:
    known = [span for span in spans if span is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _window(
    interval: Interval | None, start: int = 0, extent: int = 1, stride: int = 1
) -> Interval | None:
    """Return the interval of windows of `extent` rows, the first of which begins at row `start`."""
    if interval is None:
        return None
    period = math.lcm(len(interval.spans), stride) // stride
    firsts = (start + stride * row for row in range(period))
    spans = tuple(_union(interval.span(first + k) for k in range(extent)) for first in firsts)
    return Interval(interval.stride * stride * period // len(interval.spans), spans)


def _slice(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    stride = params["strides"][HEIGHT] if params["strides"] else 1
    return _window(interval, start=params["start_indices"][HEIGHT], stride=stride)


def _pad(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    low, _, between = params["padding_config"][HEIGHT]
    if interval is not None and between:
        spans = (part for span in interval.spans for part in (span, *(None,) * between))
        interval = Interval(interval.stride, tuple(spans))
    return _window(interval, start=-low)


def _convolve(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    size = shapes[1][params["dimension_numbers"].rhs_spec[2]]
    extent = params["rhs_dilation"][0] * (size - 1) + 1
    return _window(interval, -params["padding"][0][0], extent, params["window_strides"][0])


def _pool(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    window, stride = params["window_dimensions"][HEIGHT], params["window_strides"][HEIGHT]
    return _window(interval, -int(params["padding"][HEIGHT][0]), int(window), int(stride))


def _reduce(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    return None if min(params["axes"]) <= HEIGHT else interval


def _reshape(interval: Interval | None, shapes: Any, params: Any) -> Interval | None:
    old, new, upto = shapes[0], tuple(params["new_sizes"]), slice(HEIGHT + 1)
    if interval is None or old[upto] == new[upto]:
        return interval
    if len(new) > 2 and new[HEIGHT] == math.prod(old[HEIGHT : HEIGHT + 2]):  # rows are repeated
        spans = (span for span in interval.spans for _ in range(old[HEIGHT + 1]))
        return Interval(interval.stride, tuple(spans))
    return None


OPERATIONS: dict[str, Callable[..., Interval | None]] = {
    "slice": _slice,
    "pad": _pad,
    "conv_general_dilated": _convolve,
    "reduce_window_max": _pool,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "reshape": _reshape,
}
