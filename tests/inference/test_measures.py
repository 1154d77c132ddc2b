"""Precision, recall, F1 and their intervals: by hand, and as scikit-learn computes them."""

import numpy as np
import pytest

from flax_resnet.inference.measures import class_measures, intervals, measures
from flax_resnet.inference.scores import Scores, score

# Class 3 is predicted and never right, class 4 is in no label and in no prediction.
TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 3, 2])


def scores_of(truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Return answers whose other fields do not matter."""
    return Scores(truth, predicted, np.ones(len(truth)), np.ones(len(truth)), truth == truth)


def test_the_measures_of_classes_are_those_of_hand() -> None:
    found = class_measures(TRUTH, PREDICTED, 5)
    assert found.images.tolist() == [3, 2, 1, 0, 0]
    np.testing.assert_allclose(found.precision, [1, 1 / 2, 1, 0, 0])
    np.testing.assert_allclose(found.recall, [2 / 3, 1 / 2, 1, 0, 0])
    np.testing.assert_allclose(found.f1, [4 / 5, 1 / 2, 1, 0, 0])
    assert found.occurs.tolist() == [True, True, True, True, False]
    means = measures(scores_of(TRUTH, PREDICTED), 5)
    assert means["top1"] == pytest.approx(4 / 6)
    assert means["precision"] == pytest.approx(2.5 / 4)
    assert means["f1"] == pytest.approx(2.3 / 4)


def test_they_equal_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, 200), rng.integers(0, 9, 200)
    means = measures(scores_of(truth, predicted), 12)
    settings = dict(average="macro", zero_division=0)
    for name in ("precision", "recall", "f1"):
        expected = getattr(sklearn, f"{name}_score")(truth, predicted, **settings)
        assert means[name] == pytest.approx(expected)
    found = class_measures(truth, predicted, 12)
    report = sklearn.precision_recall_fscore_support(
        truth, predicted, labels=range(12), zero_division=0
    )
    for own, expected in zip(
        (found.precision, found.recall, found.f1, found.images), report, strict=True
    ):
        np.testing.assert_allclose(own, expected)


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution() -> None:
    truth = np.zeros(400, np.int64)
    predicted = np.where(np.arange(400) < 300, 0, 1)
    low, high = intervals(scores_of(truth, predicted), 2)["top1"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)
    assert intervals(scores_of(truth, predicted), 2)["top1"] == (low, high)  # the same each time


def test_no_images_have_no_measures() -> None:
    none = scores_of(np.zeros(0, int), np.zeros(0, int))
    assert np.isnan(list(measures(none, 3).values())).all()
    assert intervals(none, 3) == {}


def test_logits_become_answers() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32))
    found = score(logits, np.array([1, 2]))
    assert found.predicted.tolist() == [0, 2]
    np.testing.assert_allclose(found.confidence, [0.5, 0.7], rtol=1e-6)
    np.testing.assert_allclose(found.loss, -np.log([0.25, 0.7]), rtol=1e-6)
    cooler = score(logits, np.array([1, 2]), temperature=0.5)
    np.testing.assert_allclose(cooler.confidence, [0.25 / 0.375, 0.49 / 0.54], rtol=1e-6)
    assert cooler.predicted.tolist() == found.predicted.tolist()
