"""Micro-batches give the gradient and the statistics of the whole batch."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from flax_resnet.errors import InputError
from flax_resnet.models import create_model
from flax_resnet.steps.gradient import join_rows, make_gradient, split_rows
from flax_resnet.steps.mesh import put_batch
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, make_train_step
from flax_resnet.steps.tasks.classification import classification_loss
from flax_resnet.training.setup import prepare_run

Meshes = Callable[[int], Mesh]
pytestmark = pytest.mark.usefixtures("one_stage")
LOOK = dict(mean=(0.5,), std=(0.25,))


def batch(count: int = 32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, 8, 8, 1), np.uint8),
        "label": rng.integers(0, 10, count, np.int32),
    }


def outcome(count: int, rows: dict[str, np.ndarray], mixing: Any = None, **arguments: Any) -> Any:
    """Return gradient, loss, accuracy and batch statistics in float64."""
    model = create_model("tiny", in_channels=1, dtype="float64", **arguments)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape), shapes)
    gradient = make_gradient(model, classification_loss, micro_batches=count, mixing=mixing, **LOOK)
    return jax.device_get(jax.jit(gradient)(variables, rows, jax.random.key(0)))


@pytest.mark.usefixtures("x64")
def test_micro_batches_of_whole_norm_groups_equal_the_whole_batch() -> None:
    whole, split = (outcome(n, batch(), MixConfig(0.4, 1.0), norm_group=4) for n in (1, 2))
    chex.assert_trees_all_close(split, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_without_groups_a_micro_batch_is_one_group() -> None:
    rows = batch()
    order = np.argsort(np.arange(32) % 2, kind="stable")
    grouped = {key: value[order] for key, value in rows.items()}
    whole = outcome(1, grouped, norm_group=16)
    chex.assert_trees_all_close(outcome(2, rows), whole, rtol=1e-10, atol=1e-12)


def test_frozen_statistics_stay_bit_identical(devices: Meshes) -> None:
    model = create_model("tiny", in_channels=1, frozen="layer1", norm_group=4)
    state = init_state(model, optax.sgd(0.1), 0, (8, 8, 1), devices(1))
    before = jax.tree.map(lambda leaf: leaf + 0.1, state.variables["batch_stats"])
    variables = state.variables | {"batch_stats": before}
    gradient = make_gradient(model, classification_loss, micro_batches=3, **LOOK)
    _, (_, _, after) = jax.jit(gradient)(variables, batch(24), jax.random.key(0))
    chex.assert_trees_all_equal(after["layer1"], before["layer1"])
    assert not np.allclose(after["bn1"]["mean"], before["bn1"]["mean"])


@pytest.mark.slow
def test_accumulation_does_not_depend_on_the_number_of_devices(devices: Meshes) -> None:
    model = create_model("tiny", in_channels=1)
    rate = optax.constant_schedule(0.1)
    optimizer = optax.sgd(rate)

    def first_step(mesh: Mesh) -> Any:
        step = make_train_step(StepParts(model, optimizer, rate, accumulate=2, **LOOK), mesh)
        return step(init_state(model, optimizer, 0, (8, 8, 1), mesh), put_batch(batch(), mesh))

    (alone, one), (shared, two) = first_step(devices(1)), first_step(devices(2))
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
    chex.assert_trees_all_close(shared.variables, alone.variables, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm_group", [None, 2])
def test_rows_are_split_by_groups_and_joined_again(norm_group: int | None) -> None:
    rows = np.arange(12)
    split = np.asarray(split_rows(rows, 3, norm_group))
    first = [0, 3, 6, 9] if norm_group is None else [0, 1, 6, 7]
    np.testing.assert_array_equal(split[0], first)
    np.testing.assert_array_equal(join_rows(split, norm_group), rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(accumulate=3), r"config.accumulate is 3, but config.data.batch_size is 16; .* 3$"),
        (
            dict(accumulate=4, model=dict(name="tiny", norm_group=8)),
            r"is 4 and config.model.norm_group is 8, but .*batch_size is 16; .*multiple of 32",
        ),
    ],
)
def test_a_batch_that_does_not_split_is_refused(
    changes: dict[str, Any], message: str, tiny_config: Any, devices: Meshes
) -> None:
    with pytest.raises(InputError, match=message):
        prepare_run(tiny_config(**changes), devices(1))
