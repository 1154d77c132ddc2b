"""Residual networks in JAX: models, published weights and a trainer that loses nothing.

Importing this loads jax and flax. What needs the data stack or Orbax (`train`, `restore`) loads
it on first use.
"""

from typing import TYPE_CHECKING, Any

from flax_resnet.errors import InputError
from flax_resnet.models import ResNet, create_model, list_models
from flax_resnet.version import VERSION
from flax_resnet.weights import from_torch, to_torch

if TYPE_CHECKING:
    from flax_resnet.training import Run, restore, train

__version__ = VERSION
__all__ = [
    "InputError",
    "ResNet",
    "Run",
    "create_model",
    "from_torch",
    "list_models",
    "restore",
    "to_torch",
    "train",
]
_LATER = ("Run", "restore", "train")


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flax_resnet import training

    return getattr(training, name)
