"""State dicts in files: safetensors, and torch's own where torch is installed."""

import argparse
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_resnet.errors import InputError

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt", ".bin", ".tar", ".ckpt")
SUFFIXES = (SAFETENSORS, *TORCH)
# Where training scripts put the state dict of their checkpoints; the first one there is taken.
NESTED = ("state_dict", "model", "state_dict_ema", "model_ema")
# What wrappers (data parallelism, compilation, averaging) write before every key.
PREFIXES = ("module.", "model.", "_orig_mod.", "model_ema.")
# A counter of torch's AveragedModel, beside the weights.
AVERAGED = "n_averaged"
# torchvision's DenseNet files have `denselayer1.norm.1.weight`, its modules `denselayer1.norm1`.
OLD_DENSE_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a state dict from a `.safetensors` file or one of torch's (`.pth`, `.pt`, `.bin`).

    Nested dicts and prefixes of keys go as `unwrap` says. Files of torch are read with
    `weights_only=True`: code in them is never run.

    Raises:
      InputError: there is no such file, it is damaged, of another kind, or torch is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}: check the path of the weights")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} is no file of weights by its name: expected one of {', '.join(SUFFIXES)}"
        )
    read = _read_safetensors(path)[0] if path.suffix == SAFETENSORS else _read_torch(path)
    try:
        return unwrap(read)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the text that a safetensors file carries beside its arrays; files of torch have none.

    Raises:
      InputError: the file is damaged or of another kind.
    """
    return _read_safetensors(Path(path), arrays=False)[1] if str(path).endswith(SAFETENSORS) else {}


def write_state_dict(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file that torch, timm and `read_state_dict` read.

    The file appears when it is complete, never in part.

    Args:
      state_dict: key to array.
      metadata: text to go with it.
    """
    from safetensors.numpy import save

    path = Path(path)
    # `np.ascontiguousarray` would give a scalar an axis.
    arrays = {key: np.asarray(value, order="C") for key, value in state_dict.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(save(arrays, {"format": "pt", **(metadata or {})}))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unwrap(checkpoint: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the plain state dict within what a training script saved.

    A dict under `state_dict` or `model` is taken out; one under `state_dict_ema` or `model_ema`
    only where there is neither of these. The prefixes `module.`, `model.`, `_orig_mod.` and
    `model_ema.` go where all keys have them, and torchvision's old names of DenseNet's layers
    become the new ones. torch's bfloat16 tensors come as float32; other dtypes are kept.

    Raises:
      InputError: a value is no array; the message names the keys.
    """
    found: Mapping[str, Any] = checkpoint
    while inner := next((k for k in NESTED if isinstance(found.get(k), Mapping)), None):
        found = found[inner]
    weights = {key: value for key, value in found.items() if key != AVERAGED}
    strange = [str(key) for key, value in weights.items() if not hasattr(value, "shape")]
    if strange or not weights:
        shown = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "") or "nothing at all"
        raise InputError(
            f"expected a state dict (key to array), or one under {', '.join(NESTED)}, but found "
            f"other things in it: {shown}"
        )
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return {OLD_DENSE_KEY.sub(r"\1\2", key): _array(value) for key, value in weights.items()}


def _array(value: Any) -> np.ndarray:
    """Take a numpy array, a jax array or a tensor, without importing torch."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # numpy has no bfloat16 of its own, and torch knows no other.
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
            f"{path} ({path.stat().st_size} bytes) is no complete safetensors file: {error}. "
            "Download or copy it again"
        ) from error
    except (AttributeError, ValueError) as error:  # A dtype or a shape that numpy does not have.
        raise InputError(
            f"{path} holds what numpy cannot: {error}. Convert it to float32 where it was made"
        ) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"reading {path} needs torch, which is not installed: install it (pip install torch), "
            "or convert the file to .safetensors where torch is"
        ) from error
    try:
        # Training scripts keep their arguments beside the weights: a plain record, without code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"Unsupported (?:global|class|operand)[^\n.]*", str(error))
        reason = found[0] if found else "torch refuses it"
        raise InputError(
            f"{path} is damaged, or holds more than arrays ({reason}), and loading that could run "
            "any code. Where you trust it, save the state dict alone: "
            "torch.save(model.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) is no complete file of torch.save: {error}. "
            "Download or copy it again"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise InputError(
            f"{path} holds a {type(checkpoint).__name__}: expected a state dict, as "
            "torch.save(model.state_dict(), ...) writes it"
        )
    return checkpoint
