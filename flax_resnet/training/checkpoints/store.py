"""Checkpoints with Orbax, written in the background; the newest and the best are kept.

A step's folder holds separate items, so that evaluation reads only what it needs: `variables`,
`optimizer`, `run` (the config, the class names, the position in the data, and digests of
everything), `history` (the rows of metrics so far), the metrics that rank it, and `average` if
the run keeps one.

Orbax keeps "the newest N or the best k" only through a preservation policy; `max_to_keep` with
`best_fn` deletes the newest. `best_step()` returns the newest unless `best_fn` is set in addition
to the policy.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    EveryNSteps,
    LatestN,
    PreservationPolicy,
)

from flax_resnet.allocator import trim_heap
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text
from flax_resnet.steps.averages import PREFIXES, Average
from flax_resnet.steps.state import TrainState
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.checkpoints.integrity import array_digests, handlers, text_digest
from flax_resnet.training.config import CheckpointConfig


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Hide the log messages of Orbax, which logs exceptions that it also raises."""
    absl = logging.getLogger("absl")

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    absl.addFilter(from_elsewhere)
    try:
        yield
    finally:
        absl.removeFilter(from_elsewhere)


FOLDER = "checkpoints"


def open_checkpoints(workdir: Path, keep: CheckpointConfig | None = None) -> ocp.CheckpointManager:
    """Open the checkpoints of a run.

    Args:
      keep: which checkpoints to keep; also create the folder, and remove what a killed run left
        half-written. None opens the checkpoints read-only.
    """
    keep_policies: list[PreservationPolicy] = []
    if keep is not None:
        keep_policies += [LatestN(keep.keep_latest), _best(keep.keep_best)]
        if keep.keep_every_steps is not None:
            keep_policies.append(EveryNSteps(keep.keep_every_steps))
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy(keep_policies),
        best_fn=rank,
        create=keep is not None,
        cleanup_tmp_directories=keep is not None,
        read_only=keep is None,
    )
    folder = (workdir / FOLDER).resolve()
    return ocp.CheckpointManager(folder, options=options, handler_registry=handlers())


@contextlib.contextmanager
def writing(workdir: Path, keep: CheckpointConfig) -> Iterator[ocp.CheckpointManager]:
    """Open the checkpoints of a run for writing; at the end, wait for the last one.

    Raises:
      InputError: one could not be written.
    """
    with quiet_orbax():
        manager = open_checkpoints(workdir, keep)
        try:
            yield manager
            wait(manager)
        except BaseException:
            # After a failed save, closing fails as well, and the first error matters. If another
            # process is lost, closing would wait for it.
            if jax.process_count() == 1:
                with contextlib.suppress(Exception):
                    manager.close()
            raise
        manager.close()


def save(
    manager: ocp.CheckpointManager,
    state: TrainState,
    run: dict[str, Any],
    history: list[str],
    metrics: dict[str, float],
) -> None:
    """Start writing a checkpoint of `state`; the arrays are copied before this returns.

    Args:
      run: JSON values: the config, the class names, the position in the data.
      history: the rows of metrics so far, as lines.
      metrics: those of the evaluation at this step; empty if there was none.

    Raises:
      InputError: this or the previous checkpoint could not be written.
    """
    step = int(state.step)
    if step in manager.all_steps():
        return
    trees = stored(state)
    run = run | {"arrays": array_digests(trees), "history": text_digest(history)}
    items = {name: ocp.args.StandardSave(_one_copy(tree)) for name, tree in trees.items()} | {
        "run": ocp.args.JsonSave(run | {"digest": text_digest(run)}),
        "history": ocp.args.JsonSave({"lines": history}),
    }
    trim_heap()  # after the last save
    with _explained(manager):
        manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)


def _one_copy(tree: Any) -> Any:
    """Return the replicated arrays of a single process as the first device has them.

    Orbax would cut each of them into slices, one for each device, which only makes sense where the
    devices belong to several processes: saving a small network of 8 devices took 2.5 times as long.
    """
    if jax.process_count() > 1:
        return tree
    return jax.tree.map(
        lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree
    )


