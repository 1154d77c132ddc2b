"""Groups of parameters: decayed, frozen, matrices, and parts by depth."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from flax_resnet.errors import InputError
from flax_resnet.models import variable_shapes
from flax_resnet.models.variables import SCAN, part_of, selected


def decay_mask(params: Any) -> Any:
    """Return a mask of the parameters with weight decay: kernels, without biases and norms."""
    # By name, not by rank: in scanned blocks the vectors of a norm are stacked to a matrix.
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def matrix_mask(params: Any) -> Any:
    """Return a mask of the kernels outside the head that are matrices, inputs by outputs.

    The inputs of a convolution are height x width x channels. The kernel of an ECA gate, which all
    channels share, is a vector.
    """

    def is_matrix(path: Any, leaf: jax.Array) -> bool:
        names = [key.key for key in path]
        axes = leaf.ndim - is_stacked(path)
        return names[-1] == "kernel" and part_of(names) != "head" and axes in (2, 4)

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def is_stacked(path: Any) -> bool:
    """Return whether the array at `path` has a leading axis over scanned blocks."""
    return any(key.key == SCAN for key in path)


def depths(params: Any) -> Any:
    """Return how many parts (stem, layer1, ..., head) are between each parameter and the output."""
    names = jax.tree_util.tree_map_with_path(
        lambda path, _: part_of(key.key for key in path), params
    )
    parts = sorted(set(jax.tree.leaves(names)), key=_place)
    return jax.tree.map(lambda name: len(parts) - 1 - parts.index(name), names)


def _place(part: str) -> tuple[int, int]:
    name, number = part.rstrip("0123456789"), part[len(part.rstrip("0123456789")) :]
    order = ("stem", "layer", "bottleneck", "decoder", "head")
    # Decoders are numbered down towards the output.
    return order.index(name), int(number or 0) * (-1 if name == "decoder" else 1)


def freeze_parameters(
    optimizer: optax.GradientTransformation, pattern: str, steps: int | None = None
) -> optax.GradientTransformation:
    """Return `optimizer` with the parameters that match `pattern` frozen.

    Frozen parameters have no weight decay either, and no optimizer state.

    Args:
      steps: the number of updates after which frozen parameters train as well; None: never.
    """
    if not pattern or steps == 0:
        return optimizer
    if steps is not None:
        return _hide(optimizer, pattern, steps)

    def labels(params: Any) -> Any:
        def label(path: Any, leaf: Any) -> str:
            return "frozen" if selected(pattern, (key.key for key in path)) else "trained"

        return jax.tree_util.tree_map_with_path(label, params)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _hide(
    optimizer: optax.GradientTransformation, pattern: str, steps: int
) -> optax.GradientTransformation:
    """Show `optimizer` zeros for the parameters that match `pattern` in the first `steps` updates.

    Momentum, weight decay, the global gradient norm and trust ratios then are the same as without
    these parameters, while the schedule is that of the whole run.
    """

    def init(params: Any) -> Any:
        # `begin_at` finds this type and sets its count if a run goes on with a new optimizer.
        clock = optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))
        return clock, optimizer.init(params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        clock, inner = state

        def hide(tree: Any) -> Any:
            def zero(path: Any, leaf: jax.Array) -> jax.Array:
                chosen = selected(pattern, (key.key for key in path))
                return jnp.where(clock.count < steps, 0, leaf) if chosen else leaf

            return jax.tree_util.tree_map_with_path(zero, tree)

        updates, inner = optimizer.update(hide(updates), inner, hide(params))
        clock = clock._replace(count=optax.safe_increment(clock.count))
        return hide(updates), (clock, inner)

    return optax.GradientTransformation(init, update)


def check_pattern(name: str, pattern: str, model: Any, *, leaves_some: bool = False) -> None:
    """Raise `InputError` unless `pattern` matches some parameters of the model.

    Args:
      name: the name of the setting, for the message.
      leaves_some: also raise if it matches all parameters.
    """
    if not pattern:
        return
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{name} is {pattern!r}, which is not a regular expression: {error}"
        ) from None
    paths = list(traverse_util.flatten_dict(variable_shapes(model)["params"]))
    chosen = [path for path in paths if selected(pattern, path)]
    parts = ", ".join(sorted({part_of(path) for path in paths}))
    if not chosen:
        raise InputError(
            f"{name} is {pattern!r} and matches nothing; expected a pattern of parts ({parts}) "
            f"or of keys such as {'.'.join(paths[0][:-1])}"
        )
    if leaves_some and len(chosen) == len(paths):
        raise InputError(
            f"{name} is {pattern!r} and leaves nothing to train; the parts are {parts}"
        )
