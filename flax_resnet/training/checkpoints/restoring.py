"""Restore a state from a checkpoint and verify that it is what was saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from flax_resnet.errors import InputError
from flax_resnet.steps.averages import Average, begin_average
from flax_resnet.steps.mesh import replicated
from flax_resnet.steps.state import TrainState
from flax_resnet.steps.updates.optimizers import begin_at
from flax_resnet.training.checkpoints.integrity import (
    ARRAYS,
    Digests,
    array_digests,
    array_kinds,
    damage,
    kind_of,
    text_digest,
)
from flax_resnet.training.checkpoints.store import (
    FOLDER,
    quiet_orbax,
    step_folders,
    stored,
    stored_average,
    unrankable,
)
from flax_resnet.training.cluster.agreement import all_say, from_first


class DamagedError(Exception):
    """A checkpoint is not what was saved."""


@dataclass(frozen=True)
class Restored:
    """What a run resumes from.

    Attributes:
      run: JSON values: the config, the class names, the position in the data.
      history: the rows of metrics so far, as lines.
      fresh_optimizer: the checkpoint's optimizer differs, so the optimizer state starts anew.
      average_change: what happened to the average if the checkpoint's differs; "" otherwise.
    """

    state: TrainState
    run: dict[str, Any]
    history: list[str]
    fresh_optimizer: bool
    average_change: str = ""


def restore_state(
    manager: ocp.CheckpointManager, step: int, like: TrainState, mesh: Mesh
) -> Restored:
    """Return what a checkpoint holds, a copy of every array on every device of `mesh`.

    Raises:
      DamagedError: something in it is not what was saved.
      InputError: its network has different arrays than `like`.
    """
    run = restore_run_values(manager, step)
    wanted = stored(like)
    _check_same_network(manager, step, run["arrays"], wanted["variables"])
    if fresh_optimizer := bool(_differing(run["arrays"], {"optimizer": wanted["optimizer"]})):
        del wanted["optimizer"]
    average_change = _average_change(run["arrays"], wanted)
    if average_change:
        wanted.pop("average", None)
    items = {name: ocp.args.StandardRestore(_abstract(tree, mesh)) for name, tree in wanted.items()}
    found = _read(manager, step, items | {"history": ocp.args.JsonRestore()})
    history = found["history"]["lines"]
    if text_digest(history) != run["history"]:
        raise DamagedError("the rows of metrics in it are not what was saved")
    arrays = {name: found[name] for name in wanted}
    _check_digests(run["arrays"], arrays)
    at = jax.device_put(jnp.asarray(step, jnp.int32), replicated(mesh))
    if fresh_optimizer:
        memory, guard = begin_at(like.optimizer, at), like.guard
    else:
        memory, guard = arrays["optimizer"]["memory"], arrays["optimizer"]["guard"]
    kind = None if like.average is None else like.average.kind
    if kind is None or average_change:
        average = begin_average(kind, arrays["variables"])
    else:
        average = Average(kind=kind, **arrays["average"][kind])
    state = TrainState(at, arrays["variables"], memory, guard, average)
    return Restored(state, run, history, fresh_optimizer, average_change)


def restore_variables(
    manager: ocp.CheckpointManager, step: int, like: dict[str, Any], mesh: Mesh
) -> dict[str, Any]:
    """Return only the variables of a checkpoint, a copy on every device of `mesh`.

    Raises:
      DamagedError: they are not what was saved.
    """
    arrays = restore_run_values(manager, step)["arrays"]
    _check_same_network(manager, step, arrays, like)
    wanted = {"variables": ocp.args.StandardRestore(_abstract(like, mesh))}
    variables: dict[str, Any] = _read(manager, step, wanted)["variables"]
    _check_digests(arrays, {"variables": variables})
    return variables


def restore_average(
    manager: ocp.CheckpointManager, step: int, like: dict[str, Any], kind: str, mesh: Mesh
) -> Average | None:
    """Return the average of a checkpoint; None if it has none of this kind.

    Args:
      like: its variables.

    Raises:
      DamagedError: it is not what was saved.
    """
    arrays = restore_run_values(manager, step)["arrays"]
    count = jax.ShapeDtypeStruct((), jnp.int32)
    wanted = {"average": stored_average(Average(like, count, kind))}
    if _differing(arrays, wanted):
        return None
    items = {"average": ocp.args.StandardRestore(_abstract(wanted["average"], mesh))}
    found = {"average": _read(manager, step, items)["average"]}
    _check_digests(arrays, found)
    return Average(kind=kind, **found["average"][kind])


def restore_run_values(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Return the `run` values of a checkpoint: config, class names, position.

    Raises:
      DamagedError: they are not what was saved.
    """
    run: dict[str, Any] = _read(manager, step, {"run": ocp.args.JsonRestore()})["run"]
    if not isinstance(run, dict) or run.pop("digest", None) != text_digest(run):
        raise DamagedError("its config or position has changed")
    return run


