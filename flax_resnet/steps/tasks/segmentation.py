"""Segmentation: one class for each pixel; its loss and its metrics."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from flax_resnet.errors import InputError
from flax_resnet.models import IGNORED
from flax_resnet.steps.tasks.confusion import confusion_metrics, count_confusion
from flax_resnet.steps.tasks.losses import cross_entropy, soft_dice


def segmentation_loss(
    logits: Float[Array, "n h w classes"],
    batch: Mapping[str, jax.Array],
    label_smoothing: float = 0.0,
    dice_weight: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the loss and the pixel accuracy of a batch.

    The loss is the mean cross-entropy of the pixels, weighted by the batch's `weight` if it has
    one, plus `dice_weight` times one minus the mean soft Dice of the classes.
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
    """Return the loss and the confusion matrix (integers), summed over the pixels that count.

    Rows of the matrix are true classes, columns are predictions. `count` is the number of images.
    """
    classes = logits.shape[-1]
    labels, counted = truth(logits, batch["label"])
    confusion = count_confusion(labels, logits.argmax(-1), counted, classes)
    loss = jnp.where(counted, cross_entropy(logits, labels), 0).sum()
    return {"count": batch["mask"].sum(), "loss": loss, "confusion": confusion}


def segmentation_metrics(
    totals: Mapping[str, np.ndarray], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return the mean loss of all pixels and the `confusion_metrics`."""
    pixels = float(totals["confusion"].sum())
    loss = float(totals["loss"]) / pixels if pixels else float("nan")
    return {"loss": loss, **confusion_metrics(totals["confusion"], class_names)}


def truth(
    logits: Float[Array, "n h w classes"], labels: UInt8[Array, "n h w"]
) -> tuple[Int[Array, "n h w"], Bool[Array, "n h w"]]:
    """Return the class of every pixel, 0 if the pixel does not count, and whether it counts.

    Raises:
      InputError: the model does not give logits for every pixel.
    """
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"the model gives {logits.shape[1:]} for images of {labels.shape[1:]} pixels; expected "
            "one logit for each class and pixel. Set config.task to 'classification', or "
            "config.model.name to a network such as unet"
        )
    counted = labels != IGNORED
    return jnp.where(counted, labels.astype(jnp.int32), 0), counted


def _mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    # The mean of a batch in which no pixel counts is 0, not 0 / 0.
    return (values * weights).sum() / jnp.maximum(weights.sum(), jnp.finfo(jnp.float32).tiny)
