"""Conversion between published weight formats and Flax variables.

safetensors, huggingface_hub and torch are imported on first use.
"""

from flax_resnet.weights.checkpoint import strip_prefix, unwrap
from flax_resnet.weights.files import read_state_dict, write_state_dict
from flax_resnet.weights.folding import fold_batch_norm
from flax_resnet.weights.hub_config import Description
from flax_resnet.weights.locate import describe
from flax_resnet.weights.pretrained import (
    known_preprocessing,
    open_weights,
    read_pretrained,
    save_pretrained,
    to_variables,
)
from flax_resnet.weights.published import (
    Preprocessing,
    Published,
    find_published,
    imagenet_class,
    imagenet_classes,
    list_pretrained,
    published_classes,
)
from flax_resnet.weights.torch_keys import check_finite, first_key, from_torch, to_torch

__all__ = [
    "Description",
    "Preprocessing",
    "Published",
    "check_finite",
    "describe",
    "find_published",
    "first_key",
    "fold_batch_norm",
    "from_torch",
    "imagenet_class",
    "imagenet_classes",
    "known_preprocessing",
    "list_pretrained",
    "open_weights",
    "published_classes",
    "read_pretrained",
    "read_state_dict",
    "save_pretrained",
    "strip_prefix",
    "to_torch",
    "to_variables",
    "unwrap",
    "write_state_dict",
]
