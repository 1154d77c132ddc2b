"""What is kept on disk, and how a checkpoint is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh

from flax_resnet.errors import InputError
from flax_resnet.steps.state import TrainState
from flax_resnet.training.checkpoints.restoring import (
    restore_run_values,
    restore_state,
    restore_variables,
)
from flax_resnet.training.checkpoints.store import (
    add_metrics,
    candidates,
    open_checkpoints,
    save,
    writing,
)
from flax_resnet.training.config import CheckpointConfig

Meshes = Callable[[int], Mesh]


def state(step: int) -> TrainState:
    variables = {"params": {"w": jnp.full(4, float(step))}, "batch_stats": {}}
    return TrainState(jnp.asarray(step, jnp.int32), variables, ({"m": jnp.full(4, -float(step))},))


def write(workdir: Path, accuracies: dict[int, float | None], **keep: int) -> None:
    with writing(workdir, CheckpointConfig(**({"keep_latest": 1} | keep))) as manager:
        for step, accuracy in accuracies.items():
            metrics = {} if accuracy is None else {"top1": accuracy}
            save(manager, state(step), {"position": {"next_batch": step}}, ["a row"], metrics)


FALLING: dict[int, float | None] = {100: 0.9, 200: 0.8, 300: 0.7, 400: 0.6, 500: 0.5}


def test_the_newest_and_the_best_are_both_kept(tmp_path: Path) -> None:
    write(tmp_path, FALLING, keep_latest=2, keep_best=2)
    with open_checkpoints(tmp_path) as manager:
        assert sorted(manager.all_steps()) == [100, 200, 400, 500]
        assert candidates(manager, "latest") == [500, 400, 200, 100]
        assert candidates(manager, "best") == [100, 200, 400, 500]
        assert candidates(manager, "400") == [400]


def test_checkpoints_at_regular_intervals_are_kept_too(tmp_path: Path) -> None:
    write(tmp_path, FALLING, keep_latest=1, keep_best=1, keep_every_steps=200)
    with open_checkpoints(tmp_path) as manager:
        assert sorted(manager.all_steps()) == [100, 200, 400, 500]


def test_a_checkpoint_without_an_evaluation_is_never_the_best(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.1, 2: None, 3: None}, keep_latest=1, keep_best=1)
    with open_checkpoints(tmp_path) as manager:
        assert sorted(manager.all_steps()) == [1, 3]
        assert candidates(manager, "best")[0] == 1


def test_the_best_is_the_newest_if_nothing_was_evaluated(tmp_path: Path) -> None:
    write(tmp_path, {1: None, 2: None}, keep_latest=2)
    with open_checkpoints(tmp_path) as manager:
        assert candidates(manager, "best")[0] == 2


def test_an_evaluation_can_come_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.5, 2: None}, keep_latest=2)
    with writing(tmp_path, CheckpointConfig()) as manager:
        add_metrics(manager, 2, {"top1": 0.75})
        assert candidates(manager, "best")[0] == 2
    with open_checkpoints(tmp_path) as manager:
        assert manager.metrics(2) == {"top1": 0.75}


@pytest.mark.parametrize("count", [1, 8])
def test_the_state_is_restored_bit_for_bit_on_any_number_of_devices(
    tmp_path: Path, devices: Meshes, count: int
) -> None:
    write(tmp_path, {7: 0.5})
    mesh = devices(count)
    with open_checkpoints(tmp_path) as manager:
        restored = restore_state(manager, 7, state(0), mesh)
        variables = restore_variables(manager, 7, state(0).variables, mesh)
        assert restore_run_values(manager, 7) == restored.run
    assert restored.run["position"] == {"next_batch": 7}
    assert restored.history == ["a row"]
    assert not restored.fresh_optimizer
    chex.assert_trees_all_equal((restored.state, variables), (state(7), state(7).variables))
    for leaf in jax.tree.leaves((restored.state.optimizer, variables)):
        assert len(leaf.sharding.device_set) == count


@pytest.mark.parametrize("step", ["bset", "8", 8, -1])
def test_an_unknown_step_is_an_error_that_lists_those_there(tmp_path: Path, step: Any) -> None:
    write(tmp_path, {7: 0.5})
    with open_checkpoints(tmp_path) as manager, pytest.raises(InputError, match="one of 7"):
        candidates(manager, step)


def test_saving_a_step_twice_keeps_the_first(tmp_path: Path) -> None:
    write(tmp_path, {7: 0.5})
    write(tmp_path, {7: None})
    with open_checkpoints(tmp_path) as manager:
        assert manager.metrics(7) == {"top1": 0.5}


@pytest.mark.parametrize(
    "settings",
    [{"keep_latest": 0}, {"keep_best": -1}, {"every_steps": 0}, {"keep_every_steps": 0}],
)
def test_settings_that_keep_nothing_are_refused(settings: dict[str, int]) -> None:
    (name,) = settings
    with pytest.raises(InputError, match=rf"config\.checkpoint\.{name} is {settings[name]}"):
        CheckpointConfig(**settings)
