"""Which classes a network takes for which."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from flax_resnet.data import DataConfig, eval_batches, open_source
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text
from flax_resnet.steps.mesh import data_mesh, device_rows, put_batch, replicated
from flax_resnet.steps.step import make_eval_step
from flax_resnet.steps.tasks.table import CLASSIFICATION
from flax_resnet.training.evaluation import divisible_eval_batch
from flax_resnet.training.runs import Run, default_split
from flax_resnet.training.setup import check_classes, check_task

Confusion = Int[np.ndarray, "classes classes"]


class Mistake(NamedTuple):
    """How many pictures of one class are taken for another."""

    truth: int
    found: int
    pictures: int


def confusion_matrix(
    run: Run,
    data: DataConfig | None = None,
    split: str | None = None,
    mesh: Mesh | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Confusion:
    """Return how many pictures of each class (rows) were taken for each class (columns).

    Every picture counts once, at any batch size; what cannot be decoded counts nowhere where
    `data.on_error` skips it. There are as many classes as the network has outputs.

    Args:
      data: where the pictures come from; None takes the run's own data.
      split: None takes the run's test split, or its evaluation split where it has none.

    Raises:
      InputError: the run or the data are for another task, or the data have more classes.
    """
    data, mesh = data or run.config.data, mesh or data_mesh()
    if run.config.task != "classification":
        raise InputError(f"{run.workdir} is a run of {run.config.task}; expected classification")
    source = open_source(data, split or default_split(data))
    check_task(source, run.config.task)
    check_classes(source, run.model.num_classes)
    task = dataclasses.replace(CLASSIFICATION, sums=_cells)
    step = make_eval_step(
        run.model, mesh, mean=data.mean, std=data.std, task=task, flip=data.eval_flip
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
    """Return the pairs of classes that are mixed up most often, at most so many."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [Mistake(int(t), int(f), int(wrong[t, f])) for t, f in pairs if wrong[t, f]]


def write_confusion(path: Path, confusion: Confusion, names: tuple[str, ...]) -> None:
    """Write a matrix as CSV: a row for each true class, a column for each that was found."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth", *names])
    for name, row in zip(names, confusion.tolist(), strict=True):
        writer.writerow([name, *row])
    replace_text(path, text.getvalue())


def _cells(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    # As the evaluation ranks them, so that the diagonal is its accuracy.
    found = jax.lax.top_k(logits, 1)[1][:, 0]
    classes = logits.shape[-1]
    empty = jnp.zeros((classes, classes), jnp.int32)
    return {"confusion": empty.at[batch["label"], found].add(batch["mask"].astype(jnp.int32))}
