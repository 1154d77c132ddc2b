"""Every test here may train the network `tiny`."""

import pytest

from tests.data.conftest import folder

__all__ = ["folder"]


@pytest.fixture(autouse=True)
def uses_tiny(tiny_model: None) -> None:
    """Add the row `tiny` to the table of models."""
