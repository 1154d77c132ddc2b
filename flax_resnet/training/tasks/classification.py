"""One class an image: what is minimised, and what is counted."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.training.tasks.losses import cross_entropy

TOP_K = 5


def classification_loss(
    logits: Float[Array, "n classes"],
    batch: Mapping[str, jax.Array],
    label_smoothing: float = 0.0,
    dice_weight: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the mean cross-entropy and the accuracy of a batch."""
    del dice_weight  # of the other task: the settings refuse it here
    labels = batch["label"]
    if logits.ndim != labels.ndim + 1:
        raise InputError(
            f"the model gives {logits.shape[1:]} for an image; expected one number a class. Set "
            "config.task to 'segmentation', or take another config.model.name"
        )
    loss = cross_entropy(logits, labels, label_smoothing).mean()
    return loss, (logits.argmax(-1) == labels).mean()


def classification_sums(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the sums over the examples that `mask` marks.

    They are count, loss, and the numbers of examples whose label is the first and among the first
    five of the logits.
    """
    labels, mask = batch["label"], batch["mask"]
    ranked = jax.lax.top_k(logits, min(TOP_K, logits.shape[-1]))[1] == labels[:, None]
    values = {
        "count": jnp.ones_like(labels),
        "loss": cross_entropy(logits, labels),
        "top1": ranked[:, 0],
        "top5": ranked.any(-1),
    }
    return {key: jnp.where(mask, value, 0).sum() for key, value in values.items()}


def classification_figures(
    totals: Mapping[str, np.ndarray], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return loss, top1 and top5, means over the examples."""
    del class_names
    count = float(totals["count"])
    return {
        key: float(total) / count if count else float("nan")
        for key, total in totals.items()
        if key != "count"
    }
