"""Matrix products and convolutions equal XLA's own under every transformation of JAX."""

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


def gradients(function: Function, x: jax.Array, matrix: jax.Array) -> Any:
    return jax.grad(function, (0, 1))(x, matrix)


def of_matrices(axis: int | None, function: Function, x: jax.Array, matrix: jax.Array) -> Any:
    several = jnp.stack([matrix, 2 * matrix])
    x = x if axis is None else jnp.stack([x, -x], axis)
    return jax.vmap(functools.partial(gradients, function), (axis, 0))(x, several)


TRANSFORMS: dict[str, Any] = {
    "value": lambda function, x, matrix: function(x, matrix),
    "gradients": gradients,
    "forward mode": lambda function, *both: jax.jvp(function, both, both),
    "gradients of a batch": lambda function, x, matrix: jax.vmap(
        functools.partial(gradients, function), (0, None)
    )(jnp.stack([x, -x]), matrix),
    "gradients of matrices": functools.partial(of_matrices, None),
    "gradients of pairs": functools.partial(of_matrices, 1),
    "second derivative": lambda function, x, matrix: jax.hessian(function, 1)(x, matrix),
    "remat": lambda function, x, matrix: gradients(jax.checkpoint(function), x, matrix),
}


def transformed(transform: str, function: Function, x: jax.Array, matrix: jax.Array) -> Any:
    compute = functools.partial(TRANSFORMS[transform], function)
    return compute(x, matrix) if transform == "value" else jax.jit(compute)(x, matrix)


def quick(*values: Any, others: Any) -> list[Any]:
    """Return parameters, the `others` marked as slow."""
    return [*values, *(pytest.param(*other, marks=pytest.mark.slow) for other in others)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("inputs, outputs", quick((3, 5), others=[(5, 3), (4, 4)]))
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_products_equal_plain_ones_when_transformed(
    transform: str, inputs: int, outputs: int
) -> None:
    found, expected = (
        transformed(transform, curved(product), *operands(inputs, outputs))
        for product in (times_matrix, jnp.matmul)
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "stride, dilation, pad", quick((2, 1, 1), others=[(1, 1, 1), (1, 2, 2), (3, 1, 0)])
)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_convolutions_equal_plain_ones_when_transformed(
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
        transformed(transform, curved(function), jnp.asarray(x), jnp.asarray(kernel))
        for function in (lambda x, kernel: convolve(x, kernel, stride, dilation, pad), plain)
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-11)


def test_the_gradient_of_a_kernel_recomputes_nothing() -> None:
    """The fusion that transposes images for it contains no branch of a residual sum."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((8, 16, 16, 8)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 8, 8)), jnp.float32)

    def blocks(convolution: Function, x: jax.Array, kernel: jax.Array) -> jax.Array:
        for _ in range(3):
            x = jax.nn.relu(x + jnp.tanh(convolution(x, kernel)))
        return (x**2).sum()

    def transposing(convolution: Function) -> list[int]:
        """Return the number of operands of each fusion that transposes images."""
        step = jax.jit(jax.grad(functools.partial(blocks, convolution), 1))
        text = step.lower(x, kernel).compile().as_text()
        pattern = r"%transpose_copy_fusion[.\d]* = f32\[(?:8,)?16,16.*? fusion\((.*?)\)"
        fusions = re.findall(pattern, text)
        return [len(operands.split(",")) for operands in fusions]

    plain = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert max(transposing(plain)) > 1, "this version of jax no longer needs the workaround"
    assert set(transposing(lambda x, kernel: convolve(x, kernel, 1, 1, 1))) == {1}


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_the_narrower_operand_is_transposed(shape: tuple[int, int]) -> None:
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
