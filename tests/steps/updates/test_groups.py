"""Groups of parameters: which decay, which are matrices or frozen, and their depths."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from flax_resnet import InputError, train
from flax_resnet.models import create_model, to_layout, variable_shapes
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.steps.state import init_state
from flax_resnet.steps.updates.config import OptimizerConfig
from flax_resnet.steps.updates.groups import decay_mask, depths, matrix_mask
from flax_resnet.steps.updates.optimizers import OPTIMIZERS, make_optimizer
from flax_resnet.training.setup import prepare_run


def params_of(name: str, **arguments: Any) -> Any:
    return variable_shapes(create_model(name, **arguments))["params"]


@pytest.mark.parametrize(
    ("name", "decayed", "tensors", "left", "of"),
    [("resnet18", 11_678_912, 21, 10_600, 62), ("resnet50", 25_502_912, 54, 54_120, 161)],
)
def test_the_mask_counts_what_published_recipes_decay(
    name: str, decayed: int, tensors: int, left: int, of: int
) -> None:
    params = params_of(name)
    mask = decay_mask(params)
    sizes = jax.tree.map(lambda leaf, kept: leaf.size if kept else 0, params, mask)
    assert sum(jax.tree.leaves(sizes)) == decayed
    assert sum(jax.tree.leaves(mask)) == tensors
    assert len(jax.tree.leaves(mask)) == of
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) - decayed == left


def test_parts_are_counted_from_the_output() -> None:
    found = depths(params_of("resnet18"))
    assert found["fc"]["bias"] == 0
    assert found["layer4"]["1"]["conv2"]["kernel"] == 1
    assert found["layer1"]["0"]["bn1"]["scale"] == 4
    assert found["conv1"]["kernel"] == found["bn1"]["bias"] == 5


@pytest.mark.parametrize("name", ["densenet121", "resnetv2_50", "cifar_resnet20", "unet"])
def test_every_family_has_depths_without_a_gap(name: str) -> None:
    found = set(jax.tree.leaves(depths(params_of(name))))
    assert found == set(range(max(found) + 1))
    assert max(found) >= 4


def test_kernels_outside_of_the_head_are_matrices() -> None:
    found = matrix_mask(params_of("seresnet50"))
    assert found["conv1"]["kernel"] and found["layer1"]["0"]["conv2"]["kernel"]
    assert found["layer1"]["0"]["se"]["fc1"] == {"kernel": True, "bias": False}
    assert found["fc"] == {"kernel": False, "bias": False}
    assert not any(found["bn1"].values())


def test_a_kernel_shared_by_all_channels_is_not_a_matrix() -> None:
    for arguments in ({}, {"scan_blocks": True}):
        params = params_of("ecaresnet50d", **arguments)
        found = jax.tree_util.tree_leaves_with_path(matrix_mask(params))
        marks = {
            jax.tree_util.keystr(path, simple=True, separator="."): mark for path, mark in found
        }
        gates = {key: mark for key, mark in marks.items() if ".se." in key}
        assert len(gates) >= 4 and not any(gates.values())
        assert all(mark for key, mark in marks.items() if key.endswith("conv2.kernel"))


Config = Callable[..., Any]


def leaves(variables: Any, collection: str) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(variables[collection], sep=".")
    return {key: np.asarray(value) for key, value in flat.items()}


def changed(config: Any, tmp_path: Any) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Train, and return for each collection the parts with leaves that moved, and that did not."""
    setup = prepare_run(config, data_mesh(jax.devices()[:1]))
    first = init_state(setup.model, setup.optimizer, config.seed, (8, 8, 1), setup.mesh)
    run = train(config, tmp_path / "run", mesh=setup.mesh)
    moved, kept = {}, {}
    for collection in ("params", "batch_stats"):
        before, after = leaves(first.variables, collection), leaves(run.variables, collection)
        same = {key for key in before if np.array_equal(before[key], after[key])}
        kept[collection] = {key.split(".")[0] for key in same}
        moved[collection] = {key.split(".")[0] for key in before.keys() - same}
    return moved, kept


def test_frozen_parameters_and_their_norms_do_not_move(tiny_config: Config, tmp_path: Any) -> None:
    config = tiny_config(steps=3, freeze="stem|layer1", optimizer__weight_decay=0.1)
    moved, kept = changed(config, tmp_path)
    assert kept["params"] == {"conv1", "bn1", "layer1"}
    assert moved["params"] == {"layer2", "fc"}
    assert kept["batch_stats"] == {"bn1", "layer1"}
    assert moved["batch_stats"] == {"layer2"}


