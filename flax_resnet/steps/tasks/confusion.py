"""The confusion matrix: how it is counted, and the metrics of segmentation that follow from it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Labels = jax.Array | np.ndarray


def count_confusion(
    truth: Labels, predicted: Labels, counted: Labels, classes: int
) -> Int[Array, "{classes} {classes}"]:
    """Return how many elements of each class (rows) were predicted as each class (columns).

    Args:
      counted: elements that are False are left out.
    """
    cells = jnp.asarray(truth, jnp.int32) * classes + predicted
    cells = jnp.where(counted, cells, classes**2)  # past the last cell, where bincount drops it
    return jnp.bincount(cells.ravel(), length=classes**2).reshape(classes, classes)


def confusion_metrics(
    confusion: Float[np.ndarray, "classes classes"], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return the metrics of a confusion matrix of pixels, whose rows are the true classes.

    They are `pixel_error`, the share of pixels with the wrong class, and the Dice coefficient and
    intersection over union of every class, as `dice/NAME` and `iou/NAME`, with their means `dice`
    and `iou`. A class that occurs neither in the truth nor in the predictions has none.
    """
    pixels, right = float(confusion.sum()), float(np.trace(confusion))
    metrics = {"pixel_error": 1 - right / pixels if pixels else float("nan")}
    both = np.diag(confusion)
    sums = confusion.sum(0) + confusion.sum(1)
    # The model may have more outputs than the data has classes.
    present = [(at, name) for at, name in enumerate(class_names) if sums[at] > 0]
    for kind, parts, wholes in (("dice", 2 * both, sums), ("iou", both, sums - both)):
        scores = {f"{kind}/{name}": float(parts[at] / wholes[at]) for at, name in present}
        metrics[kind] = sum(scores.values()) / len(scores) if scores else float("nan")
        metrics |= scores
    return metrics
