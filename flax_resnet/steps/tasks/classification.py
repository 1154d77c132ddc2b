"""Classification: one class for each image; its loss and its metrics."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_resnet.errors import InputError, require_free
from flax_resnet.steps.tasks.losses import (
    binary_cross_entropy,
    cross_entropy,
    cross_entropy_of_any,
    soft_cross_entropy,
)

TOP_K = 5
EQUAL, BALANCED = "none", "balanced"  # besides numbers, as `config.class_weights`
OwnLoss = Callable[[jax.Array, Mapping[str, jax.Array]], Any]
# The names of `config.loss`, and the losses that `register_loss` has added.
LOSSES: dict[str, OwnLoss | None] = {"softmax": None, "sigmoid": None}
_BUILT_IN = frozenset(LOSSES)


def register_loss(name: str, loss: OwnLoss) -> None:
    """Add a loss of your own under a name for `config.loss`.

    Args:
      loss: `(logits, batch) -> loss` of each example, or of the batch; or `(loss, accuracy)`. The
        batch has `label`, and where images are mixed `partner` and `share`: `soft_targets` makes
        target probabilities of them. It is traced by jit.

    Raises:
      InputError: the name is taken.
    """
    require_free("a loss", name, LOSSES, LOSSES.keys() - _BUILT_IN)
    LOSSES[name] = loss


def own_loss_named(name: str) -> OwnLoss | None:
    """Return what `register_loss` was given; None for other names."""
    return LOSSES.get(name)


def own_loss(
    logits: jax.Array, batch: Mapping[str, jax.Array], function: OwnLoss
) -> tuple[jax.Array, jax.Array]:
    """Return the loss of a batch by a user-defined function, and the accuracy.

    Raises:
      InputError: the function returns something else than a loss.
    """
    found = function(logits, batch)
    value, accuracy = found if isinstance(found, tuple) else (found, None)
    value = jnp.asarray(value)
    if value.shape not in ((), batch["label"].shape[:1]) or not jnp.issubdtype(
        value.dtype, jnp.floating
    ):
        raise InputError(
            f"the loss is {value.dtype} {value.shape} for {len(batch['label'])} examples; expected "
            "one number, or one for each example"
        )
    if accuracy is None:
        accuracy = (logits.argmax(-1) == _likelier_labels(batch)).mean()
    return value.mean().astype(jnp.float32), accuracy


def _likelier_labels(batch: Mapping[str, jax.Array]) -> jax.Array:
    """Return the labels; of mixed images those with the greater share."""
    if "share" not in batch:
        return batch["label"]
    return jnp.where(batch["share"] >= 0.5, batch["label"], batch["partner"])


def classification_loss(
    logits: Float[Array, "n classes"],
    batch: Mapping[str, jax.Array],
    label_smoothing: float = 0.0,
    loss: str = "softmax",
    target_threshold: float | None = None,
    class_weights: tuple[float, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Return the mean cross-entropy and the accuracy of a batch.

    Mixed images (see `mixing.mix`) have both labels as their target, weighted by `share`; the
    accuracy counts the label with the greater share as correct.

    Args:
      class_weights: of the targets; (): 1.
    """
    labels = batch["label"]
    if logits.ndim != labels.ndim + 1:
        raise InputError(
            f"the model gives {logits.shape[1:]} for an image; expected one logit for each class. "
            "Set config.task to 'segmentation', or choose another config.model.name"
        )
    if (function := own_loss_named(loss)) is not None:
        return own_loss(logits, batch, function)
    mixed = "share" in batch
    weights = jnp.asarray(class_weights) if class_weights else None
    if loss == "softmax" and not mixed and weights is None:
        value = cross_entropy(logits, labels, label_smoothing).mean()
    else:
        targets = soft_targets(batch, logits.shape[-1])
        if loss == "softmax":
            losses = soft_cross_entropy(logits, targets, label_smoothing, weights)
        else:
            losses = binary_cross_entropy(
                logits, targets, label_smoothing, target_threshold, weights
            )
        value = losses.mean()
    return value, (logits.argmax(-1) == _likelier_labels(batch)).mean()


