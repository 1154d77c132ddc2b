"""Precision, recall, F1 and average precision, equal to scikit-learn's."""

import numpy as np
import pytest

from flax_resnet.steps.tasks.retrieval import average_precision, best_threshold, measures_of_counts


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Return logits, many of which are equal, and labels; the last class has no images."""
    rng = np.random.default_rng(0)
    truth = rng.random((40, 4)) < (0.5, 0.2, 0.1, 0.0)
    return np.round(2 * (2 * rng.standard_normal((40, 4)) + 2 * truth - 1)) / 2, truth


def test_average_precision_is_that_of_scikit_learn(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, truth = answers
    found = [average_precision(logits[:, at], truth[:, at]) for at in range(4)]
    # sklearn.metrics.average_precision_score; without images of the class it has none.
    expected = [0.781153911799, 0.772275641026, 0.323642533937, np.nan]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_average_precision_does_not_depend_on_the_order_of_images(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, truth = (each[:, 0] for each in answers)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(truth))
        assert average_precision(logits[order], truth[order]) == pytest.approx(
            average_precision(logits, truth), abs=1e-12
        )


def test_f1_is_that_of_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    logits, truth = answers
    chosen = 1 / (1 + np.exp(-logits)) >= 0.3
    counts = (chosen & truth).sum(0), truth.sum(0), chosen.sum(0)
    found = measures_of_counts(*counts)
    # f1_score, precision_score and recall_score with average="macro", zero_division=0
    assert found.f1.mean() == pytest.approx(0.38047619047619047)
    assert found.precision.mean() == pytest.approx(0.3207223060174237)
    assert found.recall.mean() == pytest.approx(0.5190217391304348)
    micro = measures_of_counts(*(np.atleast_1d(each.sum()) for each in counts))
    assert micro.f1[0] == pytest.approx(0.5)


def test_the_best_threshold_has_the_best_f1_of_all_and_lies_between_two_probabilities(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, truth = answers
    probabilities = 1 / (1 + np.exp(-logits))

    def f1(threshold: float) -> float:
        chosen = probabilities >= threshold
        return 2 * (chosen & truth).sum() / (chosen.sum() + truth.sum())

    found = best_threshold(probabilities, truth)
    assert f1(found) == max(map(f1, np.unique(probabilities)))
    assert np.abs(probabilities - found).min() > 0.01
    assert best_threshold(probabilities, np.zeros_like(truth)) == 0.5
