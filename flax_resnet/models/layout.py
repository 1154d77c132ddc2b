"""The two layouts of a network's variables: every block by itself, or equal blocks stacked."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flax_resnet.models.shapes import variable_shapes
from flax_resnet.models.stages import SCAN


def scans(model: Any) -> bool:
    """Say whether the network, or the encoder in it, has its equal blocks stacked."""
    encoder = getattr(model, "encoder", None)
    return getattr(model, "scan_blocks", False) or (encoder is not None and scans(encoder))


def unrolled(model: Any) -> Any:
    """Return the network with all its blocks one by one."""
    if not scans(model):
        return model
    if hasattr(model, "encoder"):
        return model.clone(encoder=unrolled(model.encoder))
    return model.clone(scan_blocks=False)


def to_layout(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables, or gradients, in the layout of `model`: unrolled or scanned.

    Both hold the same numbers: block `k` of a stage is entry `k - 1` of its `scan`. Leaves that
    are none of the model's stay as they are.
    """
    leaves = _unroll(traverse_util.flatten_dict(dict(variables)))
    if not scans(model):
        return dict(traverse_util.unflatten_dict(leaves))
    result: dict[tuple[str, ...], Any] = {}
    for path, shape in traverse_util.flatten_dict(variable_shapes(model)).items():
        if SCAN not in path:
            continue
        members = [_numbered(path, number + 1) for number in range(shape.shape[0])]
        if all(member in leaves for member in members):
            result[path] = _stack([leaves.pop(member) for member in members])
    return dict(traverse_util.unflatten_dict(result | leaves))


def _unroll(leaves: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    result: dict[tuple[str, ...], Any] = {}
    for path, leaf in leaves.items():
        if SCAN in path:
            result |= {_numbered(path, number): part for number, part in enumerate(leaf, 1)}
        else:
            result[path] = leaf
    return result


def _numbered(path: tuple[str, ...], number: int) -> tuple[str, ...]:
    return tuple(str(number) if name == SCAN else name for name in path)


def _stack(leaves: list[Any]) -> Any:
    return np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves)
