"""How well classes are found: precision, recall, F1 and average precision."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num


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


def measures_of_counts(
    right: Int[np.ndarray, " classes"],
    images: Int[np.ndarray, " classes"],
    guesses: Int[np.ndarray, " classes"],
) -> ClassMeasures:
    """Return the measures of each class, as scikit-learn computes them with `zero_division=0`.

    Args:
      right: how many images of the class are predicted as it.
      images: how many are of the class.
      guesses: how many are predicted as it.
    """
    return ClassMeasures(
        images,
        right / np.maximum(guesses, 1),
        right / np.maximum(images, 1),
        2 * right / np.maximum(images + guesses, 1),
        images + guesses > 0,
    )


def average_precision(scores: Num[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """Return the average precision of a class; NaN if it has no images.

    It is the sum, over the thresholds that the scores are, of the precision at the threshold times
    the recall that it adds (as in scikit-learn): images of equal scores are found together.
    """
    found, ranks = _found_by_rank(scores, truth)
    if not truth.any():
        return float("nan")
    added = np.diff(found, prepend=0)
    return float((added * found / ranks).sum() / truth.sum())


def best_threshold(
    probabilities: Float[np.ndarray, "n classes"], truth: Bool[np.ndarray, "n classes"]
) -> float:
    """Return the threshold for all classes with the best F1 over all decisions (micro).

    It lies halfway between two probabilities, so that rounding does not move a decision.
    """
    if not truth.any():
        return 0.5
    scores = probabilities.ravel()
    found, ranks = _found_by_rank(scores, truth.ravel())
    best = int(ranks[np.argmax(2 * found / (truth.sum() + ranks))])
    ordered = np.append(np.sort(scores)[::-1], 0.0)
    return float(ordered[best - 1] + ordered[best]) / 2


def _found_by_rank(
    scores: Num[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " thresholds"], Int[np.ndarray, " thresholds"]]:
    """Return, for each score as the threshold, how many of the class are found, and of how many."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    return np.cumsum(truth[order])[last], last + 1
