"""Variables move between the unrolled and the scanned layout without loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import ResNet, create_model, from_torch, to_layout, to_torch
from flax_resnet.models import variable_shapes

PLAIN = ResNet((3, 2), (4, 8), stem="cifar", num_classes=5, image_size=8)
MODELS = {
    "basic": PLAIN,
    "pre": PLAIN.clone(order="pre", head_name="head.fc", gate="eca", norm="frn"),
    "bottleneck": PLAIN.clone(block="bottleneck", middle="split_attention", stage_sizes=(1, 3)),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def random_variables(model: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), variable_shapes(model)
    )


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


@every_model
def test_unrolled_variables_survive_the_scanned_layout(model: Any) -> None:
    variables = random_variables(model)
    stacked = to_layout(model.clone(scan_blocks=True), variables)
    assert not same(jax.tree.structure(stacked), jax.tree.structure(variables))
    assert same(to_layout(model, stacked), variables)


@every_model
def test_scanned_variables_survive_the_unrolled_layout(model: Any) -> None:
    scanned = model.clone(scan_blocks=True)
    variables = random_variables(scanned)
    assert same(to_layout(scanned, to_layout(model, variables)), variables)


@every_model
def test_each_layout_has_the_variables_that_its_model_expects(model: Any) -> None:
    scanned = model.clone(scan_blocks=True)

    def shapes(variables: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)

    assert shapes(to_layout(scanned, random_variables(model))) == shapes(variable_shapes(scanned))
    assert shapes(to_layout(model, random_variables(scanned))) == shapes(variable_shapes(model))


@every_model
def test_variables_in_their_own_layout_stay_as_they_are(model: Any) -> None:
    for each in (model, model.clone(scan_blocks=True)):
        variables = random_variables(each)
        assert same(to_layout(each, variables), variables)


def test_block_k_is_entry_k_minus_1_of_the_scan() -> None:
    variables = random_variables(PLAIN)
    stacked = to_layout(PLAIN.clone(scan_blocks=True), variables)
    for number in (1, 2):
        np.testing.assert_array_equal(
            stacked["batch_stats"]["layer1"]["scan"]["bn2"]["var"][number - 1],
            variables["batch_stats"]["layer1"][str(number)]["bn2"]["var"],
        )


@every_model
def test_a_torch_state_dict_is_the_same_from_both_layouts(model: Any) -> None:
    scanned = model.clone(scan_blocks=True)
    variables = random_variables(model)
    state_dict = to_torch(model, variables)
    stacked = from_torch(scanned, state_dict)
    assert same(stacked, to_layout(scanned, variables))
    assert same(to_torch(scanned, stacked), state_dict)
    assert same(to_torch(model, stacked), state_dict)


@pytest.mark.parametrize("scan", [False, True])
def test_leaves_that_are_none_of_the_models_stay(scan: bool) -> None:
    model = PLAIN.clone(scan_blocks=scan)
    variables = random_variables(PLAIN)
    variables["params"]["layer1"]["1"]["extra"] = np.ones(3)
    variables["ema"] = {"decay": np.float32(0.9)}
    found = to_layout(model, variables)
    assert found["ema"]["decay"] == variables["ema"]["decay"]
    np.testing.assert_array_equal(found["params"]["layer1"]["1"]["extra"], np.ones(3))


def test_a_collection_may_be_absent() -> None:
    gradients = {"params": random_variables(PLAIN)["params"]}
    scanned = PLAIN.clone(scan_blocks=True)
    stacked = to_layout(scanned, gradients)
    assert set(stacked) == {"params"}
    assert same(to_layout(PLAIN, stacked), gradients)


def test_arrays_stay_where_they_are() -> None:
    scanned = PLAIN.clone(scan_blocks=True)
    variables = random_variables(PLAIN)

    def kinds(variables: Any) -> set[type]:
        return {type(leaf) for leaf in jax.tree.leaves(variables)}

    assert kinds(to_layout(scanned, variables)) == {np.ndarray}
    on_device = jax.tree.map(jnp.asarray, variables)
    assert kinds(to_layout(scanned, on_device)) == kinds(on_device)


def test_variables_move_under_jit() -> None:
    scanned = PLAIN.clone(scan_blocks=True)
    variables = random_variables(PLAIN)
    moved = jax.jit(lambda variables: to_layout(PLAIN, to_layout(scanned, variables)))(variables)
    assert same(moved, variables)


def test_a_dense_network_has_one_layout() -> None:
    model = create_model("cifar_densenet_bc100_12", stage_sizes=(1, 1, 1))
    variables = random_variables(model)
    assert same(to_layout(model, variables), variables)
