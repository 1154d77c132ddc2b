"""Scanned and recomputed blocks have the same logits, gradients and statistics."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import DenseNet, ResNet, to_layout
from flax_resnet.models import variable_shapes

COMMON = dict(stem="cifar", image_size=8, num_classes=5)
NETWORKS = {
    "basic": ResNet((3,), (4,), **COMMON),
    "bottleneck": ResNet((3, 1), (4, 8), block="bottleneck", **COMMON),
    "pre": ResNet((4, 2), (4, 8), order="pre", shortcut="average", **COMMON),
    "gated": ResNet((3, 1), (4, 8), order="act_before_add", shortcut="gated", **COMMON),
    "pre bottleneck": ResNet((3,), (4,), block="bottleneck", order="pre", norm="frn", **COMMON),
}
DENSE = DenseNet((2,), 4, bottleneck=0, **COMMON)
# Name, remat, scan_blocks.
MARKS = {
    ("basic", True, True): (),
    ("basic", False, True): pytest.mark.slow,
    ("pre bottleneck", True, True): pytest.mark.slow,
}
CASES = [
    pytest.param(*case, marks=MARKS.get(case, pytest.mark.exhaustive))
    for case in itertools.product(NETWORKS, (False, True), (False, True))
    if any(case[1:])
]


def random_variables(model: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape), variable_shapes(model))


def step(model: Any, variables: Any) -> Any:
    """Return logits in inference mode, and loss, gradients and statistics of a training step."""
    size = model.image_size
    images = jnp.asarray(np.random.default_rng(1).standard_normal((4, size, size, 3)))

    @jax.jit
    def run(variables: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, new = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return (logits**2).mean(), new

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return model.apply(variables, images), value, {"params": gradients, **new}

    return run(variables)


@functools.cache
def plain_step(name: str) -> Any:
    """Return the step of a network with unrolled blocks that stores everything."""
    model = NETWORKS[name].clone(dtype=jnp.float64)
    return step(model, random_variables(model))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "remat", "scan"), CASES)
def test_scanned_and_recomputed_blocks_have_the_same_results(
    name: str, remat: bool, scan: bool
) -> None:
    unrolled = NETWORKS[name].clone(dtype=jnp.float64)
    model = unrolled.clone(remat=remat, scan_blocks=scan)
    variables = to_layout(model, random_variables(unrolled))
    found_logits, found_loss, found = step(model, variables)
    logits, loss, expected = plain_step(name)
    np.testing.assert_allclose(found_logits, logits, rtol=1e-11)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-11)
    found = to_layout(unrolled, found)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for path, leaf in traverse_util.flatten_dict(expected).items():
        other = traverse_util.flatten_dict(found)[path]
        scale = float(abs(leaf).max())
        np.testing.assert_allclose(other, leaf, rtol=0, atol=1e-11 * scale, err_msg=str(path))


@pytest.mark.usefixtures("x64")
def test_a_dense_network_that_recomputes_its_layers_has_the_same_results() -> None:
    plain = DENSE.clone(dtype=jnp.float64)
    variables = random_variables(plain)
    found = step(plain.clone(remat=True), variables)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        found,
        step(plain, variables),
    )


def program(model: Any) -> str:
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)

    def loss(variables: Any, images: jax.Array) -> jax.Array:
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[0].sum()

    return str(jax.make_jaxpr(jax.grad(loss))(variable_shapes(model), images))


@pytest.mark.slow
def test_a_scanned_program_does_not_grow_with_depth() -> None:
    def lines(depth: int, scan: bool) -> int:
        model = ResNet((depth,), (4,), scan_blocks=scan, **COMMON)
        return program(model).count("\n")

    assert lines(3, True) == lines(6, True)
    assert lines(6, False) > 1.6 * lines(3, False)


@pytest.mark.parametrize(
    "model", [NETWORKS["basic"], NETWORKS["basic"].clone(scan_blocks=True), DENSE]
)
def test_remat_appears_in_the_program(model: Any) -> None:
    assert "remat" not in program(model)
    assert "remat" in program(model.clone(remat=True))


def test_a_stage_of_two_blocks_is_not_scanned() -> None:
    model = NETWORKS["basic"].clone(stage_sizes=(3, 2), widths=(4, 8), scan_blocks=True)
    shapes = variable_shapes(model)["params"]
    assert set(shapes["layer1"]) == {"0", "scan"}
    assert set(shapes["layer2"]) == {"0", "1"}
    assert shapes["layer1"]["scan"]["conv1"]["kernel"].shape == (2, 3, 3, 4, 4)


def test_scanned_blocks_start_differently(init: Any) -> None:
    model = NETWORKS["basic"].clone(scan_blocks=True)
    params = init(model, jnp.zeros((1, 8, 8, 3)))["params"]
    kernels = params["layer1"]["scan"]["conv1"]["kernel"]
    assert not np.array_equal(kernels[0], kernels[1])


def test_a_pruned_network_has_unequal_blocks_and_ignores_the_scan() -> None:
    widths = tuple(tuple((2 + number, 4) for number in range(3)) for _ in range(2))
    model = NETWORKS["basic"].clone(stage_sizes=(3, 3), widths=(4, 4), pruned=widths)
    assert variable_shapes(model.clone(scan_blocks=True)) == variable_shapes(model)
