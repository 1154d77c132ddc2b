"""The calibration of a network's probabilities, and temperature scaling."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flax_resnet.errors import InputError
from flax_resnet.inference.scores import ScoredBatch, Scores

# As in arXiv:1706.04599. The number of bins is part of the measure: others give other errors.
BINS = 15
# A temperature is one number, which this many images determine, and their logits fit in memory.
FITTED_IMAGES = 10_000
# Temperatures from 1/50 to 50, by halving the interval of their logarithms.
_WIDEST, _HALVINGS = np.log(50.0), 40


class NoTemperatureError(InputError):
    """No temperature minimizes the cross-entropy of these predictions."""


class Bin(NamedTuple):
    """The images whose confidence lies above `low` and is at most `high`."""

    low: float
    high: float
    images: int
    confidence: float
    """The mean probability of the predicted class; NaN without images."""
    accuracy: float
    """The share of correct predictions; NaN without images."""


def reliability(scores: Scores, bins: int = BINS) -> list[Bin]:
    """Return the bins of equal width of a reliability diagram."""
    at = np.clip(np.ceil(scores.confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(at, scores.confidence, bins) / images
        accuracy = np.bincount(at, scores.right, bins) / images
    return [
        Bin(number / bins, (number + 1) / bins, int(images[number]), float(mean), float(share))
        for number, (mean, share) in enumerate(zip(confidence, accuracy, strict=True))
    ]


def calibration_error(bins: Iterable[Bin]) -> float:
    """Return the expected calibration error (arXiv:1706.04599); NaN without images.

    It is the mean distance between accuracy and confidence of the bins, weighted by their images.
    """
    filled = [each for each in bins if each.images]
    total = sum(each.images for each in filled)
    gaps = sum(each.images * abs(each.accuracy - each.confidence) for each in filled)
    return gaps / total if total else float("nan")


def fit_temperature(batches: Iterator[ScoredBatch], where: str) -> float:
    """Return the temperature that gives the least cross-entropy (arXiv:1706.04599).

    Args:
      where: the images are from, for errors.

    Raises:
      NoTemperatureError: no temperature is the best, because all images are classified correctly,
        or the predictions are no better than chance.
    """
    parts = [(each.logits[each.counted], each.truth[each.counted]) for each in batches]
    logits, truth = (np.concatenate(each) for each in zip(*parts, strict=True))
    return best_temperature(logits, truth, where)


def best_temperature(
    logits: Float[np.ndarray, "n classes"], truth: Int[np.ndarray, " n"], where: str
) -> float:
    """Return the temperature of the least mean cross-entropy of logits.

    The cross-entropy is convex in the inverse of the temperature, so its slope has one root.
    Arguments and errors are those of `fit_temperature`.
    """
    if not len(truth):
        raise NoTemperatureError(
            f"{where} has no image that can be decoded, to fit a temperature on"
        )
    # Outputs that do not compete are at -inf, and their products with 0 would be NaN.
    logits = np.maximum(logits - logits.max(1, keepdims=True), -1e4).astype(np.float32)
    own = logits[np.arange(len(truth)), truth]

    def slope(log_inverse: float) -> float:
        weights = np.exp(logits * np.float32(np.exp(log_inverse)))
        return float(np.mean((weights * logits).sum(1) / weights.sum(1) - own))

    low, high = -_WIDEST, _WIDEST
    if slope(low) >= 0:
        raise NoTemperatureError(
            f"no temperature fits {where}: the predictions for its {len(truth):,} images are no "
            "better than chance. Train for longer, or choose the split with the right labels"
        )
    if slope(high) <= 0:
        raise NoTemperatureError(
            f"no temperature fits {where}: of its {len(truth):,} images none is misclassified with "
            "a probability that could be corrected. Choose a split with more images"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))
