"""Highway networks as an experiment."""

from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet.lab import highway


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_losses_and_gates_are_measured(tiny: dict[str, Any]) -> None:
    settings = highway.Settings(**tiny, depths=(3, 5), width=8, images=8)
    result = highway.run(settings)
    assert result.train_loss.shape == (2, 2, 1, 1)
    assert result.test_error.shape == (2, 2, 1)
    assert result.gate.shape == (2, 4)  # of the deepest network, whose stem has no gate
    # The gates' kernels start at zero, so only the bias matters.
    np.testing.assert_allclose(result.gate[0], jax.nn.sigmoid(-4.0), rtol=1e-5)
    assert "highway networks of 3 layers" in highway.finding(result)
    assert len(highway.draw(result).axes) == 3
