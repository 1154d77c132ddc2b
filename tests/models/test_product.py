"""Channels times a matrix and convolutions: as plain ones, under every transformation."""

import functools
import re
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_resnet.models.layers.cpu_gradients import convolve, times_matrix

Operands = tuple[jax.Array, jax.Array]
Function = Callable[[jax.Array, jax.Array], jax.Array]


def operands(inputs: int, outputs: int, pixels: tuple[int, ...] = (2, 3, 3)) -> Operands:
    rng = np.random.default_rng(0)
    x, matrix = rng.standard_normal((*pixels, inputs)), rng.standard_normal((inputs, outputs))
    return jnp.asarray(x), jnp.asarray(matrix)


def curved(product: Function) -> Function:
    return lambda x, matrix: (jnp.sin(product(x, matrix)) ** 2).sum()


def seen_by(transform: str, function: Function, x: jax.Array, matrix: jax.Array) -> Any:
    both, several = jax.grad(function, (0, 1)), jnp.stack([matrix, 2 * matrix])
    return {
        "value": lambda: function(x, matrix),
        "gradients": lambda: jax.jit(both)(x, matrix),
        "forward mode": lambda: jax.jvp(function, (x, matrix), (x, matrix)),
        "gradients of a batch": lambda: jax.vmap(both, (0, None))(jnp.stack([x, -x]), matrix),
        "gradients of matrices": lambda: jax.vmap(both, (None, 0))(x, several),
        "gradients of pairs": lambda: jax.vmap(both, (1, 0))(jnp.stack([x, -x], 1), several),
        "second derivative": lambda: jax.hessian(function, 1)(x, matrix),
        "remat": lambda: jax.grad(jax.checkpoint(function), (0, 1))(x, matrix),
    }[transform]()


TRANSFORMS = ["value", "gradients", "forward mode", "gradients of a batch"]
TRANSFORMS += ["gradients of matrices", "gradients of pairs", "second derivative", "remat"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transformation_sees_a_plain_product(transform: str, shape: tuple[int, int]) -> None:
    found, expected = (
        seen_by(transform, curved(product), *operands(*shape))
        for product in (times_matrix, jnp.matmul)
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride, dilation, pad", [(1, 1, 1), (2, 1, 1), (1, 2, 2), (3, 1, 0)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transformation_sees_a_plain_convolution(
    transform: str, stride: int, dilation: int, pad: int
) -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 7, 6, 2)), rng.standard_normal((3, 3, 2, 3))

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(pad, pad), (pad, pad)],
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    found, expected = (
        seen_by(transform, curved(function), jnp.asarray(x), jnp.asarray(kernel))
        for function in (lambda x, kernel: convolve(x, kernel, stride, dilation, pad), plain)
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-11)


def test_the_gradient_of_a_kernel_computes_nothing_again() -> None:
    """Neither branch of a residual sum is in the fusion that turns images around for it."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((8, 16, 16, 8)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 8, 8)), jnp.float32)

    def blocks(convolution: Function, x: jax.Array, kernel: jax.Array) -> jax.Array:
        for _ in range(3):
            x = jax.nn.relu(x + jnp.tanh(convolution(x, kernel)))
        return (x**2).sum()

    def turned(convolution: Function) -> list[int]:
        """Return how many arrays each fusion reads that turns images around."""
        step = jax.jit(jax.grad(functools.partial(blocks, convolution), 1))
        text = step.lower(x, kernel).compile().as_text()
        turns = r"%transpose_copy_fusion[.\d]* = f32\[(?:8,)?16,16.*? fusion\((.*?)\)"
        fusions = re.findall(turns, text)
        return [len(operands.split(",")) for operands in fusions]

    plain = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert max(turned(plain)) > 1, "this jax needs no care any more"
    assert set(turned(lambda x, kernel: convolve(x, kernel, 1, 1, 1))) == {1}


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_the_narrower_operand_is_turned_around(shape: tuple[int, int]) -> None:
    traced = jax.make_jaxpr(jax.grad(curved(times_matrix), 1))(*operands(*shape))
    products = [each for each in traced.eqns if each.primitive is jax.lax.dot_general_p]
    assert [each.invars[0].aval.shape[-1] for each in products] == [3]


def test_rows_stay_on_their_devices() -> None:
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    x, matrix = operands(3, 5, pixels=(8, 2))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    both = jax.jit(jax.grad(curved(times_matrix), (0, 1)))
    found = both(
        jax.device_put(x, rows), jax.device_put(matrix, NamedSharding(mesh, PartitionSpec()))
    )
    assert found[0].sharding.is_equivalent_to(rows, 3)
    chex.assert_trees_all_close(found, both(x, matrix), rtol=1e-5, atol=1e-5)
