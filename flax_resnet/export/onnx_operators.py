"""Write the primitives of inference as nodes of an ONNX graph; `OPERATORS` is the table of them.

The jaxpr is traced for a single image. In these networks the first dimension of every value that
depends on the image is the batch.
"""

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from flax_resnet.errors import InputError
from flax_resnet.export.onnx_graph import Equation, Graph, Value, kind_of


def _whole(numbers: Sequence[int]) -> np.ndarray:
    return np.asarray(numbers, np.int64)


def _shape(equation: Equation, at: int = 0) -> tuple[Any, ...]:
    return kind_of(equation.invars[at]).shape


def _plain(operator: str) -> Callable[..., str]:
    """Return the writer of a primitive that ONNX has under the name `operator`."""
    return lambda graph, equation, *inputs: graph.add(operator, *inputs)


def _reduced(operator: str) -> Callable[..., str]:
    def write(graph: Graph, equation: Equation, x: Value) -> str:
        return graph.add(operator, x, _whole(equation.params["axes"]), keepdims=0)

    return write


def _reshaped(graph: Graph, equation: Equation, x: Value) -> str:
    return graph.add("Reshape", x, _whole([-1, *kind_of(equation.outvars[0]).shape[1:]]))


def _broadcast(graph: Graph, equation: Equation, x: Value) -> Value:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    spread = [1] * len(shape)
    for place, size in zip(places, _shape(equation), strict=True):
        spread[place] = size
    if len(places) < len(shape):
        x = graph.add("Reshape", x, _whole([-1, *spread[1:]]))
    # Expand keeps a dimension where the shape says 1, so the batch may have any size.
    return graph.add("Expand", x, _whole(shape)) if tuple(spread) != tuple(shape) else x


def _sliced(graph: Graph, equation: Equation, x: Value) -> Value:
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or [1] * len(starts)
    rows = enumerate(zip(starts, ends, steps, _shape(equation), strict=True))
    cut = [(s, e, axis, step) for axis, (s, e, step, size) in rows if (s, e, step) != (0, size, 1)]
    return graph.add("Slice", x, *map(_whole, zip(*cut, strict=True))) if cut else x


def _joined(graph: Graph, equation: Equation, *inputs: Value) -> str:
    pairs = zip(inputs, equation.invars, strict=True)
    some = [value for value, atom in pairs if kind_of(atom).size]
    return graph.add("Concat", *some, axis=equation.params["dimension"])


def _stacked(graph: Graph, equation: Equation, *inputs: Value) -> str:
    axis = equation.params["axis"]
    parts = [graph.add("Unsqueeze", value, _whole([axis])) for value in inputs]
    return graph.add("Concat", *parts, axis=axis)


def _reversed(graph: Graph, equation: Equation, x: Value) -> str:
    axes = equation.params["dimensions"]
    back = _whole([-1] * len(axes))
    return graph.add("Slice", x, back, _whole([-(2**62)] * len(axes)), _whole(axes), back)


def _split(graph: Graph, equation: Equation, x: Value) -> list[Value]:
    ends = np.cumsum(equation.params["sizes"])
    axis = _whole([equation.params["axis"]])
    edges = zip([0, *ends], ends, strict=False)
    return [graph.add("Slice", x, _whole([a]), _whole([b]), axis) for a, b in edges]


def _padded(graph: Graph, equation: Equation, x: Value, value: Value) -> str:
    low, high, between = np.transpose(equation.params["padding_config"])
    shape = list(_shape(equation))
    for axis in np.flatnonzero(between).tolist():
        # Interior padding: give each pixel an axis of its own, pad that, and join the axes again.
        x = graph.add("Unsqueeze", x, _whole([axis + 1]))
        gap = np.zeros((2, len(shape) + 1), np.int64)
        gap[1, axis + 1] = between[axis]
        x = graph.add("Pad", x, gap.ravel(), value)
        shape[axis] *= between[axis] + 1
        x = graph.add("Reshape", x, _whole([-1, *shape[1:]]))
    return graph.add("Pad", x, _whole([*low, *(high - between)]), value)


