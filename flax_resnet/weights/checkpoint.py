"""The state dict in a checkpoint: which of several it is, and under which prefix its keys are."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flax_resnet.errors import InputError
from flax_resnet.weights.transformers import with_torch_keys

# Keys of the state dicts in the checkpoints of training scripts, in timm's order: the first that is
# there is used.
AVERAGES = ("state_dict_ema", "model_ema")
NESTED = ("state_dict", "model")
# Prefixes that wrappers (data parallelism, compilation, averaging) add to every key.
PREFIXES = ("module.", "model.", "_orig_mod.", "model_ema.")
# A counter that torch's AveragedModel stores with the weights.
AVERAGED = "n_averaged"
# Files of torchvision's DenseNet have `denselayer1.norm.1.weight`, its module `denselayer1.norm1`.
OLD_DENSE_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# The most names that a message lists, and the most dicts inside each other that are looked into: a
# file can contain a dict that contains itself.
_LISTED, _DEEPEST = 5, 8


def unwrap(
    checkpoint: Mapping[str, Any], key: str | None = None, average: bool = True
) -> dict[str, np.ndarray]:
    """Return the plain state dict in the checkpoint of a training script.

    It is taken from `state_dict_ema` or `model_ema`, or, if there is neither, from `state_dict` or
    `model`; a warning says so where there is a choice. Otherwise it is the only dict of arrays. The
    prefixes `module.`, `model.`, `_orig_mod.` and `model_ema.` are removed if all keys have them,
    and torchvision's old names of DenseNet's layers and transformers' names of ResNets are replaced
    by torchvision's. torch's bfloat16 tensors are converted to float32; other dtypes are kept.

    Args:
      key: the part of the checkpoint to take instead: a key, keys joined by dots, or a prefix.
      average: False prefers `state_dict` and `model` to the averages of training scripts.

    Raises:
      InputError: there is no such part, or a value is not an array; the message names what there
        is.
    """
    found = checkpoint if key is None else _part(checkpoint, key, average)
    for _ in range(_DEEPEST):
        found = _inner(found, average, warn=key is None) or found
    weights = {name: value for name, value in found.items() if name != AVERAGED}
    strange = [
        str(name)
        for name, value in weights.items()
        if not (isinstance(name, str) and hasattr(value, "shape"))
    ]
    if strange or not weights:
        shown = ", ".join(strange[:_LISTED]) + (", ..." if len(strange) > _LISTED else "")
        raise InputError(
            f"expected a state dict of arrays, or one under {', '.join((*NESTED, *AVERAGES))}, but "
            f"found {shown or 'nothing'}{_choice(checkpoint)}"
        )
    weights = with_torch_keys(_without_wrappers(weights))
    return {OLD_DENSE_KEY.sub(r"\1\2", name): _array(value) for name, value in weights.items()}


def strip_prefix(state_dict: Mapping[str, Any], known: str) -> dict[str, Any]:
    """Remove from all keys the prefix that they share, such as `backbone.`.

    Args:
      known: a key without the prefix. If it has none, or not every key has it, nothing changes.
    """
    words = [key.split(".") for key in state_dict]
    prefix = ""
    for word, other in zip(min(words), max(words), strict=False):
        if prefix + known in state_dict or word != other:
            break
        prefix += f"{word}."
    if prefix + known not in state_dict:
        return dict(state_dict)
    return {key.removeprefix(prefix): value for key, value in state_dict.items()}


def contents(keys: Iterable[str]) -> str:
    """Return the first words of the keys of a state dict, each with the number of its arrays."""
    counts = Counter(key.partition(".")[0] for key in keys)
    shown = [f"{count} under {word}" for word, count in counts.most_common(_LISTED)]
    more = [f"{len(counts) - _LISTED} more"] if len(counts) > _LISTED else []
    return ", ".join(shown + more)


def _inner(found: Mapping[str, Any], average: bool, warn: bool) -> Mapping[str, Any] | None:
    """Return the state dict that is nested in a dict; None if the dict may be one itself."""
    raw, averaged = (
        next((key for key in keys if isinstance(found.get(key), Mapping) and found[key]), None)
        for keys in (NESTED, AVERAGES)
    )
    if raw is not None and averaged is not None and average and warn:
        warnings.warn(
            f"the checkpoint has averaged weights under {averaged}, which are used, and raw ones "
            f"under {raw} (key={raw!r}, --key {raw})",
            stacklevel=4,
        )
    chosen = (averaged or raw) if average else (raw or averaged)
    if chosen is None and not any(hasattr(value, "shape") for value in found.values()):
        dicts = _state_dicts(found)
        chosen = next(iter(dicts)) if len(dicts) == 1 else None
        return None if chosen is None else _at(found, chosen)
    return None if chosen is None else found[chosen]


def _part(checkpoint: Mapping[str, Any], key: str, average: bool) -> Mapping[str, Any]:
    """Return the part of a checkpoint that a key names, or a prefix inside its state dict."""
    found = checkpoint
    for _ in range(_DEEPEST):
        if (part := _at(found, key)) is not None:
            return part
        found = _inner(found, average, warn=False) or found
    raise InputError(f"the checkpoint has no part {key!r}{_choice(checkpoint)}")


def _at(found: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return the dict under a key, under keys joined by dots, or the arrays with a prefix."""
    if isinstance(found.get(key), Mapping):
        return found[key]
    for name, inner in found.items():
        inside = isinstance(inner, Mapping) and key.startswith(f"{name}.")
        if inside and (part := _at(inner, key.removeprefix(f"{name}."))) is not None:
            return part
    prefix = f"{key}."
    for arrays in (found, _without_wrappers(found)):
        named = {k.removeprefix(prefix): v for k, v in arrays.items() if str(k).startswith(prefix)}
        if named:
            return named
    return None


def _state_dicts(found: Mapping[str, Any], inside: str = "") -> dict[str, int]:
    """Return how many arrays each dict of arrays has, by its keys joined by dots."""
    counts = {}
    for name, inner in found.items():
        if isinstance(name, str) and isinstance(inner, Mapping):
            if inner and all(hasattr(value, "shape") for value in inner.values()):
                counts[inside + name] = len(inner)
            elif inside.count(".") < _DEEPEST:
                counts |= _state_dicts(inner, f"{inside}{name}.")
    return counts


def _choice(checkpoint: Mapping[str, Any]) -> str:
    """Return the end of an error message: the parts that `key` can name."""
    counts = _state_dicts(checkpoint)
    if counts:
        listed = [f"{name} ({count} arrays)" for name, count in counts.items()]
        listed = listed[:_LISTED] + ["..."] * (len(listed) > _LISTED)
        return f". Name one of its dicts by key= (--key): {', '.join(listed)}"
    arrays = [str(name) for name, value in checkpoint.items() if hasattr(value, "shape")]
    return f". It has {contents(arrays)}" if arrays else ""


def _without_wrappers(weights: Mapping[str, Any]) -> dict[str, Any]:
    weights = dict(weights)
    while prefix := next((p for p in PREFIXES if _all_begin(weights, p)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _all_begin(weights: Mapping[str, Any], prefix: str) -> bool:
    return bool(weights) and all(str(key).startswith(prefix) for key in weights)


def _array(value: Any) -> np.ndarray:
    """Return a numpy array, jax array or tensor as a numpy array, without importing torch."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # numpy itself has no bfloat16, and torch does not convert to that of ml_dtypes.
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)
