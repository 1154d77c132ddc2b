"""Settings and training so small that an experiment runs in a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flax_resnet.lab.fit import Fitted, Fitter


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Return settings of `Training`: one epoch of two batches of digits, one seed."""
    return dict(train_split="train[:32]", test_split="test[:32]", batch_size=16, epochs=1, seeds=1)


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["start", "fit"])
def trained(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether networks are trained; quick tests measure them at the start.

    Compiling a training step takes most of the time of an experiment this small.
    """
    if not request.param:
        monkeypatch.setattr(Fitter, "fit", _start)
        monkeypatch.setattr(Fitter, "first_losses", lambda self, seed, steps: np.ones(steps))
    return bool(request.param)


def _start(self: Fitter, seed: int, watch: Any = lambda variables: ()) -> Fitted:
    variables, curve = self.start(seed).variables, np.full(self.settings.epochs, 0.5)
    watched = np.stack([np.asarray(watch(variables))] * (self.settings.epochs + 1))
    return Fitted(variables, curve, curve, curve, curve, watched)
