"""Load a model with its weights from the hub or from files, and save it in the hub's format."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from flax_resnet.errors import InputError, about, require_local
from flax_resnet.files import replace_text
from flax_resnet.models.variables import unrolled, variable_shapes
from flax_resnet.models.variants import create_model
from flax_resnet.weights.checkpoint import strip_prefix
from flax_resnet.weights.files import read_state_dict, write_state_dict
from flax_resnet.weights.hub import CONFIG, WEIGHTS
from flax_resnet.weights.hub_config import METADATA, Description, make_config
from flax_resnet.weights.locate import locate
from flax_resnet.weights.published import Preprocessing
from flax_resnet.weights.torch_keys import check_finite, first_key, from_torch, to_torch


def open_weights(
    source: str | os.PathLike[str],
    *,
    model: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    revision: str | None = None,
    key: str | None = None,
    average: bool = True,
    seed: int = 0,
    **overrides: Any,
) -> tuple[Any, dict[str, Any], Description]:
    """Return a model, its variables from the hub, a file or a folder, and what is known of them.

    Arguments and errors are those of `flax_resnet.load_pretrained`, which also takes runs.

    Args:
      average: see `unwrap`.
    """
    state_dict, found = read_pretrained(source, revision, key, average)
    architecture = model or found.architecture
    if architecture is None:
        raise InputError(
            f"the network of {source} is unknown: pass model=, such as model='resnet50'"
        )
    if found.arguments.keys() - {"image_size"}:
        _check_arguments(architecture, found.arguments, len(state_dict), source)
    network: Any = create_model(architecture, **{**found.arguments, **overrides})
    first, head = first_key(network), f"{network.head_name}.weight"
    state_dict = strip_prefix(state_dict, first)
    if in_channels is None:
        in_channels = network.in_channels
        if first in state_dict and state_dict[first].ndim == 4:
            in_channels = state_dict[first].shape[1]
    if num_classes is None:
        num_classes = found.num_classes
    if num_classes is None:  # weights without a head end in pooled features
        num_classes = len(state_dict.get(head, ()))
    network = network.clone(num_classes=num_classes, in_channels=in_channels)
    return network, to_variables(network, state_dict, source, seed), found


def to_variables(
    model: nn.Module,
    state_dict: Mapping[str, Any],
    source: str | os.PathLike[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Return what `from_torch` returns, for weights that somebody else may have damaged.

    Args:
      source: where the weights come from, for messages.

    Raises:
      InputError: the weights do not fit the model, or are not finite.
    """
    with about(source):
        variables = from_torch(model, state_dict, seed)
    check_finite(variables, os.fspath(source))
    return variables


def _check_arguments(
    architecture: str, arguments: Mapping[str, Any], arrays: int, source: str | os.PathLike[str]
) -> None:
    """Refuse arguments of a `config.json` that are wrong, or would take forever to build."""
    try:
        # Every block of a stage and every level of a U-Net has at least one array.
        parts = sum(arguments.get("stage_sizes", ())) + arguments.get("depth", 0)
        if parts > arrays:
            raise ValueError(f"they describe {parts} blocks, but the file has {arrays} arrays")
        variable_shapes(unrolled(create_model(architecture, **arguments)))
    except InputError:
        raise
    except Exception as error:  # whatever a network raises for arguments that it does not know
        raise InputError(
            f"the arguments {dict(arguments)!s:.200} in the {CONFIG} of {source} do not make a "
            f"network ({type(error).__name__}: {error}): correct them, or pass the right ones"
        ) from error


def read_pretrained(
    source: str | os.PathLike[str],
    revision: str | None = None,
    key: str | None = None,
    average: bool = True,
) -> tuple[dict[str, np.ndarray], Description]:
    """Return weights as a torch state dict in float32, and the description of their model.

    Arguments and errors are those of `open_weights`.
    """
    path, found = locate(source, revision)
    state_dict = read_state_dict(path, key, average)
    return {name: _float32(value) for name, value in state_dict.items()}, found


def known_preprocessing(
    found: Description, source: str | os.PathLike[str], train_size: bool = False
) -> Preprocessing:
    """Return how to prepare images for weights that are described.

    Raises:
      InputError: the description does not say.
    """
    images = found.preprocessing if train_size else found.test_preprocessing
    if images is None:
        raise InputError(
            f"{source} does not say how its images were prepared: expected a published name, or a "
            f"folder or repository with a {CONFIG}"
        )
    return images


def save_pretrained(
    model: nn.Module,
    variables: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
    test_preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    class_descriptions: Mapping[str, str] | None = None,
    threshold: float | None = None,
) -> None:
    """Write `model.safetensors` and `config.json`, the format of the hub's repositories.

    `load_pretrained(folder)` reads them back exactly, and where timm has the architecture
    `timm.create_model("local-dir:FOLDER", pretrained=True)` does too. To publish them:
    `hf upload OWNER/NAME FOLDER`.

    Args:
      architecture: the row of the table that the model was made from; default: the row that it
        equals. Arguments that differ are stored for `load_pretrained`; timm ignores them.
      preprocessing: how images were prepared; default: ImageNet's mean and standard deviation
        at the model's image size, or 0.5 and 0.5 if there are not three channels.
      test_preprocessing: the same with the size and the crop of testing; default: as in training.
      class_names: one for each output, such as a run's; `flax_resnet.class_names(folder)`, the
        commands and timm read them.
      class_descriptions: what these names mean, by name, as timm stores it.
      threshold: the probability from which a class counts as predicted, for a network that finds
        several classes in an image; None: it finds one.

    Raises:
      InputError: no row equals the model, or variables, preprocessing or names do not fit it.
    """
    folder = Path(folder)
    require_local(folder)
    config = make_config(
        model,
        architecture,
        preprocessing,
        test_preprocessing,
        class_names,
        class_descriptions,
        threshold,
    )
    state_dict = to_torch(model, variables)
    folder.mkdir(parents=True, exist_ok=True)
    write_state_dict(folder / WEIGHTS, state_dict, {METADATA: json.dumps(config)})
    replace_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _float32(value: np.ndarray) -> np.ndarray:
    # Integers are counters. NumPy does not know bfloat16 as a kind of number.
    if value.dtype.kind in "biu":
        return value
    with np.errstate(over="ignore"):  # `check_finite` reports what is beyond float32
        return value.astype(np.float32, copy=False)
