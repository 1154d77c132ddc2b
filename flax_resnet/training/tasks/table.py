"""What a run learns: a row for each task, so that one trainer serves all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from flax_resnet.training.tasks.classification import (
    classification_figures,
    classification_loss,
    classification_sums,
)
from flax_resnet.training.tasks.segmentation import (
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
