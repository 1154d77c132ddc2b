"""State dicts in files: safetensors, and torch's own format if torch is installed."""

import argparse
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_resnet.errors import InputError, about
from flax_resnet.files import replace_bytes

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt", ".bin", ".tar", ".ckpt")
SUFFIXES = (SAFETENSORS, *TORCH)
# Keys of the state dict in the checkpoints of training scripts; the first one found is used.
NESTED = ("state_dict", "model", "state_dict_ema", "model_ema")
# Prefixes that wrappers (data parallelism, compilation, averaging) add to every key.
PREFIXES = ("module.", "model.", "_orig_mod.", "model_ema.")
# A counter that torch's AveragedModel stores with the weights.
AVERAGED = "n_averaged"
# Files of torchvision's DenseNet have `denselayer1.norm.1.weight`, its module `denselayer1.norm1`.
OLD_DENSE_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the state dict in a `.safetensors` file or a file of torch (`.pth`, `.pt`, `.bin`).

    Nested dicts and prefixes of keys are removed by `unwrap`. Files of torch are read with
    `weights_only=True`, so code in them is never run.

    Raises:
      InputError: the file does not exist, is damaged or of another kind, or torch is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the file {path} does not exist: check the path of the weights")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} is not named like a file of weights: expected one of {', '.join(SUFFIXES)}"
        )
    read = _read_safetensors(path)[0] if path.suffix == SAFETENSORS else _read_torch(path)
    with about(path):
        return unwrap(read)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of a safetensors file; files of torch have none.

    Raises:
      InputError: the file is damaged or of another kind.
    """
    return _read_safetensors(Path(path), arrays=False)[1] if str(path).endswith(SAFETENSORS) else {}


def write_state_dict(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file that torch, timm and `read_state_dict` can read.

    The write is atomic: an incomplete file never has this name.

    Args:
      state_dict: maps keys to arrays.
      metadata: text stored in the header of the file.
    """
    from safetensors.numpy import save

    # `np.ascontiguousarray` would add an axis to a scalar.
    arrays = {key: np.asarray(value, order="C") for key, value in state_dict.items()}
    replace_bytes(Path(path), save(arrays, {"format": "pt", **(metadata or {})}))


def unwrap(checkpoint: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the plain state dict in the checkpoint of a training script.

    It is taken from `state_dict` or `model`, or, if there is neither, from `state_dict_ema` or
    `model_ema`. The prefixes `module.`, `model.`, `_orig_mod.` and `model_ema.` are removed if all
    keys have them, and torchvision's old names of DenseNet's layers are replaced by the new ones.
    torch's bfloat16 tensors are converted to float32; other dtypes are kept.

    Raises:
      InputError: a value is not an array; the message names the keys.
    """
    found: Mapping[str, Any] = checkpoint
    while inner := next((k for k in NESTED if isinstance(found.get(k), Mapping)), None):
        found = found[inner]
    weights = {key: value for key, value in found.items() if key != AVERAGED}
    strange = [str(key) for key, value in weights.items() if not hasattr(value, "shape")]
    if strange or not weights:
        shown = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "") or "nothing"
        raise InputError(
            f"expected a state dict of arrays, or one under {', '.join(NESTED)}, but found {shown}"
        )
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return {OLD_DENSE_KEY.sub(r"\1\2", key): _array(value) for key, value in weights.items()}


def _array(value: Any) -> np.ndarray:
    """Return a numpy array, jax array or tensor as a numpy array, without importing torch."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # numpy itself has no bfloat16, and torch does not convert to that of ml_dtypes.
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


def _read_safetensors(
    path: Path, arrays: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            keys = file.keys() if arrays else ()
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) is not a complete safetensors file: {error}. "
            "Download or copy it again"
        ) from error
    except (AttributeError, ValueError) as error:  # A dtype or a shape that numpy does not support.
        raise InputError(
            f"{path} contains an array that numpy cannot represent: {error}. Convert it to float32"
        ) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"reading {path} needs torch, which is not installed: install it (pip install torch), "
            "or convert the file to .safetensors on a machine that has torch"
        ) from error
    try:
        # Training scripts store their arguments with the weights, in a Namespace that runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"Unsupported (?:global|class|operand)[^\n.]*", str(error))
        reason = found[0] if found else "torch refuses it"
        raise InputError(
            f"{path} is damaged, or contains more than arrays ({reason}), and loading that could "
            "run any code. If you trust the file, save its state dict only: "
            "torch.save(model.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) is not a complete file of torch.save: {error}. "
            "Download or copy it again"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise InputError(
            f"{path} contains a {type(checkpoint).__name__}: expected a state dict, as "
            "torch.save(model.state_dict(), ...) writes it"
        )
    return checkpoint
