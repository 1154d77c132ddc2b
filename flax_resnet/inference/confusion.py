"""The confusion matrix of a classification run over a split, and its largest errors."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from flax_resnet.data import DataConfig
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text
from flax_resnet.inference.scores import Scores, open_labeled, score, scored_batches
from flax_resnet.training.checks import check_task
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
    data = data or run.config.data
    if run.config.task != "classification":
        raise InputError(f"{run.workdir} is a run of {run.config.task}; expected classification")
    split, name = split or default_split(data), str(run.workdir)
    source = open_labeled(data, split, run.class_names, run.model, name)
    check_task(source, run.config.task)
    total = np.zeros((run.model.num_classes,) * 2, np.int64)
    for batch in scored_batches(run.model, run.variables, source, data, mesh):
        answers = score(batch.logits[batch.counted], batch.truth[batch.counted])
        total += count_pairs(answers, len(total))
        on_batch()
    return total


def count_pairs(answers: Scores, classes: int) -> Confusion:
    """Return the confusion matrix of answers."""
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (answers.truth, answers.predicted), 1)
    return confusion


def read_confusion(path: Path) -> Confusion:
    """Return a matrix that `write_confusion` has written."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file))
    return np.array([row[1:] for row in rows[1:]], np.int64)


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
