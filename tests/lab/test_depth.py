"""Stochastic depth, and the first steps of deep networks."""

from typing import Any

import numpy as np
import pytest

from flax_resnet.lab import depth


@pytest.mark.usefixtures("trained")
def test_both_parts_have_curves(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "DEEPEST_UNROLLED", 14)  # 20 layers are scanned
    monkeypatch.setattr(depth, "STARTS", {"residual": depth.STARTS["residual"]})
    result = depth.run(depth.Settings(**tiny, depth=8, deep=(20,), deep_steps=6))
    assert result.train_error.shape == result.test_error.shape == (2, 1, 1)
    assert result.deep == ("residual-20",)
    assert result.loss.shape == (1, 6)
    assert np.all(np.isfinite(result.loss))
    assert "residual-20" in depth.finding(result)
    assert len(depth.draw(result).axes) == 2