def parse_class_weights(text: str) -> tuple[float, ...]:
    """Return the numbers of `config.class_weights`, such as `1,2.5,1`; () for its words.

    Raises:
      InputError: it is neither a word nor numbers that weights can be.
    """
    if text in (EQUAL, BALANCED):
        return ()
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    usable = all(0 <= weight < float("inf") for weight in weights)
    if len(weights) < 2 or not usable or max(weights) == min(weights):
        raise InputError(
            f"config.class_weights is {text!r}; expected {EQUAL!r}, {BALANCED!r}, or a number of "
            "at least 0 for each class, which are not all the same, such as '1,2.5,1'"
        )
    return weights


def check_class_weights(config: Any) -> None:
    """Raise `InputError` unless a `TrainConfig` has class weights that can be used."""
    parse_class_weights(config.class_weights)
    if config.class_weights == BALANCED and config.data.sampling == BALANCED:
        raise InputError(
            "config.class_weights and config.data.sampling are both 'balanced'; expected one of "
            "them, since each gives all classes the same share in the loss"
        )


def soft_targets(batch: Mapping[str, jax.Array], classes: int) -> Float[Array, "n classes"]:
    """Return the target probabilities of a batch: one-hot, or two shares for a mixed image."""
    own = jax.nn.one_hot(batch["label"], classes)
    if "share" not in batch:
        return own
    share = batch["share"].astype(own.dtype)[:, None]
    return share * own + (1 - share) * jax.nn.one_hot(batch["partner"], classes)


def classification_sums(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the sums over the examples that `mask` marks.

    They are count, loss, top1 and top5: the number of examples, their total loss, and the numbers
    of labels that rank first, and among the first five, by logit.

    Where images have several labels, any of them is right, and images without labels count only in
    `unlabeled` (ReaL, arXiv:2006.07159).
    """
    labels, mask = batch["label"], batch["mask"]
    best = jax.lax.top_k(logits, min(TOP_K, logits.shape[-1]))[1]
    extra = {}
    if labels.ndim == 1:
        ranked, losses = best == labels[:, None], cross_entropy(logits, labels)
    else:
        # The network may have more outputs than the data has classes.
        right = jnp.pad(labels, ((0, 0), (0, logits.shape[-1] - labels.shape[-1])))
        ranked = jnp.take_along_axis(right, best, axis=-1)
        losses = cross_entropy_of_any(logits, right)
        extra["unlabeled"] = (mask & ~labels.any(-1)).sum()
        mask = mask & labels.any(-1)
    values = {
        "count": jnp.ones_like(mask, jnp.int32),
        "loss": losses,
        "top1": ranked[:, 0],
        "top5": ranked.any(-1),
    }
    return {key: jnp.where(mask, value, 0).sum() for key, value in values.items()} | extra


def among(
    logits: Float[Array, "*n classes"], outputs: tuple[int, ...]
) -> Float[Array, "*n classes"]:
    """Return the logits with those of all other classes at -inf, as if there were none.

    Args:
      outputs: the classes among which a prediction is chosen; () leaves all.
    """
    if not outputs:
        return logits
    chosen = jnp.asarray(outputs)
    return jnp.full_like(logits, -jnp.inf).at[..., chosen].set(logits[..., chosen])


def classification_metrics(
    totals: Mapping[str, np.ndarray], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return the means of loss, top1 and top5 over the examples, and how many are unlabeled."""
    del class_names
    count = float(totals["count"])
    means = {
        key: float(totals[key]) / count if count else float("nan")
        for key in ("loss", "top1", "top5")
    }
    return means | {key: float(totals[key]) for key in ("unlabeled",) if key in totals}
