"""What a pattern freezes stays as it is, to the last bit; everything else trains."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from flax_resnet import InputError, create_model, train
from flax_resnet.models import to_layout
from flax_resnet.training.mesh import data_mesh
from flax_resnet.training.setup import prepare_run
from flax_resnet.training.state import init_state
from flax_resnet.training.updates.config import OptimizerConfig
from flax_resnet.training.updates.optimizers import decay_mask, make_optimizer

Config = Callable[..., Any]


def leaves(variables: Any, collection: str) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(variables[collection], sep=".")
    return {key: np.asarray(value) for key, value in flat.items()}


def changed(config: Any, tmp_path: Any, collection: str) -> tuple[set[str], set[str]]:
    """Train, and return the keys of a collection that moved, and those that did not."""
    setup = prepare_run(config, data_mesh(jax.devices()[:1]))
    first = init_state(setup.model, setup.optimizer, config.seed, (8, 8, 1), setup.mesh)
    run = train(config, tmp_path / "run", mesh=setup.mesh)
    before, after = leaves(first.variables, collection), leaves(run.variables, collection)
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    return moved, before.keys() - moved


def test_frozen_parameters_do_not_move(tiny_config: Config, tmp_path: Any) -> None:
    config = tiny_config(steps=3, freeze="stem|layer1", optimizer__weight_decay=0.1)
    moved, kept = changed(config, tmp_path, "params")
    assert {key.split(".")[0] for key in kept} == {"conv1", "bn1", "layer1"}
    assert {key.split(".")[0] for key in moved} == {"layer2", "fc"}


def test_norms_of_frozen_parts_keep_their_statistics(tiny_config: Config, tmp_path: Any) -> None:
    moved, kept = changed(tiny_config(steps=3, freeze="stem|layer1"), tmp_path, "batch_stats")
    assert {key.split(".")[0] for key in kept} == {"bn1", "layer1"}
    assert {key.split(".")[0] for key in moved} == {"layer2"}


def test_norms_are_frozen_by_a_pattern_of_their_own(tiny_config: Config, tmp_path: Any) -> None:
    config = tiny_config(steps=3, freeze="stem", freeze_norms="layer2")
    moved, kept = changed(config, tmp_path, "batch_stats")
    assert {key.split(".")[0] for key in kept} == {"layer2"}
    assert {key.split(".")[0] for key in moved} == {"bn1", "layer1"}


def test_frozen_parameters_take_no_optimiser_memory() -> None:
    params = {"conv1": {"kernel": np.ones((3, 3, 1, 2))}, "fc": {"kernel": np.ones((2, 5))}}
    optimizer = make_optimizer(OptimizerConfig(), optax.constant_schedule(0.1), "stem")
    state = optimizer.init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * 5 + 1  # and a step count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(freeze="layer7"), r"'layer7' and selects nothing.*head, layer1, layer2, stem"),
        (dict(freeze=".*"), "leaves nothing to train"),
        (dict(freeze="layer[1"), "no regular expression"),
        (dict(freeze_norms="layer7"), "freeze_norms is 'layer7' and selects nothing"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_an_error(
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
