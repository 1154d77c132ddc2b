"""Precision, recall and F1 of classes, and how far chance could have moved each measure."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flax_resnet.inference.scores import Scores

RESAMPLES = 1_000
# Of the interval: 95 % of the resamples lie in it.
_OUTSIDE = (2.5, 97.5)


class ClassMeasures(NamedTuple):
    """How well each class is recognized. A share of nothing, such as of no predictions, is 0."""

    images: Int[np.ndarray, " classes"]
    precision: Float[np.ndarray, " classes"]
    """The share of the images predicted as the class that are of it."""
    recall: Float[np.ndarray, " classes"]
    """The share of the images of the class that are predicted as it."""
    f1: Float[np.ndarray, " classes"]
    """The harmonic mean of both."""
    occurs: Bool[np.ndarray, " classes"]
    """Whether the class is in the labels or in the predictions: the others count in no mean."""


def class_measures(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> ClassMeasures:
    """Return the measures of each class, as scikit-learn computes them with `zero_division=0`."""
    right = np.bincount(truth[truth == predicted], minlength=classes)
    images = np.bincount(truth, minlength=classes)
    guesses = np.bincount(predicted, minlength=classes)
    return ClassMeasures(
        images,
        right / np.maximum(guesses, 1),
        right / np.maximum(images, 1),
        2 * right / np.maximum(images + guesses, 1),
        images + guesses > 0,
    )


def measures(scores: Scores, classes: int) -> dict[str, float]:
    """Return loss, top1, top5, and precision, recall and f1 as means over the classes (macro).

    They are NaN where there are no images.
    """
    if not len(scores.truth):
        return dict.fromkeys(("loss", "top1", "top5", "precision", "recall", "f1"), float("nan"))
    found = class_measures(scores.truth, scores.predicted, classes)
    means = {
        "loss": scores.loss,
        "top1": scores.right,
        "top5": scores.top5,
        "precision": found.precision[found.occurs],
        "recall": found.recall[found.occurs],
        "f1": found.f1[found.occurs],
    }
    return {name: float(np.mean(values)) for name, values in means.items()}


def intervals(
    scores: Scores, classes: int, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95 % confidence interval of each of the `measures`, by the bootstrap.

    The images are drawn anew with replacement, as often as there are, and the interval has the
    middle 95 % of the measures of the resamples (Efron, 1979). It says how far another sample of
    images would move a measure, not another training.
    """
    if not len(scores.truth):
        return {}
    rng, count = np.random.default_rng(seed), len(scores.truth)
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(0, count, count)
        drawn.append(measures(Scores(*(values[rows] for values in scores)), classes))
    ends = {name: np.percentile([each[name] for each in drawn], _OUTSIDE) for name in drawn[0]}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
