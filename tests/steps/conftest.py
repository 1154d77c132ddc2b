"""Every test here may train the network `tiny`, or a smaller one that compiles faster."""

import pytest

from flax_resnet.models.variants import VARIANTS


@pytest.fixture(autouse=True)
def uses_tiny(tiny_model: None) -> None:
    """Add the row `tiny` to the table of models."""


@pytest.fixture
def one_stage(uses_tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave `tiny` one block."""
    small = dict(stage_sizes=(1,), widths=(8,))
    monkeypatch.setitem(VARIANTS, "tiny", VARIANTS["tiny"] | small)
