"""Settings so small that an experiment runs in a test."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Return settings of `Training`: one epoch of two batches of digits, one seed."""
    return dict(train_split="train[:32]", test_split="test[:32]", batch_size=16, epochs=1, seeds=1)
