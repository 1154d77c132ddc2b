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
from flax_resnet.training.checkpoints import (
    choose_step,
    open_checkpoints,
    restore_run_values,
    restore_state,
    restore_variables,
    save,
)
from flax_resnet.training.state import TrainState

Meshes = Callable[[int], Mesh]


def state(step: int) -> TrainState:
    variables = {"params": {"w": jnp.full(4, float(step))}, "batch_stats": {}}
    return TrainState(jnp.asarray(step, jnp.int32), variables, ({"m": jnp.full(4, -float(step))},))


def write(workdir: Path, accuracies: dict[int, float | None], **keep: int) -> None:
    with open_checkpoints(workdir, write=True, **keep) as checkpoints:
        for step, accuracy in accuracies.items():
            metrics = {} if accuracy is None else {"top1": accuracy}
            save(checkpoints, state(step), {"position": {"next_batch": step}}, metrics)


FALLING: dict[int, float | None] = {100: 0.9, 200: 0.8, 300: 0.7, 400: 0.6, 500: 0.5}


def test_the_newest_and_the_best_are_both_kept(tmp_path: Path) -> None:
    write(tmp_path, FALLING, keep_latest=2, keep_best=2)
    with open_checkpoints(tmp_path) as checkpoints:
        assert sorted(checkpoints.all_steps()) == [100, 200, 400, 500]
        assert choose_step(checkpoints, "latest") == 500
        assert choose_step(checkpoints, "best") == 100
        assert choose_step(checkpoints, "400") == 400


def test_a_checkpoint_without_an_evaluation_is_no_candidate_for_the_best(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.1, 2: None, 3: None}, keep_latest=1, keep_best=1)
    with open_checkpoints(tmp_path) as checkpoints:
        assert sorted(checkpoints.all_steps()) == [1, 3]
        assert choose_step(checkpoints, "best") == 1


def test_the_best_is_the_newest_where_nothing_was_evaluated(tmp_path: Path) -> None:
    write(tmp_path, {1: None, 2: None}, keep_latest=2)
    with open_checkpoints(tmp_path) as checkpoints:
        assert choose_step(checkpoints, "best") == 2


@pytest.mark.parametrize("count", [1, 8])
def test_state_comes_back_bit_for_bit_on_any_number_of_devices(
    tmp_path: Path, devices: Meshes, count: int
) -> None:
    write(tmp_path, {7: 0.5})
    mesh = devices(count)
    with open_checkpoints(tmp_path) as checkpoints:
        restored, values = restore_state(checkpoints, 7, state(0), mesh)
        variables = restore_variables(checkpoints, 7, state(0).variables, mesh)
        assert restore_run_values(checkpoints, 7) == values == {"position": {"next_batch": 7}}
    chex.assert_trees_all_equal((restored, variables), (state(7), state(7).variables))
    for leaf in jax.tree.leaves((restored, variables)):
        assert len(leaf.sharding.device_set) == count


@pytest.mark.parametrize("step", ["bset", "8", 8, -1])
def test_an_unknown_step_is_an_error_that_lists_those_there(tmp_path: Path, step: Any) -> None:
    write(tmp_path, {7: 0.5})
    with open_checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match="one of 7"):
        choose_step(checkpoints, step)


def test_saving_a_step_twice_keeps_the_first(tmp_path: Path) -> None:
    write(tmp_path, {7: 0.5})
    write(tmp_path, {7: None})
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.metrics(7) == {"top1": 0.5}
