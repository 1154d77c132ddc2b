"""Every test here may train the network `tiny`."""

import pytest


@pytest.fixture(autouse=True)
def uses_tiny(tiny_model: None) -> None:
    """Add the row `tiny` to the table of models."""