@pytest.mark.slow
def test_norms_are_frozen_by_their_own_pattern(tiny_config: Config, tmp_path: Any) -> None:
    config = tiny_config(steps=3, freeze="stem", freeze_norms="layer2")
    moved, kept = changed(config, tmp_path)
    assert kept["batch_stats"] == {"layer2"}
    assert moved["batch_stats"] == {"bn1", "layer1"}


def test_frozen_parameters_have_no_optimizer_state() -> None:
    params = {"conv1": {"kernel": np.ones((3, 3, 1, 2))}, "fc": {"kernel": np.ones((2, 5))}}
    optimizer = make_optimizer(OptimizerConfig(), optax.constant_schedule(0.1), "stem")
    state = optimizer.init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * 5 + 1  # and a step count


@pytest.mark.parametrize(
    ("updates", "still"),
    [(2, {"conv1", "bn1", "layer1"}), pytest.param(3, set(), marks=pytest.mark.slow)],
)
def test_a_temporarily_frozen_part_trains_afterwards(
    tiny_config: Config, tmp_path: Any, updates: int, still: set[str]
) -> None:
    epoch = prepare_run(tiny_config()).steps_per_epoch
    config = tiny_config(steps=updates, freeze="stem|layer1", freeze_epochs=2 / epoch)
    _, kept = changed(config, tmp_path)
    assert kept["params"] == still


PARAMS = {
    "conv1": {"kernel": jnp.arange(1.0, 19).reshape(3, 3, 1, 2)},
    "layer1": {"kernel": jnp.arange(1.0, 5).reshape(1, 1, 2, 2)},
    "fc": {"kernel": jnp.arange(1.0, 11).reshape(2, 5)},
}


def updates_of(optimizer: optax.GradientTransformation, steps: int, state: Any = None) -> Any:
    """Return the last of `steps` updates with the same gradient, and the optimizer state."""
    state = optimizer.init(PARAMS) if state is None else state
    gradient = jax.tree.map(jnp.sin, PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(gradient, state, PARAMS)
    return updates, state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_temporarily_frozen_parameters_do_not_affect_others(name: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.1, clip_norm=0.5)
    for_good, for_a_while = (
        make_optimizer(config, lambda step: 0.1 / (1 + step), "stem|layer1", steps)
        for steps in (None, 5)
    )
    expected, found = (updates_of(each, steps=3)[0] for each in (for_good, for_a_while))
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "lars", "muon"])
def test_temporarily_frozen_parameters_accumulate_no_momentum(name: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.1, nesterov=True)
    rate = optax.constant_schedule(0.1)
    later, state = updates_of(make_optimizer(config, rate, "stem|layer1", 3), steps=3)
    assert all(not leaf.any() for part in ("conv1", "layer1") for leaf in later[part].values())
    later, _ = updates_of(make_optimizer(config, rate, "stem|layer1", 3), 2, state)
    anew, _ = updates_of(make_optimizer(config, rate), 2)
    chex.assert_trees_all_close(later["layer1"], anew["layer1"], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(freeze="layer7"), r"'layer7' and matches nothing.*head, layer1, layer2, stem"),
        (dict(freeze=".*"), "leaves nothing to train"),
        (dict(freeze="layer[1"), "not a regular expression"),
        (dict(freeze_epochs=1.0), "freeze_epochs is 1.0 and config.freeze ''; expected None"),
        (dict(freeze="stem", freeze_epochs=-1.0), "freeze_epochs is -1.0"),
        (dict(freeze_norms="layer7"), "freeze_norms is 'layer7' and matches nothing"),
    ],
)
def test_a_pattern_without_effect_is_an_error(
    tiny_config: Config, settings: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare_run(tiny_config(**settings))


def test_weight_decay_reaches_the_same_parameters_in_scanned_blocks() -> None:
    plain = create_model("cifar_resnet20", stage_sizes=(3, 3, 3))
    scanned = plain.clone(scan_blocks=True)
    images = np.zeros((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(scanned.init, jax.random.key(0), images)["params"]
    marked = jax.tree.map(lambda leaf, mark: np.full(leaf.shape, mark), params, decay_mask(params))
    flat = traverse_util.flatten_dict(to_layout(plain, {"params": marked}))
    assert all(mark.all() == (path[-1] == "kernel") for path, mark in flat.items())
    assert all(mark.any() == mark.all() for mark in flat.values())
