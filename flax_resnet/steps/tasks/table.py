"""The table of tasks, which lets one trainer serve all of them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from flax_resnet.errors import InputError, require_known
from flax_resnet.steps.tasks.classification import (
    EQUAL,
    LOSSES,
    check_class_weights,
    classification_loss,
    classification_metrics,
    classification_sums,
)
from flax_resnet.steps.tasks.multilabel import (
    check_multilabel,
    multilabel_loss,
    multilabel_metrics,
    multilabel_sums,
)
from flax_resnet.steps.tasks.segmentation import (
    segmentation_loss,
    segmentation_metrics,
    segmentation_sums,
)

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Loss = Callable[[jax.Array, Batch], tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Task:
    """How a task is trained, evaluated and displayed.

    Attributes:
      loss: `(logits, batch, **settings) -> (loss, accuracy)`, traced by jit.
      settings: the names of these settings in `TrainConfig`.
      sums: `(logits, batch) -> sums`, with `count`, over the examples that the batch marks; traced
        by jit.
      metrics: `(totals, class_names, **settings) -> metrics`, from the sums of all batches in
        float64.
      ranked_by: the metric whose largest value makes the best checkpoint.
      line: the format of the metrics in one line.
      columns: the formats of the metrics in a table, by column title.
      joined: the names of those sums that have a row for each example, and are joined instead.
      measured_with: the names of the settings of `metrics` in `TrainConfig`.
    """

    loss: Callable[..., tuple[jax.Array, jax.Array]]
    settings: tuple[str, ...]
    sums: Callable[[jax.Array, Batch], Metrics]
    metrics: Callable[..., dict[str, float]]
    ranked_by: str
    line: str
    columns: Mapping[str, str]
    joined: tuple[str, ...] = ()
    measured_with: tuple[str, ...] = ()

    def measured(self, **settings: Any) -> "Task":
        """Return the task with those of these settings that its metrics have."""
        own = {name: settings[name] for name in self.measured_with}
        if not own:
            return self
        return dataclasses.replace(self, metrics=functools.partial(self.metrics, **own))

    def shown_for(self, classes: int) -> "Task":
        """Return the task without the top-5 accuracy where it is always 100 %."""
        if classes > 5:
            return self
        parts = (part for part in self.line.split("  ") if "{top5" not in part)
        columns = {title: form for title, form in self.columns.items() if "{top5" not in form}
        return dataclasses.replace(self, line="  ".join(parts), columns=columns)


TASKS = {
    "classification": Task(
        loss=classification_loss,
        settings=("label_smoothing", "loss", "target_threshold"),
        sums=classification_sums,
        metrics=classification_metrics,
        ranked_by="top1",
        line="loss {loss:.4f}  accuracy {top1:.2%}  top-5 {top5:.2%}",
        columns={"loss": "{loss:.4f}", "top-1": "{top1:.2%}", "top-5": "{top5:.2%}"},
    ),
    "multilabel": Task(
        loss=multilabel_loss,
        settings=("label_smoothing", "target_threshold"),
        sums=multilabel_sums,
        metrics=multilabel_metrics,
        ranked_by="map",
        line="loss {loss:.4f}  mAP {map:.2%}  F1 {f1:.2%}  micro F1 {f1_micro:.2%}",
        columns={
            "loss": "{loss:.4f}",
            "mAP": "{map:.2%}",
            "F1": "{f1:.2%}",
            "micro F1": "{f1_micro:.2%}",
        },
        joined=("logits", "truth", "counted"),
        measured_with=("threshold",),
    ),
    "segmentation": Task(
        loss=segmentation_loss,
        settings=("label_smoothing", "dice_weight"),
        sums=segmentation_sums,
        metrics=segmentation_metrics,
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


def task_of(config: Any) -> Task:
    """Return the task of a `TrainConfig`, whose metrics have its settings."""
    task = TASKS[config.task]
    return task.measured(**{name: getattr(config, name) for name in task.measured_with})


def check_learning(config: Any) -> None:
    """Raise `InputError` unless the task and loss settings of a `TrainConfig` are consistent."""
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"config.label_smoothing is {config.label_smoothing}; expected 0 to 1")
    require_known("config.task", config.task, TASKS)
    require_known("config.loss", config.loss, LOSSES)
    if config.dice_weight < 0 or (config.dice_weight and config.task != "segmentation"):
        raise InputError(
            f"config.dice_weight is {config.dice_weight}; expected a positive number, or 0 unless "
            "config.task is 'segmentation'"
        )
    check_class_weights(config)
    check_multilabel(config)
    if config.accumulate < 1:
        raise InputError(f"config.accumulate is {config.accumulate}; expected at least 1")
    threshold = config.target_threshold
    if threshold is not None and not (0 <= threshold < 1 and config.loss == "sigmoid"):
        raise InputError(
            f"config.target_threshold is {threshold}; expected 0 or more and below 1, or None "
            "unless config.loss is 'sigmoid'"
        )
    if config.task == "segmentation":
        _check_segmentation(config)


def _check_segmentation(config: Any) -> None:
    for name, value, expected in (
        ("loss", config.loss, "softmax"),
        ("class_weights", config.class_weights, EQUAL),
        ("mix.mixup", config.mix.mixup, 0.0),
        ("mix.cutmix", config.mix.cutmix, 0.0),
        ("distill.teacher", config.distill.teacher, None),
        # The loss is a mean over all pixels of the batch that count, and micro-batches have
        # different numbers of them.
        ("accumulate", config.accumulate, 1),
    ):
        if value != expected:
            raise InputError(
                f"config.{name} is {value!r}; expected {expected!r} if config.task is "
                "'segmentation'"
            )
