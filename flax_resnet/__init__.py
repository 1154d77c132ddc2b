"""Residual networks in JAX: models, published weights and a trainer that loses nothing.

Importing this loads jax and flax. What needs the data stack or Orbax (`train`, `restore`) loads
it on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flax_resnet.errors import InputError
from flax_resnet.models import ResNet, create_model, list_models
from flax_resnet.version import VERSION
from flax_resnet.weights import from_torch, to_torch

if TYPE_CHECKING:
    from flax_resnet.training.loop import train
    from flax_resnet.training.runs import Run, evaluate_run, restore

__version__ = VERSION
__all__ = [
    "InputError",
    "ResNet",
    "Run",
    "create_model",
    "evaluate_run",
    "from_torch",
    "list_models",
    "restore",
    "to_torch",
    "train",
]
_LATER = {
    "Run": "flax_resnet.training.runs",
    "evaluate_run": "flax_resnet.training.runs",
    "restore": "flax_resnet.training.runs",
    "train": "flax_resnet.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