def _product(graph: Graph, equation: Equation, x: Value, y: Value) -> str:
    (of_x, of_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    x_rank, y_rank = len(_shape(equation)), len(_shape(equation, 1))
    letters = iter(string.ascii_letters)
    names_x = [next(letters) for _ in range(x_rank)]
    names_y = [next(letters) for _ in range(y_rank)]
    for a, b in zip((*of_x, *batch_x), (*of_y, *batch_y), strict=True):
        names_y[b] = names_x[a]
    out = [names_x[a] for a in batch_x]
    out += [name for at, name in enumerate(names_x) if at not in (*of_x, *batch_x)]
    out += [name for at, name in enumerate(names_y) if at not in (*of_y, *batch_y)]
    return graph.add(
        "Einsum", x, y, equation=f"{''.join(names_x)},{''.join(names_y)}->{''.join(out)}"
    )


def _convolution(graph: Graph, equation: Equation, x: Value, kernel: Value) -> str:
    params = equation.params
    if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
        raise InputError(
            "ONNX: transposed and batch-grouped convolutions are not supported; export StableHLO "
            "instead"
        )
    order = params["dimension_numbers"]
    low, high = zip(*params["padding"], strict=True)
    found = graph.add(
        "Conv",
        _transposed(graph, x, order.lhs_spec),
        _transposed(graph, kernel, order.rhs_spec),
        strides=params["window_strides"],
        dilations=params["rhs_dilation"],
        pads=low + high,
        group=params["feature_group_count"],
    )
    return graph.add("Transpose", found, perm=np.argsort(order.out_spec).tolist())


def _transposed(graph: Graph, x: Value, order: Sequence[int]) -> Value:
    if isinstance(x, str):
        return graph.add("Transpose", x, perm=list(order))
    return x.transpose(order)


def _max_pool(graph: Graph, equation: Equation, x: Value) -> str:
    """Write max pooling of NHWC images."""
    params = equation.params
    low, high = zip(*params["padding"][1:3], strict=True)
    found = graph.add(
        "MaxPool",
        _transposed(graph, x, (0, 3, 1, 2)),
        kernel_shape=params["window_dimensions"][1:3],
        strides=params["window_strides"][1:3],
        dilations=params["window_dilation"][1:3],
        pads=low + high,
    )
    return graph.add("Transpose", found, perm=[0, 2, 3, 1])


def _cast(graph: Graph, equation: Equation, x: Value) -> str:
    kind = np.dtype(equation.params["new_dtype"])
    return graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(kind))


OPERATORS: dict[str, Callable[..., Any]] = {
    "add": _plain("Add"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _joined,
    "conv_general_dilated": _convolution,
    "convert_element_type": _cast,
    "div": _plain("Div"),
    "dot_general": _product,
    "exp": _plain("Exp"),
    "gt": _plain("Greater"),
    "integer_pow": lambda g, e, x: g.add("Pow", x, np.float32(e.params["y"])),
    "logistic": _plain("Sigmoid"),
    "max": _plain("Max"),
    "min": _plain("Min"),
    "mul": _plain("Mul"),
    "neg": _plain("Neg"),
    "pad": _padded,
    "reduce_max": _reduced("ReduceMax"),
    "reduce_sum": _reduced("ReduceSum"),
    "reduce_window_max": _max_pool,
    "reshape": _reshaped,
    "rev": _reversed,
    "rsqrt": lambda g, e, x: g.add("Reciprocal", g.add("Sqrt", x)),
    "select_n": lambda g, e, chosen, x, y: g.add("Where", chosen, y, x),
    "slice": _sliced,
    "split": _split,
    "square": lambda g, e, x: g.add("Mul", x, x),
    "squeeze": _reshaped,
    "stack": _stacked,
    "stop_gradient": _plain("Identity"),
    "sub": _plain("Sub"),
    "tanh": _plain("Tanh"),
    "transpose": lambda g, e, x: g.add("Transpose", x, perm=e.params["permutation"]),
}
