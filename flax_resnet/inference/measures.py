"""Precision, recall and F1 of classes, and how far chance could have moved each measure."""

import numpy as np
from jaxtyping import Int

from flax_resnet.inference.scores import Scores
from flax_resnet.steps.tasks.retrieval import ClassMeasures, measures_of_counts

RESAMPLES = 1_000
# Of the interval: 95 % of the resamples lie in it.
_OUTSIDE = (2.5, 97.5)


def class_measures(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> ClassMeasures:
    """Return the measures of each class, as scikit-learn computes them with `zero_division=0`."""
    right = np.bincount(truth[truth == predicted], minlength=classes)
    images = np.bincount(truth, minlength=classes)
    guesses = np.bincount(predicted, minlength=classes)
    return measures_of_counts(right, images, guesses)


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
