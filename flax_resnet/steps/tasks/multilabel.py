"""Multi-label classification: any number of classes for each image; its loss and its metrics."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.layers import at_least_float32
from flax_resnet.steps.tasks.losses import binary_cross_entropy
from flax_resnet.steps.tasks.retrieval import (
    average_precision,
    best_threshold,
    measures_of_counts,
)

BEST = "best"  # besides a number, as `config.threshold`
HALF = "0.5"


def multilabel_loss(
    logits: Float[Array, "n classes"],
    batch: Mapping[str, jax.Array],
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
    class_weights: tuple[float, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Return the mean binary cross-entropy of all decisions of a batch, and their accuracy.

    Mixed images (see `mixing.mix`) have both sets of labels as their target, weighted by `share`;
    the accuracy counts the labels with the greater share as correct. Label smoothing moves targets
    towards 1/2, since each class is a decision of its own.

    Args:
      class_weights: of the targets, but not of their complements; (): 1.
    """
    labels, partner = (_outputs(logits, batch[key]) for key in ("label", _partner(batch)))
    targets, right = labels.astype(jnp.float32), labels
    if "share" in batch:
        share = batch["share"].astype(jnp.float32)[:, None]
        targets = share * targets + (1 - share) * partner
        right = jnp.where(share >= 0.5, labels, partner)
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + label_smoothing / 2
    weights = jnp.asarray(class_weights) if class_weights else None
    losses = binary_cross_entropy(logits, targets, 0.0, target_threshold, weights)
    return losses.mean(), ((logits > 0) == right).mean()


def multilabel_sums(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the number of examples that `mask` marks and their total loss, and every answer.

    Average precision ranks all images of a split, so that the answers of batches are joined and
    not summed.
    """
    labels, mask = _outputs(logits, batch["label"]), batch["mask"]
    losses = binary_cross_entropy(logits, labels.astype(jnp.float32))
    return {
        "count": mask.sum(),
        "loss": jnp.where(mask, losses, 0).sum(),
        "logits": at_least_float32(logits),
        "truth": labels,
        "counted": mask,
    }


def multilabel_metrics(
    totals: Mapping[str, np.ndarray], class_names: tuple[str, ...], threshold: str = HALF
) -> dict[str, float]:
    """Return the metrics of all images.

    They are the mean `loss`; `map`, the mean over classes of the average precision; precision,
    recall and `f1` as means over classes (macro), and `f1_micro` over all decisions, at the
    `threshold`; `best_threshold`, at which `f1_micro` would be the best; and `ap/NAME` and
    `f1/NAME` of every class. A class without images has no average precision, and one that is
    neither in the labels nor in the predictions has no F1; means leave these out.

    Args:
      threshold: the probability from which a class counts as predicted, or `best`.
    """
    counted, classes = totals["counted"].astype(bool), len(class_names)
    logits = totals["logits"][counted, :classes].astype(np.float64)
    truth = totals["truth"][counted, :classes].astype(bool)
    probabilities = 1 / (1 + np.exp(-logits))
    best = best_threshold(probabilities, truth)
    given = parse_threshold(threshold)
    least = best if given is None else given
    chosen = probabilities >= least
    counts = (chosen & truth).sum(0), truth.sum(0), chosen.sum(0)
    found = measures_of_counts(*counts)
    micro = measures_of_counts(*(np.atleast_1d(each.sum()) for each in counts))
    precisions = [average_precision(logits[:, at], truth[:, at]) for at in range(classes)]
    return {
        "loss": float(totals["loss"] / totals["count"]) if counted.any() else float("nan"),
        "map": _mean(np.array(precisions)[truth.any(0)]),
        **{key: _mean(getattr(found, key)[found.occurs]) for key in ("precision", "recall", "f1")},
        "f1_micro": float(micro.f1[0]),
        "threshold": least,
        "best_threshold": best,
        **{f"ap/{class_names[at]}": precisions[at] for at in np.flatnonzero(truth.any(0))},
        **{f"f1/{class_names[at]}": float(found.f1[at]) for at in np.flatnonzero(found.occurs)},
    }


def parse_threshold(text: str) -> float | None:
    """Return the number of `config.threshold`; None for `best`.

    Raises:
      InputError: it is neither `best` nor a number between 0 and 1.
    """
    if text == BEST:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise InputError(
            f"the threshold is {text!r}; expected a number above 0 and below 1, or {BEST!r}, the "
            "one with the best F1 on the evaluation split"
        )
    return number


def check_multilabel(config: Any) -> None:
    """Raise `InputError` unless a `TrainConfig` has settings that several labels can have."""
    parse_threshold(config.threshold)
    if config.task != "multilabel":
        return
    each = "since each class is a decision of its own"
    for name, value, expected, reason in (
        ("loss", config.loss, "sigmoid", each),
        ("distill.teacher", config.distill.teacher, None, "since teachers know one class an image"),
        (
            "data.sampling",
            config.data.sampling,
            "shuffled",
            "since an image with several classes cannot be drawn for one of them. "
            "config.class_weights='balanced' weighs the loss instead",
        ),
    ):
        if value != expected:
            raise InputError(
                f"config.{name} is {value!r}; expected {expected!r} if config.task is "
                f"'multilabel', {reason}"
            )


def _partner(batch: Mapping[str, jax.Array]) -> str:
    return "partner" if "share" in batch else "label"


def _outputs(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return labels (n, classes) for every output of a network, which may have more.

    Raises:
      InputError: the labels or the logits are not one for each class.
    """
    if logits.ndim != 2 or labels.ndim != 2:
        raise InputError(
            f"the model gives {logits.shape[1:]} for an image with the labels {labels.shape[1:]}; "
            "expected one logit and one label for each class. Choose another config.model.name, "
            "or another config.task"
        )
    return jnp.pad(labels, ((0, 0), (0, logits.shape[-1] - labels.shape[-1])))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
