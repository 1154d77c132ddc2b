"""One class a pixel: what is minimised, and what is counted."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from flax_resnet.errors import InputError
from flax_resnet.models import IGNORED
from flax_resnet.steps.tasks.losses import cross_entropy, soft_dice


def segmentation_loss(
    logits: Float[Array, "n h w classes"],
    batch: Mapping[str, jax.Array],
    label_smoothing: float = 0.0,
    dice_weight: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the loss and the pixel accuracy of a batch.

    The loss is the mean of the pixels' cross-entropies, weighted where the batch has `weight`, and
    `dice_weight` times one minus the mean of the classes' soft Dice.
    """
    labels, counted = truth(logits, batch["label"])
    weights = counted * batch["weight"] if "weight" in batch else counted.astype(jnp.float32)
    losses = cross_entropy(logits, labels, label_smoothing)
    loss = _mean(losses, weights)
    if dice_weight:
        loss += dice_weight * (1 - soft_dice(logits, labels, counted).mean())
    return loss, _mean(logits.argmax(-1) == labels, counted.astype(jnp.float32))


def segmentation_sums(
    logits: Float[Array, "n h w classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the sums over the pixels that count: loss, and the confusion matrix in whole numbers.

    Its rows are the classes that are right, its columns those that the model says. `count` is of
    images.
    """
    classes = logits.shape[-1]
    labels, counted = truth(logits, batch["label"])
    cells = jnp.where(counted, labels * classes + logits.argmax(-1), classes**2)  # past the last
    confusion = jnp.bincount(cells.ravel(), length=classes**2).reshape(classes, classes)
    loss = jnp.where(counted, cross_entropy(logits, labels), 0).sum()
    return {"count": batch["mask"].sum(), "loss": loss, "confusion": confusion}


def segmentation_figures(
    totals: Mapping[str, np.ndarray], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return the mean loss of all pixels and the `confusion_figures`."""
    pixels = float(totals["confusion"].sum())
    loss = float(totals["loss"]) / pixels if pixels else float("nan")
    return {"loss": loss, **confusion_figures(totals["confusion"], class_names)}


def confusion_figures(
    confusion: Float[np.ndarray, "classes classes"], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return what a confusion matrix says; its rows are the right classes.

    That is `pixel_error`, the share of pixels with the wrong class, and every class's Dice
    coefficient and intersection over union, as `dice/NAME` and `iou/NAME`, with their means `dice`
    and `iou`. A class that is neither there nor found has none.
    """
    pixels, right = float(confusion.sum()), float(np.trace(confusion))
    figures = {"pixel_error": 1 - right / pixels if pixels else float("nan")}
    both = np.diag(confusion)
    sums = confusion.sum(0) + confusion.sum(1)
    # The model may have more outputs than the data classes.
    present = [(at, name) for at, name in enumerate(class_names) if sums[at] > 0]
    for kind, parts, wholes in (("dice", 2 * both, sums), ("iou", both, sums - both)):
        scores = {f"{kind}/{name}": float(parts[at] / wholes[at]) for at, name in present}
        figures[kind] = sum(scores.values()) / len(scores) if scores else float("nan")
        figures |= scores
    return figures


def truth(
    logits: Float[Array, "n h w classes"], labels: UInt8[Array, "n h w"]
) -> tuple[Int[Array, "n h w"], Bool[Array, "n h w"]]:
    """Return every pixel's class, 0 where it does not count, and whether it counts.

    Raises:
      InputError: the model gives no logits for every pixel.
    """
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"the model gives {logits.shape[1:]} for images of {labels.shape[1:]} pixels; expected "
            "one number a class for each pixel. Set config.task to 'classification', or "
            "config.model.name to a network such as unet"
        )
    counted = labels != IGNORED
    return jnp.where(counted, labels.astype(jnp.int32), 0), counted


def _mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    # A batch in which nothing counts has the mean 0, not 0 / 0.
    return (values * weights).sum() / jnp.maximum(weights.sum(), jnp.finfo(jnp.float32).tiny)
