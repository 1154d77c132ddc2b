"""A model with its weights, from the hub or from files; and back, in the hub's form."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from flax_resnet.errors import InputError, expected_names
from flax_resnet.models.variants import create_model
from flax_resnet.weights.files import (
    SUFFIXES,
    read_metadata,
    read_state_dict,
    write_state_dict,
)
from flax_resnet.weights.hub import (
    CONFIG,
    TORCH_WEIGHTS,
    WEIGHTS,
    download_config,
    download_weights,
)
from flax_resnet.weights.hub_config import Description, make_config, parse_config
from flax_resnet.weights.published import OWNER, Preprocessing, find_published, list_pretrained
from flax_resnet.weights.torch_keys import from_torch, to_torch

# Where a file of weights keeps a copy of its config.json, for when they are parted.
_METADATA = "flax_resnet"


def load_pretrained(
    source: str | os.PathLike[str],
    *,
    model: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    revision: str | None = None,
    seed: int = 0,
    **overrides: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a model and fill it with weights from the hub or from a file.

    Args:
      source: a published name (`list_pretrained` has them all), with or without `timm/`; another
        repository of the hub, `owner/name`; a file (`.safetensors`, `.pth`); or a folder that
        `save_pretrained` wrote. A file or folder of that name goes before the hub.
      model: the architecture, for files that do not name theirs.
      num_classes: default: as in the weights. Another number gives the model a fresh head, and a
        warning says so; 0 leaves the head out.
      in_channels: default: as in the weights. For another number the first convolution is adapted.
      revision: branch, tag or commit of the repository.
      seed: what a fresh head starts from.
      overrides: other arguments of `create_model`.

    Returns:
      The model, and `{"params": ..., "batch_stats": ...}` of float32 numpy arrays.

    Raises:
      InputError: the source does not exist, cannot be reached or read, or is for another model.
    """
    path, found = _find(os.fspath(source), revision)
    architecture = model or found.architecture
    if architecture is None:
        raise InputError(
            f"nothing says which network {path} is for: pass model=, such as model='resnet50'"
        )
    network: Any = create_model(architecture, **{**found.arguments, **overrides})
    state_dict = {key: _float32(value) for key, value in read_state_dict(path).items()}
    first, head = (f"{key}.weight" for key in (network.first_conv, network.head_name))
    if in_channels is None:
        in_channels = network.in_channels
        if first in state_dict and state_dict[first].ndim == 4:
            in_channels = state_dict[first].shape[1]
    if num_classes is None:
        num_classes = found.num_classes
    if num_classes is None:  # weights without a head end in pooled features
        num_classes = len(state_dict.get(head, ()))
    network = network.clone(num_classes=num_classes, in_channels=in_channels)
    return network, from_torch(network, state_dict, seed)


def save_pretrained(
    model: nn.Module,
    variables: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write `model.safetensors` and `config.json`, the form of the hub's repositories.

    `load_pretrained(folder)` reads them back exactly, and where timm has the architecture
    `timm.create_model("local-dir:FOLDER", pretrained=True)` does too. To publish them:
    `hf upload OWNER/NAME FOLDER`.

    Args:
      architecture: row of the table that the model was made from; default: the row that it equals.
        Arguments in which it differs are kept for `load_pretrained`; timm does not know them.
      preprocessing: how images were prepared; default: with ImageNet's mean and standard deviation
        at the model's image size, or with 0.5 and 0.5 for other than three channels.

    Raises:
      InputError: the model equals no row, or variables or preprocessing are not for this model.
    """
    config = make_config(model, architecture, preprocessing)
    state_dict = to_torch(model, variables)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_state_dict(folder / WEIGHTS, state_dict, {_METADATA: json.dumps(config)})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _float32(value: np.ndarray) -> np.ndarray:
    # Integers are counters. bfloat16, which is not numpy's own, counts as no kind of number there.
    return value if value.dtype.kind in "biu" else value.astype(np.float32, copy=False)


def _find(source: str, revision: str | None) -> tuple[Path, Description]:
    """Return the path of a source's weights, downloaded where need be, and what is known of it."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return path, _of_file(path)
    if path.suffix in SUFFIXES or not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", source):
        raise InputError(f"there is no file or folder {path}: check the path of the weights")
    if "/" not in source or source.removeprefix(OWNER) in list_pretrained():
        row = find_published(source)
        weights = download_weights(row.repository, revision)
        size = {"image_size": row.image_size}
        return weights, Description(row.architecture, row.num_classes, size)
    try:
        config = download_config(source, revision)
    except InputError as error:
        published = [OWNER + name for name in list_pretrained()] if source.startswith(OWNER) else []
        near = (
            f". Of the published weights {expected_names(source, published)}" if published else ""
        )
        raise InputError(f"{source} is no file or folder, and {error}{near}") from error
    return download_weights(source, revision), _read_config(config)


def _in_folder(folder: Path) -> tuple[Path, Description]:
    path = next((folder / n for n in (WEIGHTS, TORCH_WEIGHTS) if (folder / n).is_file()), None)
    if path is None:
        raise InputError(
            f"the folder {folder} holds no {WEIGHTS}: expected one that save_pretrained wrote, or "
            "the path of a file"
        )
    config = folder / CONFIG
    return path, _read_config(config) if config.is_file() else _of_file(path)


def _of_file(path: Path) -> Description:
    """Read what a file, or else the `config.json` beside it, says of its model."""
    text, beside = read_metadata(path).get(_METADATA), path.with_name(CONFIG)
    if text is not None:
        return parse_config(json.loads(text), str(path))
    return _read_config(beside) if beside.is_file() else Description()


def _read_config(path: Path) -> Description:
    try:
        return parse_config(json.loads(path.read_text()), str(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON ({error}): mend or remove it") from error
