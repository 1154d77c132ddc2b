"""What a run learns: a row for each task, so that one trainer serves all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from flax_resnet.errors import InputError, require_known
from flax_resnet.steps.tasks.classification import (
    LOSSES,
    classification_figures,
    classification_loss,
    classification_sums,
)
from flax_resnet.steps.tasks.segmentation import (
    segmentation_figures,
    segmentation_loss,
    segmentation_sums,
)

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Loss = Callable[[jax.Array, Batch], tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Task:
    """How a task is trained, counted and shown.

    Attributes:
      loss: `(logits, batch, **settings) -> (loss, accuracy)`, jitted.
      settings: the names of those in `TrainConfig`.
      sums: `(logits, batch) -> sums` over what the batch marks, `count` among them, jitted.
      figures: `(totals, class_names) -> figures`, from the sums of all batches in float64.
      ranked_by: the figure whose largest value makes the best checkpoint.
      line: how a person sees the figures in one line.
      columns: how a person sees them in a table, by title.
    """

    loss: Callable[..., tuple[jax.Array, jax.Array]]
    settings: tuple[str, ...]
    sums: Callable[[jax.Array, Batch], Metrics]
    figures: Callable[[Mapping[str, np.ndarray], tuple[str, ...]], dict[str, float]]
    ranked_by: str
    line: str
    columns: Mapping[str, str]


TASKS = {
    "classification": Task(
        loss=classification_loss,
        settings=("label_smoothing", "loss", "target_threshold"),
        sums=classification_sums,
        figures=classification_figures,
        ranked_by="top1",
        line="loss {loss:.4f}  accuracy {top1:.2%}  top-5 {top5:.2%}",
        columns={"loss": "{loss:.4f}", "top-1": "{top1:.2%}", "top-5": "{top5:.2%}"},
    ),
    "segmentation": Task(
        loss=segmentation_loss,
        settings=("label_smoothing", "dice_weight"),
        sums=segmentation_sums,
        figures=segmentation_figures,
        ranked_by="dice",
        line="loss {loss:.4f}  Dice {dice:.4f}  IoU {iou:.4f}  pixel error {pixel_error:.2%}",
        columns={
            "loss": "{loss:.4f}",
            "Dice": "{dice:.4f}",
            "IoU": "{iou:.4f}",
            "pixel error": "{pixel_error:.2%}",
        },
    ),
}
CLASSIFICATION = TASKS["classification"]


def check_learning(config: Any) -> None:
    """Raise `InputError` unless the settings of task and loss of a `TrainConfig` go together."""
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"config.label_smoothing is {config.label_smoothing}; expected 0 to 1")
    require_known("config.task", config.task, TASKS)
    require_known("config.loss", config.loss, LOSSES)
    if config.dice_weight < 0 or (config.dice_weight and config.task != "segmentation"):
        raise InputError(
            f"config.dice_weight is {config.dice_weight}; expected a positive number, or 0 where "
            "config.task is not 'segmentation'"
        )
    if config.accumulate < 1:
        raise InputError(f"config.accumulate is {config.accumulate}; expected at least 1")
    threshold = config.target_threshold
    if threshold is not None and not (0 <= threshold < 1 and config.loss == "sigmoid"):
        raise InputError(
            f"config.target_threshold is {threshold}; expected 0 or more and below 1, or None "
            "where config.loss is not 'sigmoid'"
        )
    if config.task == "segmentation":
        _check_segmentation(config)


def _check_segmentation(config: Any) -> None:
    for name, value, expected in (
        ("loss", config.loss, "softmax"),
        ("mix.mixup", config.mix.mixup, 0.0),
        ("mix.cutmix", config.mix.cutmix, 0.0),
        ("distill.teacher", config.distill.teacher, None),
        # Its loss is a mean over the pixels of the whole batch that count, and parts have
        # different numbers of them.
        ("accumulate", config.accumulate, 1),
    ):
        if value != expected:
            raise InputError(
                f"config.{name} is {value!r}; expected {expected!r} where config.task is "
                "'segmentation'"
            )
