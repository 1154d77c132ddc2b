"""Checkpoints with Orbax: written in the background, the newest and the best kept side by side.

A step's folder holds four items, so that evaluation reads nothing it does not need:
`variables`, `optimizer`, `run` (the config, the class names and the position in the data) and the
metrics that rank it.

Orbax keeps "the newest N or the best k" only through a preservation policy; `max_to_keep` with
`best_fn` deletes the newest. And `best_step()` answers with the newest unless `best_fn` is set
besides the policy.
"""

from pathlib import Path
from typing import Any

import chex
import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from flax_resnet.errors import InputError
from flax_resnet.training.mesh import replicated
from flax_resnet.training.state import TrainState
from flax_resnet.training.tasks import TASKS

FOLDER = "checkpoints"


def open_checkpoints(
    workdir: Path, *, keep_latest: int = 1, keep_best: int = 1, write: bool = False
) -> ocp.CheckpointManager:
    """Open the checkpoints of a run; close them (or use `with`) to wait for the last write.

    Args:
      write: also make the folder, and clear away what a dead run left half-written.
    """

    def rank(metrics: dict[str, float]) -> float:
        # A folder is opened before its task is known, but no two tasks have a figure in common.
        found = (metrics[task.ranked_by] for task in TASKS.values() if task.ranked_by in metrics)
        return next(found, -1.0)  # behind every accuracy, where none was measured

    best = BestN(get_metric_fn=rank, n=keep_best)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy([LatestN(keep_latest), best]),
        best_fn=rank,
        create=write,
        cleanup_tmp_directories=write,
    )
    return ocp.CheckpointManager((workdir / FOLDER).resolve(), options=options)


def save(
    checkpoints: ocp.CheckpointManager,
    state: TrainState,
    run: dict[str, Any],
    metrics: dict[str, float],
) -> None:
    """Start to write a checkpoint of `state`; the arrays are copied before this returns.

    Args:
      run: JSON values: the config, the class names, the position in the data.
      metrics: of the evaluation at this step; empty where there was none.
    """
    step = int(state.step)
    if step in checkpoints.all_steps():
        return
    items = {
        "variables": ocp.args.StandardSave(state.variables),
        "optimizer": ocp.args.StandardSave({"memory": state.optimizer}),
        "run": ocp.args.JsonSave(run),
    }
    checkpoints.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)


def restore_state(
    checkpoints: ocp.CheckpointManager, step: int, like: TrainState, mesh: Mesh
) -> tuple[TrainState, dict[str, Any]]:
    """Return the state and the `run` values of a step, a copy on every device of `mesh`."""
    items = {
        "variables": ocp.args.StandardRestore(_abstract(like.variables, mesh)),
        "optimizer": ocp.args.StandardRestore(_abstract({"memory": like.optimizer}, mesh)),
        "run": ocp.args.JsonRestore(),
    }
    found = checkpoints.restore(step, args=ocp.args.Composite(**items))
    chex.assert_trees_all_equal_shapes_and_dtypes(found["variables"], like.variables)
    at = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), replicated(mesh))
    return TrainState(at, found["variables"], found["optimizer"]["memory"]), found["run"]


def restore_variables(
    checkpoints: ocp.CheckpointManager, step: int, like: dict[str, Any], mesh: Mesh
) -> dict[str, Any]:
    """Return the variables of a step alone, a copy on every device of `mesh`."""
    wanted = ocp.args.Composite(variables=ocp.args.StandardRestore(_abstract(like, mesh)))
    variables: dict[str, Any] = checkpoints.restore(step, args=wanted)["variables"]
    return variables


def restore_run_values(checkpoints: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Return the `run` values of a step: config, class names, position."""
    wanted = ocp.args.Composite(run=ocp.args.JsonRestore())
    values: dict[str, Any] = checkpoints.restore(step, args=wanted)["run"]
    return values


def choose_step(checkpoints: ocp.CheckpointManager, step: str | int) -> int:
    """Return the number of the checkpoint that `best`, `latest` or a number names.

    `best` is the newest one where no checkpoint was evaluated.

    Raises:
      InputError: there is no such checkpoint; the message lists those that are there.
    """
    steps = sorted(checkpoints.all_steps())
    if not steps:
        raise InputError(
            f"{checkpoints.directory} holds no checkpoint; expected the folder of a run that "
            "has saved at least once"
        )
    if step == "best":
        return int(checkpoints.best_step())
    if step == "latest":
        return steps[-1]
    if str(step).isdigit() and int(step) in steps:
        return int(step)
    listed = ", ".join(map(str, steps))
    raise InputError(f"there is no checkpoint {step!r}; expected best, latest or one of {listed}")


def _abstract(tree: Any, mesh: Mesh) -> Any:
    whole = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), tree
    )
