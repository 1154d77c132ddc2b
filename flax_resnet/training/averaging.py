"""The mean of a run's last checkpoints: stochastic weight averaging after the run is done."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from flax_resnet.errors import InputError
from flax_resnet.steps.mesh import data_mesh, replicated
from flax_resnet.training.checkpoints.store import step_folders
from flax_resnet.training.precise_norms import make_measure, measured_norms
from flax_resnet.training.runs import Run, evaluate_run, restore
from flax_resnet.training.setup import prepare_run

BATCHES = 100


@dataclasses.dataclass(frozen=True)
class AveragedRun:
    """A network whose parameters are the mean of several checkpoints.

    Attributes:
      run: the network, and its metrics on the evaluation split; `step` is the newest one.
      members: the metrics of each checkpoint, raw, by step; empty for one that was not evaluated.
    """

    run: Run
    members: dict[int, dict[str, float]]


def average_checkpoints(
    workdir: str | os.PathLike[str],
    last: int | None = None,
    batches: int = BATCHES,
    mesh: Mesh | None = None,
) -> AveragedRun:
    """Return the mean of the raw parameters of a run's newest checkpoints (arXiv:1803.05407).

    Batch statistics are measured anew on training batches, since those of the checkpoints do not
    fit the mean. The network is evaluated on the run's evaluation split. Nothing is written.

    Args:
      last: the number of checkpoints; None: `config.checkpoint.keep_latest` of the run.
      batches: training batches for the batch statistics.
      mesh: devices to compute on; None takes all.

    Raises:
      InputError: the folder is not a run, or keeps fewer checkpoints, or one is damaged.
    """
    mesh = mesh or data_mesh()
    newest = restore(workdir, "latest", mesh, average=False)
    last = newest.config.checkpoint.keep_latest if last is None else last
    for name, value, least in (("last", last, 2), ("batches", batches, 1)):
        if value < least:
            raise InputError(f"{name} is {value}; expected at least {least}")
    runs = [
        newest if step == newest.step else restore(workdir, step, mesh, average=False)
        for step in _newest_steps(newest.workdir, last)
    ]
    variables = newest.variables | {"params": _mean(run.variables["params"] for run in runs)}
    variables = _with_measured_norms(newest, variables, batches, mesh)
    run = dataclasses.replace(newest, variables=variables, metrics={})
    metrics = evaluate_run(run, split=run.config.data.eval_split, mesh=mesh)
    members = {run.step: run.metrics for run in runs}
    return AveragedRun(dataclasses.replace(run, metrics=metrics), members)


def _newest_steps(workdir: Path, last: int) -> list[int]:
    steps = sorted(int(folder.name) for folder in step_folders(workdir))
    if len(steps) < last:
        raise InputError(
            f"{workdir} keeps {len(steps)} checkpoints (steps {', '.join(map(str, steps))}), and "
            f"{last} are asked for: average fewer, or train with a larger "
            "config.checkpoint.keep_latest"
        )
    return steps[-last:]


def _mean(trees: Iterable[Any]) -> Any:
    """Return the mean of trees of arrays, summed in float64, in the types of the last tree."""
    total, count = None, 0
    for tree in trees:
        count += 1
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.device_get(tree))
        total = wide if total is None else jax.tree.map(np.add, total, wide)
    return jax.tree.map(lambda leaf, like: (leaf / count).astype(like.dtype), total, tree)


def _with_measured_norms(
    run: Run, variables: dict[str, Any], batches: int, mesh: Mesh
) -> dict[str, Any]:
    """Return the variables with the batch statistics of `batches` training batches."""
    variables = jax.device_put(variables, replicated(mesh))
    if not jax.tree.leaves(variables["batch_stats"]):
        return variables
    average = dataclasses.replace(run.config.average, precise_batches=batches)
    setup = prepare_run(dataclasses.replace(run.config, average=average), mesh)
    data = setup.config.data
    measure = make_measure(
        setup.model,
        mesh,
        mean=data.mean,
        std=data.std,
        seed=setup.config.seed,
        deterministic=setup.config.deterministic,
    )
    (measured,) = measured_norms(setup, measure, [variables], run.step)
    return measured
