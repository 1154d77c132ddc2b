"""Probes at every depth: they find what is there, and nothing where nothing is."""

from typing import Any

import numpy as np
import pytest

from flax_resnet.lab import stream


@pytest.mark.usefixtures("trained")
def test_every_block_has_probes(tiny: dict[str, Any]) -> None:
    result = stream.run(stream.Settings(depth=6, width=4, images=32, **tiny))
    assert result.error.shape == result.recovered.shape == (2, 1, 2)
    # The first block's channels are a linear function of themselves.
    np.testing.assert_allclose(result.recovered[:, :, 0], 1, atol=1e-2)
    figure = stream.draw(result)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["plain-6", "residual-6"]


def test_a_probe_gives_back_what_is_a_linear_function_and_no_noise() -> None:
    rng = np.random.default_rng(0)
    inputs, noise = rng.standard_normal((2, 400, 3))
    targets = inputs @ rng.standard_normal((3, 2)) + 5
    found = stream.linear(inputs[:200], targets[:200], inputs[200:], 1e-6)
    np.testing.assert_allclose(found, targets[200:], atol=1e-4)
    labels = (inputs[:, 0] > 0).astype(int)
    known, asked = ([noise[:200]], labels[:200]), ([noise[200:]], labels[200:])
    error, recovered = stream.probe(inputs[:200], inputs[200:], known, asked, 1e-6)
    assert error < 0.1
    assert recovered < 0.1


def test_the_finding_compares_the_ends_of_both_networks() -> None:
    error = np.array([[[0.5, 0.4, 0.3]], [[0.5, 0.2, 0.1]]])
    recovered = np.array([[[1.0, 0.4, 0.2]], [[1.0, 0.9, 0.8]]])
    kinds = ("plain", "residual")
    result = stream.Result("digits", 8, kinds, error, recovered, np.zeros((2, 1)))
    assert stream.finding(result) == (
        "On digits (1 seed), after the last block of plain-8 a linear probe gives back 20% of the "
        "first block's variance, and after the middle one 40%; it errs in 50.0% of the classes "
        "after the first block and in 30.0% after the last; after the last block of residual-8 a "
        "linear probe gives back 80% of the first block's variance, and after the middle one 90%; "
        "it errs in 50.0% of the classes after the first block and in 10.0% after the last."
    )
