"""A network's variables: their shapes, the part that each belongs to, and their two layouts."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flax_resnet.errors import InputError

SCAN = "scan"  # the name of the scanned blocks, whose variables are stacked
_PARTS = [
    (r"conv1|bn1|maxpool|stem|features\.(?:conv|norm)[012]", "stem"),
    (r"bottleneck", "bottleneck"),
    (r"(?:up|dec)(?P<number>\d+)", "decoder"),
    (r"enc(?P<number>\d+)", "layer"),
    (r"layer(?P<number>\d+)", "layer"),
    (r"features\.(?:denseblock|transition)(?P<number>\d+)", "layer"),
    (r"stages\.(?P<index>\d+)", "layer"),
]


def variable_shapes(model: nn.Module, images: jax.ShapeDtypeStruct | None = None) -> dict[str, Any]:
    """Return the shapes and dtypes of the variables of `model`, without computing them.

    Args:
      images: a batch, for networks that do not say which images they take.
    """
    images = images or example_images(model)
    return dict(jax.eval_shape(model.init, jax.random.key(0), images))


def example_images(model: Any, image_size: int | None = None) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a batch of one image, by default of the model's image size."""
    size = image_size or getattr(model, "image_size", 224)
    return jax.ShapeDtypeStruct((1, size, size, getattr(model, "in_channels", 3)), jnp.float32)


def require_features(model: nn.Module) -> None:
    """Raise `InputError` unless a network has the method `features`, as those of this package."""
    if not hasattr(model, "features"):
        raise InputError(
            f"{type(model).__name__} has no method features(images); expected one that returns the "
            "maps of stages by name"
        )


def part_of(path: Iterable[str]) -> str:
    """Return the part that a variable or module belongs to: `stem`, `layer1`, ... or `head`.

    A `UNet` has no stem, but `bottleneck` and `decoder4` ... `decoder1` between its last layer and
    its head. The parts of an `encoder` inside another network keep their names.
    """
    key = ".".join(path).removeprefix("encoder.")
    for pattern, part in _PARTS:
        match = re.match(rf"(?:{pattern})(?:\.|$)", key)
        if match:
            found = match.groupdict()
            return part + (found.get("number") or str(int(found["index"]) + 1) if found else "")
    return "head"


def selected(pattern: str, path: Iterable[str]) -> bool:
    r"""Return whether a regular expression matches the part of `path`, or the start of `path`.

    `stem|layer[12]` selects the same layers in every family; `layer3.0` or `.*\.bn1` select by
    published key. The empty pattern selects nothing.
    """
    path = tuple(path)
    if not pattern:
        return False
    return any(
        re.match(rf"(?:{pattern})(?:\.|$)", name) for name in (part_of(path), ".".join(path))
    )


def scans(model: Any) -> bool:
    """Return whether the network, or its encoder, stacks the variables of equal blocks."""
    encoder = getattr(model, "encoder", None)
    return getattr(model, "scan_blocks", False) or (encoder is not None and scans(encoder))


def unrolled(model: Any) -> Any:
    """Return the same network with unrolled blocks."""
    if not scans(model):
        return model
    if hasattr(model, "encoder"):
        return model.clone(encoder=unrolled(model.encoder))
    return model.clone(scan_blocks=False)


def to_layout(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables, or gradients, in the layout of `model`: unrolled or scanned.

    Both contain the same numbers: block `k` of a stage is entry `k - 1` of its `scan`. Leaves that
    do not belong to the model are unchanged.
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
