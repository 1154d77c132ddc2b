"""Channels times a matrix: as a plain product, under every transformation."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_resnet.models.layers.product import times_matrix

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
