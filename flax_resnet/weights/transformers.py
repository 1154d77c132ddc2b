"""ResNets of the library transformers, such as `microsoft/resnet-50`: their keys and settings."""

import re
from collections.abc import Mapping
from typing import Any

from flax_resnet.errors import InputError
from flax_resnet.weights.json_fields import Fields

_FIRST = re.compile(r"(?:.*\.)?embedder\.embedder\.convolution\.weight")
_STEM = re.compile(r"(?:.*\.)?embedder\.embedder\.(convolution|normalization)\.(\w+)")
_BLOCK = re.compile(
    r"(?:.*\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
    r"(?:(shortcut)|layer\.(\d+))\.(convolution|normalization)\.(\w+)"
)
_HEAD = re.compile(r"classifier\.1\.(\w+)")
# What sets networks apart in their config.json, and the row of the table.
_ROWS = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (2, 2, 2, 2)): "resnet26",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
_WIDTHS = {"basic": [64, 128, 256, 512], "bottleneck": [256, 512, 1024, 2048]}
_PLAIN = {
    "embedding_size": 64,
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}


def with_torch_keys(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with torchvision's keys in place of those of transformers, if it is one.

    `resnet.encoder.stages.0.layers.1.layer.2.normalization.bias` is `layer1.1.bn3.bias`.
    """
    if not any(_FIRST.fullmatch(str(name)) for name in weights):
        return dict(weights)
    return {_torch_key(name): value for name, value in weights.items()}


def _torch_key(name: str) -> str:
    if found := _STEM.fullmatch(name):
        return f"{'conv1' if found[1] == 'convolution' else 'bn1'}.{found[2]}"
    if found := _HEAD.fullmatch(name):
        return f"fc.{found[1]}"
    if found := _BLOCK.fullmatch(name):
        stage, block, shortcut, layer, kind, leaf = found.groups()
        convolves = kind == "convolution"
        if shortcut:
            part = "downsample.0" if convolves else "downsample.1"
        else:
            part = f"{'conv' if convolves else 'bn'}{int(layer) + 1}"
        return f"layer{int(stage) + 1}.{block}.{part}.{leaf}"
    return name


def is_of_transformers(config: Fields) -> bool:
    """Return whether a `config.json` is one of transformers' ResNets."""
    return config.values.get("model_type") == "resnet" and "depths" in config.values


def architecture_of(config: Fields) -> str:
    """Return the row of the table for a `config.json` of transformers.

    Raises:
      InputError: no row is that network.
    """
    values = config.values
    kind, depths = values.get("layer_type", "bottleneck"), values.get("depths")
    row = _ROWS.get((kind, tuple(depths))) if isinstance(depths, list) else None
    changed = [name for name, value in _PLAIN.items() if values.get(name, value) != value]
    if row is not None and values.get("hidden_sizes", _WIDTHS[kind]) != _WIDTHS[kind]:
        changed.append("hidden_sizes")
    if row is None or changed:
        found = {name: values.get(name) for name in changed or ("layer_type", "depths")}
        raise InputError(
            f"{config.where} describes a network of transformers with {found}; expected one of "
            f"{', '.join(_ROWS.values())}"
        )
    return row
