"""Restore and evaluate a run from its folder."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.open import usable
from flax_resnet.data.sources.own import open_given
from flax_resnet.data.sources.subsets import competing_outputs
from flax_resnet.errors import InputError, near_paths, require_local
from flax_resnet.models import Network, variable_shapes
from flax_resnet.steps.averages import fitting_average
from flax_resnet.steps.mesh import data_mesh, replicated
from flax_resnet.steps.step import make_eval_step
from flax_resnet.steps.tasks.multilabel import parse_threshold
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.checkpoints import store
from flax_resnet.training.checkpoints.restoring import (
    first_whole,
    none_whole,
    restore_average,
    restore_run_values,
    restore_variables,
)
from flax_resnet.training.checkpoints.store import quiet_orbax
from flax_resnet.training.checks import check_task
from flax_resnet.training.classes import for_outputs
from flax_resnet.training.cluster.agreement import StopRequest
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.evaluation import evaluate
from flax_resnet.training.parsing import parse_stored
from flax_resnet.training.paths import find_paths
from flax_resnet.training.setup import build_model
from flax_resnet.training.workdir import naming_parts
from flax_resnet.weights import check_finite

Found = TypeVar("Found")


@dataclass(frozen=True)
class Run:
    """A model with the variables of one checkpoint, and the settings that trained it.

    Attributes:
      variables: the average if the run keeps one that has begun, unless asked otherwise. An average
        of equal weights is used only if it was evaluated at this step.
      metrics: the evaluation at this step; empty if there was none. `ema_top1` belongs to the
        average, `top1` to the raw variables.
      average: the kind of average that `variables` are: `ema`, `swa`, or None.
    """

    model: Network
    variables: dict[str, Any]
    config: TrainConfig
    step: int
    metrics: dict[str, float]
    class_names: tuple[str, ...]
    workdir: Path
    average: str | None = None

    @property
    def threshold(self) -> float:
        """Return the probability from which a class counts as predicted, where several can be.

        If the settings say `best`, it is that of the evaluation at this step.
        """
        given = parse_threshold(self.config.threshold)
        return self.best_threshold if given is None else given

    @property
    def best_threshold(self) -> float:
        """Return the threshold with the best F1 in the evaluation at this step.

        Raises:
          InputError: there was no such evaluation.
        """
        prefix = "" if self.average is None else f"{self.average}_"
        found = self.metrics.get(f"{prefix}best_threshold", self.metrics.get("best_threshold"))
        if found is None:
            raise InputError(
                f"step {self.step} of {self.workdir} has no evaluation that chose a threshold; "
                "expected a step with one (best), or a number as the threshold"
            )
        return found

    def __repr__(self) -> str:
        """Return a line: the network, the step, the folder, and the ranked metric."""
        average = "" if self.average is None else f" ({self.average})"
        metric = TASKS[self.config.task].ranked_by
        found = f", {metric}={self.metrics[metric]:.4f}" if metric in self.metrics else ""
        classes = f"{len(self.class_names)} classes"
        where = f"step {self.step}{average} of {str(self.workdir)!r}"
        return f"Run({self.config.model.name}, {classes}, {where}{found})"


def restore(
    workdir: str | os.PathLike[str],
    step: str | int = "best",
    mesh: Mesh | None = None,
    average: bool = True,
    model: Network | None = None,
) -> Run:
    """Return a run loaded from its folder onto any number of devices.

    If the checkpoint that `best` or `latest` means is damaged, the next one is loaded, with a
    warning.

    Args:
      step: `best` (by validation accuracy or Dice, of the average if there is one), `latest`, or
        the number of a kept checkpoint.
      mesh: devices that each get a copy of the variables; None takes all.
      average: False loads the raw variables even if the run keeps an average of them.
      model: the network of a run that was given one, `train(model=...)`.

    Raises:
      InputError: the folder is not a run, lacks that step, or has no intact checkpoint, or the
        weights are not finite.
    """
    workdir, mesh = Path(workdir).expanduser(), mesh or data_mesh()

    def load(number: int) -> Run:
        values = restore_run_values(manager, number)
        with naming_parts(workdir):
            config = parse_stored(find_paths(values["config"], workdir))
            data = config.data
            network = model or build_model(config.model, data.channels, data.image_size)
        shape = (1, data.image_size, data.image_size, data.channels)
        shapes = {"batch_stats": {}} | variable_shapes(
            network, jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        kind, averaged = config.average.kind, None
        metrics = manager.metrics(number) or {}
        if average and kind is not None:
            stored = restore_average(manager, number, shapes, kind, mesh)
            averaged = fitting_average(stored, metrics)
        if averaged is None:
            variables, kind = restore_variables(manager, number, shapes, mesh), None
        else:
            variables = averaged.variables
        names = tuple(values["class_names"])
        return Run(network, variables, config, number, metrics, names, workdir, kind)

    with _checkpoints_of(workdir) as manager:
        run = _first_whole(workdir, store.candidates(manager, step), load)
    check_finite(run.variables, f"checkpoint {run.step} of {workdir}")
    return run


def restore_settings(workdir: str | os.PathLike[str]) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return the settings of a run and the names of its classes, without its weights.

    Raises:
      InputError: the folder is not a run.
    """
    workdir = Path(workdir).expanduser()
    with _checkpoints_of(workdir) as manager:
        values = _first_whole(
            workdir,
            store.candidates(manager, "latest"),
            lambda number: restore_run_values(manager, number),
        )
        with naming_parts(workdir):
            config = parse_stored(find_paths(values["config"], workdir))
        return config, tuple(values["class_names"])


