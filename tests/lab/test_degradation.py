"""Degradation: curves of every kind, depth and seed, and the sentence about them."""

from typing import Any

import numpy as np
import pytest

from flax_resnet.lab import degradation


@pytest.mark.usefixtures("trained")
def test_every_network_has_curves_of_errors(tiny: dict[str, Any]) -> None:
    result = degradation.run(degradation.Settings(depths=(8,), **tiny))
    assert result.train_error.shape == result.test_error.shape == (2, 1, 1, 1)
    assert np.all((result.train_error >= 0) & (result.train_error <= 1))
    figure = degradation.draw(result)
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["residual-8", "training", "test"]


def test_the_finding_compares_the_ends_of_the_range_of_depths() -> None:
    errors = np.array([[[[0.9, 0.1]], [[0.9, 0.4]]], [[[0.9, 0.12]], [[0.9, 0.1]]]])
    result = degradation.Result("digits", ("plain", "residual"), (20, 56), errors, errors + 0.05)
    assert degradation.finding(result) == (
        "On digits (1 seed), plain-56 ends at 40.0% training and 45.0% test error, plain-20 at "
        "10.0% and 15.0%; residual-56 ends at 10.0% training and 15.0% test error, residual-20 at "
        "12.0% and 17.0%."
    )
