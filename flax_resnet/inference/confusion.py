"""The confusion matrix of a classification run over a split, and its largest errors."""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from flax_resnet.data import DataConfig, eval_batches, open_source
from flax_resnet.data.sources.subsets import competing_outputs
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text
from flax_resnet.steps.mesh import data_mesh, device_rows, put_batch, replicated
from flax_resnet.steps.step import make_eval_step
from flax_resnet.steps.tasks.confusion import count_confusion
from flax_resnet.steps.tasks.table import CLASSIFICATION
from flax_resnet.training.checks import check_task
from flax_resnet.training.classes import for_outputs
from flax_resnet.training.evaluation import divisible_eval_batch
from flax_resnet.training.runs import Run, default_split

Confusion = Int[np.ndarray, "classes classes"]


class Mistake(NamedTuple):
    """How many images of one class are predicted as another."""

    truth: int
    predicted: int
    images: int


def confusion_matrix(
    run: Run,
    data: DataConfig | None = None,
    split: str | None = None,
    mesh: Mesh | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Confusion:
    """Return how many images of each class (rows) were predicted as each class (columns).

    Every image counts once, at any batch size. Images that cannot be decoded are left out if
    `data.on_error` skips them. There are as many classes as the network has outputs.

    Args:
      data: where the images come from; None uses the run's own data.
      split: None uses the run's test split, or its evaluation split if it has no test split.
      on_batch: called after every batch.

    Raises:
      InputError: the run or the data are for another task, or the data have a class
        that the run does not know.
    """
    data, mesh = data or run.config.data, mesh or data_mesh()
    if run.config.task != "classification":
        raise InputError(f"{run.workdir} is a run of {run.config.task}; expected classification")
    source = open_source(data, split or default_split(data))
    check_task(source, run.config.task)
    source = for_outputs(source, run.class_names, run.model.num_classes, str(run.workdir))
    task = dataclasses.replace(CLASSIFICATION, sums=_confusion_sums)
    step = make_eval_step(
        run.model,
        mesh,
        mean=data.mean,
        std=data.std,
        task=task,
        flip=data.eval_flip,
        outputs=competing_outputs(source, data.source, run.model.num_classes),
    )
    variables = jax.device_put(dict(run.variables), replicated(mesh))
    total = np.zeros((run.model.num_classes,) * 2, np.int64)
    batches = eval_batches(
        source,
        divisible_eval_batch(data, mesh),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    try:
        for batch in batches:
            sums = step(variables, put_batch(device_rows(batch), mesh))
            total += np.asarray(sums["confusion"])
            on_batch()
    finally:
        batches.close()
    return total


def worst_mistakes(confusion: Confusion, count: int = 10) -> list[Mistake]:
    """Return the `count` pairs of classes that are confused most often, the worst first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [Mistake(int(t), int(p), int(wrong[t, p])) for t, p in pairs if wrong[t, p]]


def write_confusion(path: Path, confusion: Confusion, names: tuple[str, ...]) -> None:
    """Write a matrix as CSV: a row for each true class, a column for each predicted class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth", *names])
    for name, row in zip(names, confusion.tolist(), strict=True):
        writer.writerow([name, *row])
    replace_text(path, text.getvalue())


def _confusion_sums(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    # Ranked as in the evaluation, so that the diagonal adds up to its accuracy.
    predicted = jax.lax.top_k(logits, 1)[1][:, 0]
    counted = batch["mask"].astype(bool)
    confusion = count_confusion(batch["label"], predicted, counted, logits.shape[-1])
    return {"confusion": confusion}
