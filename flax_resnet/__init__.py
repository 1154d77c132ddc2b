"""Residual networks in JAX: models, published weights and a trainer that loses nothing.

Importing this loads jax and flax. What needs the data stack or Orbax (`train`, `restore`) loads
it on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flax_resnet.errors import InputError
from flax_resnet.models import (
    DenseNet,
    EncoderUNet,
    FeaturePyramid,
    Highway,
    ResNet,
    UNet,
    create_model,
    list_models,
    summarize,
    to_layout,
)
from flax_resnet.version import VERSION
from flax_resnet.weights import (
    fold_batch_norm,
    from_torch,
    list_pretrained,
    preprocessing,
    save_pretrained,
    to_torch,
)

if TYPE_CHECKING:
    from flax_resnet.training.loop import train
    from flax_resnet.training.networks import load_pretrained
    from flax_resnet.training.runs import Run, evaluate_run, restore

__version__ = VERSION
__all__ = [
    "DenseNet",
    "EncoderUNet",
    "FeaturePyramid",
    "Highway",
    "InputError",
    "ResNet",
    "Run",
    "UNet",
    "create_model",
    "evaluate_run",
    "fold_batch_norm",
    "from_torch",
    "list_models",
    "list_pretrained",
    "load_pretrained",
    "preprocessing",
    "restore",
    "save_pretrained",
    "summarize",
    "to_layout",
    "to_torch",
    "train",
]
_LATER = {
    "Run": "flax_resnet.training.runs",
    "evaluate_run": "flax_resnet.training.runs",
    "load_pretrained": "flax_resnet.training.networks",
    "restore": "flax_resnet.training.runs",
    "train": "flax_resnet.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
