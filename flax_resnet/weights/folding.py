"""Fold batch norms into the convolutions before them, for inference."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from flax_resnet.errors import InputError
from flax_resnet.models import Network, to_layout, variable_shapes
from flax_resnet.models.layers import BatchNorm, Conv
from flax_resnet.models.variables import example_images, unrolled

Path = tuple[str, ...]
# All batch norms of these networks have the default of `BatchNorm`.
EPSILON = BatchNorm.epsilon


def fold_batch_norm(model: Network, variables: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Return an equivalent model without batch statistics, and its variables.

    A norm after a convolution becomes part of its kernel and bias. A norm elsewhere, as in front of
    the convolutions of pre-activation and dense networks, becomes a scale and a shift. The result
    cannot be trained with batch norm again.

    Raises:
      InputError: the model has no batch norms.
    """
    if model.norm != "batch":
        raise InputError(
            f"the network has no batch norms to fold: its norm is {model.norm!r}, and only "
            "batch norms are fixed at inference"
        )
    model = unrolled(model)
    leaves = _leaves(to_layout(model, variables))
    behind, bare = _convolutions_by_norm(model), model.clone(norm="folded")
    # The first norm of a pre-activation network follows the stem, which also feeds the sum.
    staying = _paths(variable_shapes(bare))
    folded = {path: leaf for path, leaf in leaves.items() if path[0] == "params"}
    for path in [path for path in leaves if path[-1] == "var"]:
        norm = path[1:-1]
        scale, shift = _scale_and_shift_of(leaves, norm)
        for name in ("scale", "bias"):
            del folded["params", *norm, name]
        if norm in behind and ("params", *norm, "scale") not in staying:
            conv = ("params", *behind[norm])
            kernel, bias = (*conv, "kernel"), (*conv, "bias")
            # `fc1` of split attention has a bias in front of its norm.
            folded[bias] = leaves.get(bias, 0.0) * scale + shift
            folded[kernel] = leaves[kernel] * scale
        else:
            folded |= {("params", *norm, "scale"): scale, ("params", *norm, "bias"): shift}
    dtypes = {path: leaf.dtype for path, leaf in leaves.items()}
    default = dtypes[next(iter(dtypes))]
    cast = {path: leaf.astype(dtypes.get(path, default)) for path, leaf in folded.items()}
    return bare, dict(traverse_util.unflatten_dict(cast))


def _leaves(variables: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    flat = traverse_util.flatten_dict(jax.device_get(variables))
    return {path: np.asarray(leaf) for path, leaf in flat.items()}


def _paths(variables: Mapping[str, Any]) -> set[Path]:
    return set(traverse_util.flatten_dict(variables))


def _scale_and_shift_of(
    leaves: Mapping[Path, np.ndarray], norm: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the shift equivalent to a norm at inference, in float64."""
    scale, bias = (leaves["params", *norm, name].astype(np.float64) for name in ("scale", "bias"))
    mean, var = (leaves["batch_stats", *norm, name].astype(np.float64) for name in ("mean", "var"))
    factor = scale / np.sqrt(var + EPSILON)
    return factor, bias - mean * factor


def _convolutions_by_norm(model: nn.Module) -> dict[Path, Path]:
    """Return the convolution before each norm whose input is the output of a convolution."""
    makers: dict[int, Path] = {}
    kept, found = [], {}

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module, result = context.module, call(*args, **kwargs)
        if isinstance(module, BatchNorm) and id(args[0]) in makers:
            found[module.path] = makers[id(args[0])]
        if isinstance(module, Conv):
            makers[id(result)] = module.path
            kept.append(result)  # otherwise another array could get its id
        return result

    shapes, images = variable_shapes(model), example_images(model)
    with nn.intercept_methods(watch):
        jax.eval_shape(model.apply, shapes, images)
    return found
