"""Calibration: the error of made-up probabilities, and a temperature that is known beforehand."""

import numpy as np
import pytest

from flax_resnet.inference.calibration import (
    BINS,
    NoTemperatureError,
    best_temperature,
    calibration_error,
    reliability,
)
from flax_resnet.inference.scores import Scores, score


def answers(confidence: list[float], right: list[bool]) -> Scores:
    """Return answers with these probabilities."""
    count = len(right)
    predicted = np.where(right, 0, 1)
    nothing = np.zeros(count)
    return Scores(np.zeros(count, int), predicted, np.array(confidence), nothing, nothing > 0)


def test_the_error_of_four_images_is_that_of_hand() -> None:
    scores = answers([0.95, 0.93, 0.55, 0.6], [True, False, True, True])
    bins = reliability(scores, bins=2)
    assert [each.images for each in bins] == [0, 4]
    assert calibration_error(bins) == pytest.approx(abs(0.75 - 0.7575))
    # Ten bins: (0.5, 0.6] has two, and (0.9, 1] has two.
    bins = reliability(scores, bins=10)
    assert [each.images for each in bins] == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert calibration_error(bins) == pytest.approx((2 * 0.425 + 2 * 0.44) / 4)


def test_certain_and_impossible_predictions_have_a_bin() -> None:
    bins = reliability(answers([1.0, 0.0], [True, False]))
    assert (bins[0].images, bins[-1].images, len(bins)) == (1, 1, BINS)
    assert calibration_error(bins) == 0
    assert np.isnan(calibration_error(reliability(answers([], []))))


def test_the_bins_are_those_of_scikit_learn() -> None:
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    right = rng.random(500) < confidence**2
    bins = reliability(answers(confidence.tolist(), right.tolist()))
    accuracy, mean = curve(right, confidence, n_bins=BINS)
    np.testing.assert_allclose([each.accuracy for each in bins if each.images], accuracy)
    np.testing.assert_allclose([each.confidence for each in bins if each.images], mean)


def labels_of(logits: np.ndarray) -> np.ndarray:
    """Return labels drawn from the softmax of logits."""
    noise = np.random.default_rng(1).gumbel(size=logits.shape)
    return (logits + noise).argmax(1)


def test_the_temperature_that_was_put_into_logits_is_found() -> None:
    honest = 2 * np.random.default_rng(0).standard_normal((20_000, 5)).astype(np.float32)
    truth = labels_of(honest)
    found = best_temperature(3 * honest, truth, "made-up data")
    assert found == pytest.approx(3, rel=0.03)
    losses = [score(3 * honest, truth, found * factor).loss.mean() for factor in (0.98, 1, 1.02)]
    assert losses[1] == min(losses)
    before, after = (
        calibration_error(reliability(score(3 * honest, truth, each))) for each in (1, found)
    )
    assert after < 0.02 < 0.1 < before


def test_outputs_that_do_not_compete_do_not_matter() -> None:
    logits = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    more = np.concatenate([logits, np.full((500, 2), -np.inf, np.float32)], axis=1)
    truth = labels_of(logits)
    assert best_temperature(more, truth, "x") == best_temperature(logits, truth, "x")


@pytest.mark.parametrize(
    ("truth", "message"),
    [([0, 1], "none is misclassified"), ([1, 0], "no better than chance"), ([], "no image")],
)
def test_where_no_temperature_is_best_it_says_so(truth: list[int], message: str) -> None:
    logits = np.array([[2.0, 0], [0, 2.0]], np.float32)[: len(truth)].reshape(-1, 2)
    with pytest.raises(NoTemperatureError, match=message):
        best_temperature(logits, np.array(truth, int), "made-up data")