def _first_whole(workdir: Path, steps: list[int], load: Callable[[int], Found]) -> Found:
    found, damaged = first_whole(steps, load)
    if found is None:
        raise none_whole(workdir / store.FOLDER, damaged)
    for step, reason in damaged.items():
        warnings.warn(
            f"checkpoint {step} of {workdir} is damaged; another one is used: {reason}",
            stacklevel=3,
        )
    return found


def _checkpoints_of(workdir: Path) -> ocp.CheckpointManager:
    require_local(workdir)
    if not workdir.exists():
        raise InputError(f"{workdir} does not exist: expected a run.{near_paths(workdir)}")
    if not (workdir / store.FOLDER).is_dir():
        raise InputError(
            f"{workdir} is not a run: it has no folder {store.FOLDER!r}."
            f"{near_paths(workdir / store.FOLDER)}"
        )
    damaged = store.unrankable(workdir)
    if damaged:
        raise none_whole(workdir / store.FOLDER, damaged)
    with quiet_orbax():  # Orbax warns that nothing will be written, which is intended.
        return store.open_checkpoints(workdir)


def evaluate_run(
    run: Run | str | os.PathLike[str],
    data: DataConfig | None = None,
    split: str | None = None,
    mesh: Mesh | None = None,
    on_batch: Callable[[], None] = lambda: None,
    request: StopRequest | None = None,
    source: Any = None,
) -> dict[str, float]:
    """Return count, skipped and the metrics of a run's task on a split.

    The metrics are loss, top1 and top5 for classification; those of `multilabel_metrics` where
    images have several labels; loss, dice, iou, pixel_error, `dice/CLASS` and `iou/CLASS` for
    segmentation.

    Args:
      run: what `restore` returns, or the folder of a run, whose best checkpoint is evaluated.
      data: where the images come from; None takes the run's own data. Its classes are matched with
        the run's by name, and can be some of them.
      split: None takes the run's test split, or its evaluation split if it has none.
      request: a request to stop ends the evaluation early and returns no metrics.
      source: data of your own, as `train` takes them.
    """
    if not isinstance(run, Run):
        run = restore(run, mesh=mesh)
    data = data or run.config.data
    return evaluate_model(
        run.model,
        run.variables,
        data,
        split,
        mesh,
        on_batch,
        run.config.task,
        request,
        run.class_names,
        str(run.workdir),
        run.threshold if run.config.task == "multilabel" else 0.5,
        source,
    )


def evaluate_model(
    model: Network,
    variables: Mapping[str, Any],
    data: DataConfig,
    split: str | None = None,
    mesh: Mesh | None = None,
    on_batch: Callable[[], None] = lambda: None,
    task: str = "classification",
    request: StopRequest | None = None,
    class_names: tuple[str, ...] = (),
    name: str = "the network",
    threshold: float = 0.5,
    source: Any = None,
) -> dict[str, float]:
    """Return count, skipped and the metrics of a model's task on a split.

    Args:
      split: None takes the test split of `data`, or its evaluation split.
      class_names: of the model, to match those of the data by; () where they are not known.
      name: of the model, for errors.
      threshold: the probability from which a class counts as predicted, where several can be.
      source: data of your own, as `train` takes them.

    Returns:
      Also `competing_classes`, how many classes a prediction is chosen among, where the data are
      ImageNet-A or ImageNet-R and these are some of the model's.

    Raises:
      InputError: the data are for another task, or have a class that the model does not know.
    """
    mesh, measured = mesh or data_mesh(), TASKS[task].measured(threshold=str(threshold))
    split = split or default_split(data)
    if source is None:
        opened = open_source(data, split)
    else:
        opened = usable(open_given(source, split, data.channels, model.num_classes), data)
    check_task(opened, task, several_labels=True)
    opened = for_outputs(opened, class_names, model.num_classes, name)
    outputs = competing_outputs(opened, data.source, model.num_classes)
    eval_step = make_eval_step(
        model,
        mesh,
        mean=data.mean,
        std=data.std,
        task=measured,
        flip=data.eval_flip,
        outputs=outputs,
    )
    copies = jax.device_put(dict(variables), replicated(mesh))
    metrics = evaluate(eval_step, copies, opened, data, mesh, on_batch, measured, request)
    return metrics | ({"competing_classes": float(len(outputs))} if outputs and metrics else {})


def default_split(data: DataConfig) -> str:
    """Return the split that an evaluation reads by default."""
    return data.test_split or data.eval_split


def replace_data(data: DataConfig, **changes: Any) -> DataConfig:
    """Return `data` with those of `changes` that are not None."""
    return dataclasses.replace(data, **{k: v for k, v in changes.items() if v is not None})
