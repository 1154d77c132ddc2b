"""Checks of settings against the data."""

from collections.abc import Callable
from typing import Any

import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.setup import prepare_run


def test_one_class_cannot_be_learned(tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"has the class pattern 0 alone; expected two or more"):
        prepare_run(tiny_config(data__source="synthetic:1"))
