"""Convert torch state dicts to Flax variables and back.

Module paths are the same in both, so only the last word of a key and the order of axes change:

| torch                           | Flax                    | axes                     |
|---------------------------------|-------------------------|--------------------------|
| `weight` (4 axes)               | `params` `kernel`       | OIHW -> HWIO             |
| `weight` (3 axes)               | `params` `kernel`       | OIW -> WIO               |
| `weight` (2 axes)               | `params` `kernel`       | transposed               |
| `weight` (1 axis)               | `params` `scale`        |                          |
| `bias`, `tau`, `v`              | the same in `params`    |                          |
| `running_mean`, `running_var`   | `batch_stats` `mean`, `var` |                      |
| `num_batches_tracked`           | none: not needed at a fixed momentum; written as 0 ||
"""

import warnings
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from flax_resnet.errors import InputError
from flax_resnet.models.layers import BatchNorm
from flax_resnet.models.variables import part_of, to_layout, unrolled, variable_shapes
from flax_resnet.weights.adapt import add_missing, fit_first_convolution, leave_out_head
from flax_resnet.weights.checkpoint import contents, strip_prefix, unwrap

TORCH_LEAF = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "tau": "tau",
    "v": "v",
    "mean": "running_mean",
    "var": "running_var",
}
COUNTER = "num_batches_tracked"
# torch axes of a kernel -> Flax axes, by number of axes; and back
TO_FLAX = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}
TO_TORCH = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}
# The most arrays that an error names, and the most problems that it lists one by one.
_NAMED, _LISTED = 3, 10


def torch_key(path: tuple[str, ...]) -> str:
    """Return the torch key of a Flax leaf, given its path without the collection."""
    return ".".join((*path[:-1], TORCH_LEAF[path[-1]]))


