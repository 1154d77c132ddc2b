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
from flax_resnet.weights.checkpoint import unwrap

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt", ".bin", ".tar", ".ckpt")
SUFFIXES = (SAFETENSORS, *TORCH)


def read_state_dict(
    path: str | os.PathLike[str], key: str | None = None, average: bool = True
) -> dict[str, np.ndarray]:
    """Return the state dict in a `.safetensors` file or a file of torch (`.pth`, `.pt`, `.bin`).

    Nested dicts and prefixes of keys are removed by `unwrap`. Files of torch are read with
    `weights_only=True`, so code in them is never run.

    Args:
      key, average: which of several state dicts to take; see `unwrap`.

    Raises:
      InputError: the file does not exist, is damaged or of another kind, or torch is missing; or it
        has no such part.
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
        return unwrap(read, key, average)


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