def _read(manager: ocp.CheckpointManager, step: int, items: dict[str, Any]) -> Any:
    arrays = [item for item in ARRAYS if item in items]
    if found := damage(Path(manager.directory) / str(step), arrays):
        raise DamagedError(found)
    try:
        with quiet_orbax():
            return manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # whatever Orbax and TensorStore raise for damaged files
        lines = str(error).strip().splitlines() or [""]
        raise DamagedError(f"{type(error).__name__}: {lines[0][:300]}") from error


def _check_same_network(
    manager: ocp.CheckpointManager, step: int, arrays: Digests, variables: Any
) -> None:
    differing = _differing(arrays, {"variables": variables})
    if differing:
        raise InputError(
            f"checkpoint {step} of {manager.directory} is of a different network:\n  "
            + "\n  ".join(differing[:5])
            + "\nUse another --workdir; config.model.pretrained can start from these weights"
        )


def _average_change(arrays: Digests, wanted: dict[str, Any]) -> str:
    there = any(key.startswith("average.") for key in arrays)
    if "average" not in wanted:
        return "the checkpoint's average is dropped: the settings ask for none" if there else ""
    if not _differing(arrays, {"average": wanted["average"]}):
        return ""
    found = "a different average" if there else "no average"
    return f"the checkpoint has {found}: it starts from the parameters as they are now"


def _differing(arrays: Digests, wanted: dict[str, Any]) -> list[str]:
    expected = array_kinds(wanted)
    roots = tuple(f"{name}." for name in wanted)
    there = {key: kind_of(value) for key, value in arrays.items() if key.startswith(roots)}
    return [
        f"{key}: {there.get(key, 'nothing')} saved, {expected.get(key, 'nothing')} expected"
        for key in sorted(there.keys() | expected.keys())
        if there.get(key) != expected.get(key)
    ]


def _check_digests(arrays: Digests, found: dict[str, Any]) -> None:
    for key, digest in array_digests(found).items():
        if arrays[key] != digest:
            raise DamagedError(f"{key} is not what was saved")


def _abstract(tree: Any, mesh: Mesh) -> Any:
    whole = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), tree
    )


DAMAGED = "damaged"
Found = TypeVar("Found")


def first_whole(
    steps: Sequence[int], restore: Callable[[int], Found]
) -> tuple[Found | None, dict[int, str]]:
    """Return the result of `restore` for the first step that is not damaged.

    Returns:
      That or None, and the damage of the steps before it. All processes return the same.
    """
    damaged: dict[int, str] = {}
    for step in steps:
        found, reason = None, ""
        try:
            found = restore(step)
        except DamagedError as damage:
            reason = str(damage)
        if all_say(found is not None):
            return found, damaged
        damaged[step] = reason or "another process could not read it"
    return None, damaged


def none_whole(folder: Path, damaged: dict[int, str]) -> InputError:
    """Return the error to raise if no checkpoint can be used."""
    listed = "".join(f"\n  {step}: {reason}" for step, reason in damaged.items())
    return InputError(
        f"no checkpoint in {folder} can be read:{listed}\nNothing was changed. Put back a copy of "
        "one, or move the folder away to start anew"
    )


def set_aside(workdir: Path, steps: Sequence[int]) -> None:
    """Move damaged checkpoints away, so that new ones can have their numbers."""
    if jax.process_index() == 0:
        for step in steps:
            target = workdir / DAMAGED / str(step)
            copies = 1
            while target.exists():
                copies += 1
                target = target.with_name(f"{step}-{copies}")
            target.parent.mkdir(exist_ok=True)
            (workdir / FOLDER / str(step)).rename(target)


def set_aside_unrankable(workdir: Path) -> dict[int, str]:
    """Move away checkpoints whose metrics cannot be read: Orbax could not open the others.

    Returns:
      Their damage, in the process that moves them.

    Raises:
      InputError: there are no others.
    """
    damaged, failure = dict[int, str](), ""
    if jax.process_index() == 0:
        damaged = unrankable(workdir)
        if damaged and len(damaged) == len(step_folders(workdir)):
            failure = str(none_whole(workdir / FOLDER, damaged))
        elif damaged:
            set_aside(workdir, list(damaged))
    if failure := from_first(failure):
        raise InputError(failure)
    return damaged
