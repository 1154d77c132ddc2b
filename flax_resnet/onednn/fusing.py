"""Fuse what follows a convolution into its call: a norm, a bias, a sum with an array, and ReLU."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

from flax_resnet.onednn import convolution, primitives

# Calls whose program is evaluated in place, and the parameter that has it. Derivatives of custom
# rules are lost, so a fused function has no gradient.
_INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


@dataclass(frozen=True)
class _Pending:
    """A convolution that is called once it is known what follows."""

    x: Array
    kernel: Array
    settings: dict[str, int]
    bias: Array | None = None
    summand: Array | None = None
    relu: bool = False

    def run(self) -> Array:
        if self.bias is None and self.summand is None and not self.relu:
            return primitives.convolve(self.x, self.kernel, **self.settings)
        bias = self.bias
        if bias is None:
            bias = jnp.zeros(self.kernel.shape[-1], self.kernel.dtype)
        return convolution.fused(
            self.x, self.kernel, bias, self.summand, relu=self.relu, **self.settings
        )


def fuse(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes the same with fused convolutions; it has no gradient.

    A batch norm that uses running statistics scales the kernel and gives a bias.
    """

    def fused(*arguments: Any) -> Any:
        closed, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _evaluate(closed, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(out), map(_value, results))

    return fused


def _value(found: Any) -> Any:
    return found.run() if isinstance(found, _Pending) else found


def _evaluate(closed: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """Evaluate a program; arguments and results may be pending."""
    jaxpr: Jaxpr = closed.jaxpr
    used = [v for eqn in jaxpr.eqns for v in eqn.invars] + list(jaxpr.outvars)
    uses = Counter(v for v in used if not isinstance(v, Literal))
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        if isinstance(variable, Literal):
            return variable.val
        if uses[variable] > 1:
            values[variable] = _value(values[variable])
        return values[variable]

    for eqn in jaxpr.eqns:
        operands = [read(variable) for variable in eqn.invars]
        results: Sequence[Any]
        if eqn.primitive.name in _INLINED:
            results = _evaluate(eqn.params[_INLINED[eqn.primitive.name]], operands)
        elif pending := _absorb(eqn, operands):
            results = [pending]
        else:
            plain = [_value(operand) for operand in operands]
            found = eqn.primitive.bind(*plain, **eqn.primitive.get_bind_params(eqn.params))
            results = found if eqn.primitive.multiple_results else [found]
        values |= dict(zip(eqn.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _absorb(eqn: Any, operands: list[Any]) -> _Pending | None:
    """Return the convolution with this operation in it, or None if it cannot be."""
    name = eqn.primitive.name
    if name == "onednn_forward":
        x, kernel = map(_value, operands)
        return _Pending(x, kernel, eqn.params)
    at = next((i for i, each in enumerate(operands) if isinstance(each, _Pending)), None)
    if at is None or len(operands) != 2 or operands[at].relu:
        return None
    pending, other = operands[at], operands[1 - at]
    if name == "max":
        zero = not isinstance(other, jax.Array | _Pending) and jnp.ndim(other) == 0 and other == 0
        return replace(pending, relu=True) if zero else None
    if pending.summand is not None:
        return None
    shape = eqn.outvars[0].aval.shape
    if not isinstance(other, _Pending) and jnp.shape(other) == (1, 1, 1, shape[-1]):
        return _affine(name, pending, other, at)
    if name == "add" and eqn.invars[1 - at].aval.shape == shape:
        return replace(pending, summand=_value(other))
    return None


def _affine(name: str, pending: _Pending, values: Array, at: int) -> _Pending | None:
    """Return a convolution to which a value per channel is added, or by which it is multiplied."""
    bias, vector = pending.bias, values.reshape(-1)
    if name == "mul":
        bias = None if bias is None else bias * vector
        return replace(pending, kernel=pending.kernel * values, bias=bias)
    if name == "sub" and at == 0:
        name, vector = "add", -vector
    if name == "add":
        return replace(pending, bias=vector if bias is None else bias + vector)
    return None
