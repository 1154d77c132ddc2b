"""oneDNN's convolutions and all their derivatives, checked against XLA's in float64."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from flax_resnet.models.layers.cpu_gradients import xla_convolution
from flax_resnet.onednn.choice import why_unavailable

if why_unavailable():
    pytest.skip(str(why_unavailable()), allow_module_level=True)

from flax_resnet.onednn import convolution
from flax_resnet.onednn.primitives import convolve

# Shape of images, size and outputs of the kernel, then stride, dilation, padding, groups.
CASES = {
    "3x3": ((4, 9, 7, 16), 3, 32, 1, 1, 1, 1),
    "stride 2": ((4, 9, 8, 16), 3, 8, 2, 1, 1, 1),
    "stride 2 without padding": ((2, 9, 8, 16), 3, 8, 2, 1, 0, 1),
    "dilation 2": ((2, 9, 9, 16), 3, 16, 1, 2, 2, 1),
    "32 groups": ((2, 8, 8, 64), 3, 128, 2, 1, 1, 32),
    "a group per channel": ((2, 8, 8, 24), 3, 24, 1, 1, 1, 24),
    "1x1": ((3, 5, 5, 24), 1, 40, 1, 1, 0, 1),
    "1x1, stride 2": ((3, 5, 6, 24), 1, 40, 2, 1, 0, 1),
    "the stem": ((2, 32, 30, 3), 7, 64, 2, 1, 3, 1),
    "odd channels": ((2, 6, 6, 5), 3, 7, 1, 1, 1, 1),
    "one channel": ((2, 6, 6, 1), 3, 1, 1, 1, 1, 1),
    "one pixel": ((2, 1, 1, 8), 3, 8, 1, 1, 1, 1),
}


def operands(case: tuple[Any, ...], dtype: Any = np.float32) -> tuple[Array, Array, dict[str, int]]:
    """Return images, kernel and settings of a case."""
    shape, size, features, stride, dilation, pad, groups = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    kernel = rng.normal(size=(size, size, shape[-1] // groups, features)) / size
    settings = dict(stride=stride, dilation=dilation, pad=pad, groups=groups)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype), settings


def curved(function: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function whose second derivatives are not zero."""
    return lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)))


def assert_close(found: Any, expected: Any) -> None:
    """Check float32 results against float64: within 1e-5 of the largest value."""
    for ours, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == jnp.float32
        exact = np.asarray(exact)
        scale = np.abs(exact).max()
        chex.assert_trees_all_close(np.float64(ours), exact, rtol=0, atol=1e-5 * scale)


def both(case: str, derive: Callable[[Callable[..., Array]], Callable[..., Any]]) -> Any:
    """Return what oneDNN computes in float32 and XLA in float64."""
    with jax.enable_x64(True):
        x, kernel, settings = operands(CASES[case], np.float64)
        plain = derive(lambda x, kernel: xla_convolution(x, kernel, **settings))
        exact = jax.jit(plain)(x, kernel)
        narrow = [jnp.asarray(each, jnp.float32) for each in (x, kernel)]
        ours = derive(lambda x, kernel: convolve(x, kernel, **settings))
        return jax.jit(ours)(*narrow), exact


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_that_of_xla(case: str) -> None:
    assert_close(*both(case, lambda function: function))


@pytest.mark.parametrize("case", CASES)
def test_the_gradients_are_those_of_xla(case: str) -> None:
    assert_close(*both(case, lambda function: jax.grad(curved(function), (0, 1))))


@pytest.mark.parametrize("case", ["3x3", "stride 2", "32 groups"])
def test_the_second_derivatives_are_those_of_xla(case: str) -> None:
    def curvature(function: Callable[..., Array]) -> Callable[..., Any]:
        gradient = jax.grad(curved(function), (0, 1))
        return lambda x, kernel: jax.jvp(gradient, (x, kernel), (x, kernel))[1]

    assert_close(*both(case, curvature))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_maps_results_and_gradients(axes: tuple[int | None, int | None]) -> None:
    def mapped(function: Callable[..., Array]) -> Callable[..., Any]:
        gradient = jax.value_and_grad(curved(function), (0, 1))

        def run(x: Array, kernel: Array) -> Any:
            several = [
                each if axis is None else jnp.stack([each, 2 * each, each[::-1]])
                for each, axis in zip((x, kernel), axes, strict=True)
            ]
            return jax.vmap(gradient, axes)(*several)

        return run

    assert_close(*both("3x3", mapped))


@pytest.mark.parametrize("case", ["3x3", "stride 2", "32 groups", "1x1", "the stem"])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_bias_summand_and_relu_follow_within_the_call(case: str, summed: bool, relu: bool) -> None:
    x, kernel, settings = operands(CASES[case])
    plain = xla_convolution(x, kernel, **settings)
    bias = jnp.linspace(-9, 9, plain.shape[-1])
    summand = 5 * plain[::-1] if summed else None
    expected = plain + bias.reshape(1, 1, 1, -1) + (summand if summed else 0)
    expected = jnp.maximum(expected, 0) if relu else expected
    found = jax.jit(
        lambda x, kernel: convolution.fused(x, kernel, bias, summand, relu=relu, **settings)
    )(x, kernel)
    chex.assert_trees_all_close(found, expected, rtol=0, atol=1e-5 * float(jnp.abs(plain).max()))


def test_a_program_without_its_plan_ends_with_an_error() -> None:
    x, kernel, settings = operands(CASES["3x3"])
    call = jax.ffi.ffi_call(convolution.TARGET, jax.ShapeDtypeStruct(x.shape, jnp.float32))
    convolve(x, kernel, **settings)  # registers the target
    with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN has no plan for this convolution"):
        call(x, plan=np.int64(1)).block_until_ready()