def wait(manager: ocp.CheckpointManager) -> None:
    """Wait until all checkpoints are on disk.

    Raises:
      InputError: a checkpoint could not be written.
    """
    with _explained(manager):
        manager.wait_until_finished()


def add_metrics(manager: ocp.CheckpointManager, step: int, metrics: dict[str, float]) -> None:
    """Add `metrics` to a checkpoint that was saved before its evaluation was done."""
    if jax.process_index() == 0:
        replace_text(_metrics_file(Path(manager.directory) / str(step)), json.dumps(metrics))
    manager.reload()


def stored(state: TrainState) -> dict[str, Any]:
    """Return the trees of arrays that a checkpoint of `state` stores."""
    memory = {"memory": state.optimizer, "guard": state.guard}
    trees = {"variables": state.variables, "optimizer": memory}
    return trees if state.average is None else trees | {"average": stored_average(state.average)}


def stored_average(average: Average) -> dict[str, Any]:
    """Return the tree of arrays of an average, under its kind, so that kinds are not confused.

    Its inverse is `Average(kind=kind, **tree[kind])`.
    """
    return {average.kind: {"variables": average.variables, "count": average.count}}


def step_folders(workdir: Path) -> list[Path]:
    """Return the folders of the finished checkpoints of a run."""
    return [folder for folder in (workdir / FOLDER).glob("[0-9]*") if folder.name.isdigit()]


def newest_step(workdir: Path) -> int:
    """Return the step of the newest finished checkpoint of a run; 0 if there is none."""
    return max((int(folder.name) for folder in step_folders(workdir)), default=0)


def unrankable(workdir: Path) -> dict[int, str]:
    """Return the steps whose metrics cannot be read, and why; Orbax would fail at these."""
    found = {}
    for folder in step_folders(workdir):
        path = _metrics_file(folder)
        if path.exists():
            try:
                rank(json.loads(path.read_text()))
            except (OSError, ValueError, TypeError) as error:
                found[int(folder.name)] = f"its metrics cannot be read: {error}"
    return found


def candidates(manager: ocp.CheckpointManager, step: str | int) -> list[int]:
    """Return the steps to try, in order, for `best`, `latest` or a number.

    `best` is the newest step if no checkpoint was evaluated.

    Raises:
      InputError: there is no such checkpoint; the message lists those that are there.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    if not steps:
        raise InputError(
            f"{manager.directory} holds no checkpoint; expected the folder of a run that "
            "has saved at least once"
        )
    if step == "best":
        return sorted(steps, key=lambda step: rank(manager.metrics(step) or {}), reverse=True)
    if step == "latest":
        return steps
    if str(step).isdigit() and int(step) in steps:
        return [int(step)]
    listed = ", ".join(map(str, reversed(steps)))
    raise InputError(f"there is no checkpoint {step!r}; expected best, latest or one of {listed}")


def rank(metrics: Mapping[str, float]) -> float:
    """Return the metric that decides which of two checkpoints of a run is better."""
    # A folder is opened before its task is known, but no two tasks are ranked by the same metric.
    # The metrics of an average come first, as `restore` returns it by default.
    names = (prefix + task.ranked_by for prefix in (*PREFIXES, "") for task in TASKS.values())
    found = (float(metrics[name]) for name in names if name in metrics)
    return next(found, -1.0)  # worse than every accuracy, if none was measured


def _best(count: int) -> BestN:
    # A checkpoint that a killed run was deleting may lack metrics; that must not keep it.
    return BestN(get_metric_fn=rank, n=count, keep_checkpoints_without_metrics=False)


def _metrics_file(folder: Path) -> Path:
    return folder / "metrics" / "metrics"


@contextlib.contextmanager
def _explained(manager: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        # With several processes it may be the loss of one of them, which is reported elsewhere.
        if jax.process_count() > 1 and not isinstance(error, OSError):
            raise
        raise InputError(
            f"a checkpoint could not be written to {manager.directory}: {error}. Earlier "
            "ones are intact: free some space, or fix the cause, and run the same command again"
        ) from error
