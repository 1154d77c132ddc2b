"""Residual networks in JAX: models, published weights and a trainer that loses nothing.

Importing this is quick: each public name loads its module, and jax, flax or the data stack with
it, on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flax_resnet.errors import InputError
from flax_resnet.version import VERSION

if TYPE_CHECKING:
    from flax_resnet.data.images.transforms import register_transform
    from flax_resnet.data.sources.open import register_source
    from flax_resnet.inference.classifier import Classifier
    from flax_resnet.inference.preprocessing import preprocessing
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
    from flax_resnet.models.nnx import to_nnx
    from flax_resnet.models.variants import register_model
    from flax_resnet.report.publishing import push_to_hub
    from flax_resnet.steps.tasks.classification import register_loss
    from flax_resnet.steps.updates.optimizers import register_optimizer
    from flax_resnet.training.averaging import average_checkpoints
    from flax_resnet.training.learning_rates import find_learning_rate
    from flax_resnet.training.logging.writers import register_writer
    from flax_resnet.training.loop import train
    from flax_resnet.training.networks import class_names, load_pretrained
    from flax_resnet.training.recipes import load_recipe
    from flax_resnet.training.runs import Run, evaluate_run, restore
    from flax_resnet.weights import (
        fold_batch_norm,
        from_torch,
        list_pretrained,
        save_pretrained,
        to_torch,
    )

__version__ = VERSION
__all__ = [
    "Classifier",
    "DenseNet",
    "EncoderUNet",
    "FeaturePyramid",
    "Highway",
    "InputError",
    "ResNet",
    "Run",
    "UNet",
    "average_checkpoints",
    "class_names",
    "create_model",
    "evaluate_run",
    "find_learning_rate",
    "fold_batch_norm",
    "from_torch",
    "list_models",
    "list_pretrained",
    "load_pretrained",
    "load_recipe",
    "preprocessing",
    "push_to_hub",
    "register_loss",
    "register_model",
    "register_optimizer",
    "register_source",
    "register_transform",
    "register_writer",
    "restore",
    "save_pretrained",
    "summarize",
    "to_layout",
    "to_nnx",
    "to_torch",
    "train",
]
# Every public name that is not in this table is one of `flax_resnet.models`.
_MODULES = {
    "Classifier": "inference.classifier",
    "Run": "training.runs",
    "average_checkpoints": "training.averaging",
    "class_names": "training.networks",
    "evaluate_run": "training.runs",
    "find_learning_rate": "training.learning_rates",
    "fold_batch_norm": "weights",
    "from_torch": "weights",
    "list_pretrained": "weights",
    "load_pretrained": "training.networks",
    "load_recipe": "training.recipes",
    "preprocessing": "inference.preprocessing",
    "push_to_hub": "report.publishing",
    "register_loss": "steps.tasks.classification",
    "register_model": "models.variants",
    "register_optimizer": "steps.updates.optimizers",
    "register_source": "data.sources.open",
    "register_transform": "data.images.transforms",
    "register_writer": "training.logging.writers",
    "restore": "training.runs",
    "save_pretrained": "weights",
    "to_nnx": "models.nnx",
    "to_torch": "weights",
    "train": "training.loop",
}


def __getattr__(name: str) -> Any:
    if name in ("models", "weights"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'models')}"), name)


def __dir__() -> list[str]:
    own = [name for name in globals() if name.startswith("__")]
    return sorted({*own, *__all__, "models", "weights"})
