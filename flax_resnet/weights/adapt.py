"""Weights for another number of classes, or of input channels, than the model has."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return the kernel of a first convolution for another number of input channels.

    One channel gets the sum over all, so that a gray image has the same outputs as its copy in each
    channel. More channels repeat the given ones in turn, scaled so that outputs keep their scale.

    Args:
      kernel: (outputs, channels, height, width), the order of torch.
    """
    given = kernel.shape[1]
    if channels == given:
        return kernel
    if channels == 1:
        return kernel.sum(1, keepdims=True)
    return kernel[:, np.arange(channels) % given] * kernel.dtype.type(given / channels)


def fit_first_convolution(
    state_dict: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], model: Any
) -> dict[str, np.ndarray]:
    """Adapt the first kernel of a torch state dict to the input channels of the model.

    Args:
      shapes: the shapes in the model's own state dict.
    """
    key = f"{getattr(model, 'first_conv', None)}.weight"
    kernel, shape = state_dict.get(key), shapes.get(key, ())
    if kernel is None or kernel.ndim != 4 or len(shape) != 4:
        return dict(state_dict)
    if (kernel.shape[0], *kernel.shape[2:]) != (shape[0], *shape[2:]):
        return dict(state_dict)
    return {**state_dict, key: adapt_channels(kernel, shape[1])}


def leave_out_head(
    state_dict: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], model: Any
) -> tuple[dict[str, np.ndarray], set[str], str]:
    """Remove a head for another number of classes, or for no classes, from a torch state dict.

    Returns:
      The remaining state dict, the keys that need to be initialized, and a warning about them.
    """
    head = f"{getattr(model, 'head_name', None)}."
    own = {key for key in shapes if key.startswith(head)}
    given = {key for key in state_dict if key.startswith(head)}
    body = {key: value for key, value in state_dict.items() if key not in given}
    if not own:
        return body, set(), ""
    outputs, inputs = shapes[head + "weight"][0], shapes[head + "weight"][1:]
    found = state_dict[head + "weight"].shape if given >= own else ()
    if given and (found[1:] != inputs or found[0] == outputs):
        return dict(state_dict), set(), ""  # it fits, or the caller reports an error
    classes = found[0] if given else 0
    return (
        body,
        own,
        f"the weights are for {classes} classes and the model has {outputs}: its head is "
        "initialized at random and has to be trained",
    )


def add_missing(model: nn.Module, variables: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return `variables` with missing leaves taken from `model.init(jax.random.key(seed), ...)`.

    Under `jit` only the missing leaves are computed.

    Args:
      variables: variables of the model in its own layout, some of them missing.
    """
    given = traverse_util.flatten_dict(variables)
    size, channels = model.image_size, model.in_channels

    def missing(key: jax.Array) -> dict[tuple[str, ...], jax.Array]:
        fresh = traverse_util.flatten_dict(model.init(key, jnp.zeros((1, size, size, channels))))
        return {path: leaf for path, leaf in fresh.items() if path not in given}

    leaves = jax.device_get(jax.jit(missing)(jax.random.key(seed)))
    head = {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()}
    return dict(traverse_util.unflatten_dict({**given, **head}))
