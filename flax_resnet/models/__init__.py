"""Networks as pure functions of (variables, images); imports jax and flax only."""

from flax_resnet.models.resnet import ResNet
from flax_resnet.models.summary import count_macs, count_parameters, variable_shapes
from flax_resnet.models.variants import create_model, list_models

__all__ = [
    "ResNet",
    "count_macs",
    "count_parameters",
    "create_model",
    "list_models",
    "variable_shapes",
]