def from_torch(model: nn.Module, state_dict: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """Convert a torch state dict to the variables of `model`.

    A first convolution with another number of channels is adapted (see `adapt_channels`). A head
    for another number of classes is dropped with a warning, and initialized from `seed` instead. A
    model without classes has no head.

    Args:
      state_dict: maps keys to numpy arrays (or anything that `numpy.asarray` accepts). It can be
        nested in a checkpoint, and all keys can have the same prefix, such as `module.backbone.`.

    Returns:
      `{"params": ..., "batch_stats": ...}` of numpy arrays with the given dtypes.

    Raises:
      InputError: keys are missing, unexpected or of another shape; the message lists them, or the
        first of each kind.
    """
    paths = {
        torch_key(path[1:]): (path, _torch_shape(path, leaf.shape))
        for path, leaf in traverse_util.flatten_dict(variable_shapes(unrolled(model))).items()
    }
    shapes = {key: shape for key, (_, shape) in paths.items()}
    unwrapped = strip_prefix(unwrap(state_dict), first_key(model))
    given = {key: value for key, value in unwrapped.items() if not key.endswith(COUNTER)}
    given = fit_first_convolution(given, shapes, model)
    given, fresh, warning = leave_out_head(given, shapes, model)
    problems = {
        "missing: ": [key for key in shapes if key not in given and key not in fresh],
        "unexpected: ": [key for key in given if key not in shapes],
        "shape of ": [
            f"{key}: found {value.shape}, expected {shapes[key]}"
            for key, value in given.items()
            if key in shapes and value.shape != shapes[key]
        ],
    }
    if count := sum(map(len, problems.values())):
        raise InputError(
            f"the state dict does not fit the model ({count} problems):\n  "
            + "\n  ".join(_listed(problems, shapes, unwrapped))
        )
    if warning:
        warnings.warn(warning, stacklevel=3)
    leaves = {paths[key][0]: _to_flax(paths[key][0], value) for key, value in given.items()}
    variables = dict(traverse_util.unflatten_dict(leaves))
    return to_layout(model, add_missing(unrolled(model), variables, seed) if fresh else variables)


def first_key(model: Any) -> str:
    """Return the torch key of the kernel of a model's first convolution."""
    return f"{getattr(model, 'first_conv', None)}.weight"


def _listed(
    problems: Mapping[str, list[str]],
    shapes: Mapping[str, tuple[int, ...]],
    state_dict: Mapping[str, np.ndarray],
) -> list[str]:
    """Return a line for each problem; if there are many, for each kind, and for what there is."""
    lines = [kind + problem for kind, found in problems.items() for problem in found]
    if len(lines) <= _LISTED:
        return lines
    axes = {key: array.ndim for key, array in state_dict.items()}
    axes |= {key: len(shape) for key, shape in shapes.items()}
    lines = []
    for kind, found in problems.items():
        # Kernels tell more of a network than norms do.
        first = sorted(found, key=lambda problem: axes[problem.partition(":")[0]] < 2)[:_NAMED]
        more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
        lines += [kind + "; ".join(first + more)] if found else []
    return [
        *lines,
        f"found: {contents(state_dict)}. Name the network that they are for by model=, or the part "
        "to take by key= (--key)",
    ]


def check_finite(variables: Mapping[str, Any], what: str) -> None:
    """Raise `InputError` if weights are nan or infinite, or variances negative.

    XLA's rectifier and mean turn nan into zero, so that the outputs of such a network look like
    those of any other.

    Args:
      what: has these variables, for the message.
    """
    wrong = []
    leaves = traverse_util.flatten_dict(dict(variables))
    for path, leaf in sorted(leaves.items(), key=_from_input_to_output):
        array = np.asarray(leaf)
        bad, reason = ~np.isfinite(array), "not finite"
        if path[-1] == "var" and not bad.any():  # its root would be nan
            bad, reason = array <= -BatchNorm.epsilon, "negative"
        if bad.any():
            wrong.append(f"{torch_key(path[1:])} ({bad.sum()} of {bad.size} numbers are {reason})")
    if wrong:
        shown = ", ".join(wrong[:_NAMED]) + (", ..." if len(wrong) > _NAMED else "")
        raise InputError(
            f"{what} has {len(wrong)} of {len(leaves)} arrays that no network can use: {shown}. "
            "Use an earlier checkpoint, or another copy of the file"
        )


def _from_input_to_output(item: tuple[tuple[str, ...], Any]) -> tuple[int, tuple[str, ...]]:
    path = item[0][1:]
    return {"stem": 0, "head": 2}.get(part_of(path), 1), path


def to_torch(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert variables of `model` to a torch state dict of contiguous numpy arrays.

    This is the exact inverse of `from_torch`. After `torch.from_numpy` on each value,
    `load_state_dict(strict=True)` accepts it.

    Raises:
      InputError: the variables do not fit `model`.
    """
    model = unrolled(model)
    expected = traverse_util.flatten_dict(variable_shapes(model))
    leaves = traverse_util.flatten_dict(to_layout(model, jax.device_get(dict(variables))))
    differing = sorted("/".join(path) for path in expected.keys() ^ leaves.keys())
    differing += [
        "/".join(p) for p in expected.keys() & leaves.keys() if expected[p].shape != leaves[p].shape
    ]
    if differing:
        raise InputError(
            "the variables do not fit the model; they differ in " + ", ".join(differing)
        )
    state_dict = {}
    for path, leaf in leaves.items():
        array = np.asarray(leaf)
        kernel = _is_kernel(path)
        state_dict[torch_key(path[1:])] = np.ascontiguousarray(
            array.transpose(TO_TORCH[array.ndim]) if kernel else array
        )
        if path[-1] == "mean":
            state_dict[".".join((*path[1:-1], COUNTER))] = np.zeros((), np.int64)
    return state_dict


def _is_kernel(path: tuple[str, ...]) -> bool:
    return path[-1] == "kernel"


def _to_flax(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    return array.transpose(TO_FLAX[array.ndim]) if _is_kernel(path) else array


def _torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if not _is_kernel(path):
        return shape
    return tuple(shape[axis] for axis in TO_TORCH[len(shape)])
