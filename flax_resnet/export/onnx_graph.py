"""Translate the jaxpr of a network in inference mode into an ONNX graph.

Values that depend on the weights alone are computed here and become constants.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend import core
from onnx import helper, numpy_helper

from flax_resnet.errors import InputError

# A constant, or the name of a node's output.
Value = np.ndarray | str
Equation = core.JaxprEqn
_NESTED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


class Graph:
    """Nodes and constants of an ONNX graph.

    Args:
      operators: for each primitive of a jaxpr, by name, a function that adds it to the graph. It
        takes the graph, the equation and its inputs, and returns its output or a list of outputs.
    """

    def __init__(self, operators: Mapping[str, Callable[..., Value | list[Value]]]) -> None:
        self.operators = operators
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: Value, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = name or f"{operator.lower()}_{len(self.nodes)}"
        names = [self.named(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def named(self, value: Value) -> str:
        """Return the name of a value; add it to the graph if it is a constant."""
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def write(
        self, jaxpr: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]
    ) -> list[Value]:
        """Add the equations of a jaxpr, and return its outputs.

        Raises:
          InputError: a primitive is not among the operators.
        """
        known: dict[Any, Value] = dict(
            zip(jaxpr.constvars, map(np.asarray, constants), strict=True)
        )
        known |= zip(jaxpr.invars, inputs, strict=True)

        def value_of(atom: Any) -> Value:
            return np.asarray(atom.val) if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            found = self._outputs(equation, [value_of(atom) for atom in equation.invars])
            known |= zip(equation.outvars, found, strict=True)
        return [value_of(atom) for atom in jaxpr.outvars]

    def _outputs(self, equation: Equation, inputs: list[Value]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name in _NESTED:
            inner = params[_NESTED[name]]
            return self.write(inner.jaxpr, inner.consts, inputs)
        if name == "platform_index":  # Choose the default platform.
            return [np.asarray(params["platforms"].index(None))]
        if name == "cond":
            inner = params["branches"][int(inputs[0])]
            return self.write(inner.jaxpr, inner.consts, inputs[1:])
        if not any(isinstance(value, str) for value in inputs):
            return _constants(equation, inputs)
        if kind_of(equation.outvars[0]).size == 0:  # such as a padding of width zero
            return [np.zeros(kind.shape, kind.dtype) for kind in map(kind_of, equation.outvars)]
        if name not in self.operators:
            raise InputError(
                f"ONNX: the operation {name!r} is not supported; export StableHLO instead"
            )
        outputs = self.operators[name](self, equation, *inputs)
        return outputs if isinstance(outputs, list) else [outputs]


def _constants(equation: Equation, inputs: list[Value]) -> list[Value]:
    outputs = equation.primitive.bind(*inputs, **equation.params)
    several = equation.primitive.multiple_results
    return [np.asarray(output) for output in (outputs if several else [outputs])]


def kind_of(atom: Any) -> Any:
    """Return the abstract value of a jaxpr's variable: its shape and dtype."""
    return atom.aval
